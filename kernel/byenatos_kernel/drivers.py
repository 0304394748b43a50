"""The driver manager: which models are loaded, by which processes, and what happens when one dies.

It owns the units and their instances. Streams are the switchboard's: the manager tells it (:class:`UnitOwner`) when a
unit became ready, when an instance was lost with streams on it, and when a unit died for good.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack

from byenatos_kernel.egress import Egress
from byenatos_kernel.grants import Grants
from byenatos_kernel.heartbeats import Heartbeats
from byenatos_kernel.instances import Instance
from byenatos_kernel.link import quoted
from byenatos_kernel.memory_budget import MemoryBudget
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.room import Room
from byenatos_kernel.unit_owner import UnitOwner
from byenatos_kernel.units import CRASH_LIMIT, CRASH_WINDOW_S, Unit
from byenatos_sandbox import NotIsolated
from byenatos_sdk.protocol.control import DriverFailed, DriverRestarting, Event, InstanceChanged
from byenatos_sdk.protocol.errors import ByenatosError, DriverCrashed, InvalidRequest, Overloaded
from byenatos_sdk.protocol.messages import InstanceState

__all__ = ["DriverManager"]

STOP_GRACE_S = 3.0


class DriverManager:
    """Loads models into driver processes, restarts what crashes, retires what nobody wants.

    ``room`` says whether there is any for a further one, ``heartbeats`` which of them fell silent.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        grants: Grants,
        publish: Callable[[Event], None],
        *,
        most_models: int,
        budget: MemoryBudget | None = None,
    ) -> None:
        self.units: list[Unit] = []
        self.room = Room(self.units, grants.nurseries, most_models, budget, self.release)
        self.heartbeats = Heartbeats(lambda: self.instances)
        self.owner: UnitOwner | None = None
        self.on_lost: list[Callable[[Unit], None]] = []
        """Who is told that a process of a unit died unexpectedly, before its streams are given another place."""
        self.egress: Egress | None = None
        self.on_ready: Callable[[Unit], None] = lambda _: None
        self.on_room: Callable[[], None] = lambda: None
        """Is told whenever a unit is gone, and with it what it took of the memory and of the models' number."""
        self._registry = registry
        self._grants = grants
        self._publish = publish
        self._unit_of: dict[Instance, Unit] = {}
        self._epoch = 0
        self._loop = asyncio.get_running_loop()
        self._closing = False

    @property
    def instances(self) -> list[Instance]:
        """Every instance whose process may still exist, oldest first."""
        return list(self._unit_of)

    def unit_of(self, instance: Instance) -> Unit:
        """The unit that ``instance``, whose process is not gone yet, belongs to."""
        return self._unit_of[instance]

    def find(self, model: str, but: Collection[Unit] = ()) -> Unit | None:
        """The unit that serves ``model``, is not on its way out and none of ``but``.

        One that is ready comes before one that is not, a spare one last, and one that a slot is bound to before one
        that it has left.
        """
        mine = [unit for unit in self.units if unit.model.id == model and not unit.leaving and unit not in but]
        return min(mine, key=lambda unit: (unit.ready is None, unit.spare, not unit.bound), default=None)

    def living(self, model: str, but: Collection[Unit] = ()) -> Unit | None:
        """Like :meth:`find`; a unit of which nothing will come any more is forgotten, so that it can be loaded anew."""
        unit = self.find(model, but)
        if unit is not None and unit.dead:
            self.drop(unit)
            return None
        return unit

    def load(
        self,
        model: ModelEntry,
        *,
        supervised: bool = False,
        overlap: int = 0,
        background: bool = False,
        plugin: PluginEntry | None = None,
    ) -> Unit:
        """Start a unit for ``model``.

        ``overlap`` units more than ``max_concurrent_models`` are allowed, for the time that a swap needs both. Spare
        ones do not count. In the ``background`` its process loads with low priority. ``plugin`` is the version of the
        driver, if it is not to be the one that counts now.

        Raises:
            Overloaded: as many models as allowed are loaded, or memory does not suffice; :meth:`Room.make` may help.
            NotFound, Unavailable: the model's driver is missing or refused.
            InvalidRequest: the manifest or the operator's files ask for what no sandbox can be granted.
        """
        counts = self._registry.plugin_for(model)
        plugin = plugin or counts
        if lack := self.room.lack(model, overlap=overlap):
            raise Overloaded(lack)
        unit = Unit(model, plugin, self._grants.for_model(plugin, model), supervised=supervised)
        unit.background = background
        self.units.append(unit)
        self._start(unit)
        return unit

    async def obtain(
        self,
        model: ModelEntry,
        *,
        but: Collection[Unit] = (),
        overlap: int = 0,
        patient: bool = False,
        supervised: bool = False,
        plugin: PluginEntry | None = None,
    ) -> Unit:
        """The unit that serves ``model``, none of ``but``; it is loaded, once there is room, if nothing does.

        Raises:
            Overloaded, NotFound, Unavailable, InvalidRequest: as :meth:`Room.make` and :meth:`load`.
        """
        unit = self.living(model.id, but)
        if unit is None:
            self._registry.plugin_for(model)  # before anything makes room for it
            await self.room.make(model, overlap=overlap, patient=patient)
            unit = self.living(model.id, but)  # somebody else may have loaded it meanwhile
        return unit or self.load(model, supervised=supervised, overlap=overlap, plugin=plugin)

    def load_front(self, worker: ModelEntry, plugin: PluginEntry, sockets: Callable[[], list[socket.socket]]) -> Unit:
        """Start a unit for one worker of a front, which is no model; ``sockets`` makes what its processes are handed.

        Raises:
            InvalidRequest: the manifest or the operator's files ask for what no sandbox can be granted.
        """
        unit = Unit(worker, plugin, self._grants.for_model(plugin, worker), supervised=True)
        unit.pinned = True
        unit.sockets = sockets
        self.units.append(unit)
        self._start(unit)
        return unit

    def release(self, unit: Unit) -> None:
        """Let a unit go that neither a slot nor an operator wants: once its streams have ended it is stopped."""
        if unit.wanted or unit.leaving:
            return
        unit.leaving = True
        if unit.restart is not None:
            unit.restart.cancel()
            unit.restart = None
        if unit.instance is None or unit.dead:
            self._forget(unit)
        elif unit.instance.state is InstanceState.STARTING:
            unit.instance.retire(STOP_GRACE_S)
        elif unit.instance.serving:
            unit.instance.advance(InstanceState.DRAINING)
            self.stream_ended(unit.instance)
        # else it could not be launched: the loss of the instance is on its way and ends the unit

    def forget(self, model: ModelEntry) -> None:
        """Nobody will want the model again soon: what was kept to start it quickly goes as well."""
        if self._grants.nurseries is not None:
            self._grants.nurseries.forget(self._grants.name_of(model))

    def stream_ended(self, instance: Instance) -> None:
        """A stream left ``instance``: stop it if it was the last one of a draining instance."""
        if instance.state is InstanceState.DRAINING and not instance.streams:
            instance.retire(STOP_GRACE_S)

    async def close(self, grace_s: float) -> None:
        """Stop every process, by force after ``grace_s`` seconds; returns when all are gone."""
        self._closing = True
        self.heartbeats.close()
        for unit in self.units:
            if unit.restart is not None:
                unit.restart.cancel()
        stops = []
        for instance in self.instances:
            instance.retire(grace_s)
            if instance.process is not None:
                stops.append(instance.process.exited)
        if stops:
            await asyncio.wait(stops, timeout=grace_s)
        self.kill_all()
        if stops:
            await asyncio.wait(stops, timeout=1.0)

    def kill_all(self) -> None:
        """Kill every process at once."""
        for instance in self.instances:
            instance.fail("the kernel stopped")

    def child_stopped(self) -> None:
        """SIGCHLD came: mark instances that somebody suspended; their heartbeat decides what becomes of them."""
        for instance in self.instances:
            if instance.serving and instance.process is not None and instance.process.stopped():
                instance.degrade("the process is suspended (SIGSTOP)")

    # ---- InstanceOwner -----------------------------------------------------------------------------------------

    def instance_changed(self, instance: Instance) -> None:
        """Publish the new state."""
        self._publish(InstanceChanged(time.time(), instance.info))

    def instance_ready(self, instance: Instance) -> None:
        """The model is loaded: from now on its unit is kept alive."""
        unit = self._unit_of[instance]
        if unit.leaving:
            return
        unit.supervised = True
        unit.background = False
        unit.model.specification = instance.specification or unit.model.specification
        assert self.owner is not None
        self.owner.unit_ready(unit, instance)
        unit.announce_ready(instance)
        self.on_ready(unit)

    def instance_lost(self, instance: Instance, reason: str) -> None:
        """The process is gone: move its streams, then restart it, retire it, or give it up."""
        unit = self._unit_of.pop(instance)
        assert self.owner is not None
        lines = instance.last_output
        expected = instance.state is InstanceState.RETIRED
        if not expected and not self._closing:
            name = instance.manifest.plugin.id
            self._publish(DriverFailed(time.time(), instance.epoch, name, instance.model.id, reason, lines))
        crash = DriverCrashed(f"{instance.grant.name} {reason}{quoted(lines[-10:])}")
        if instance is unit.instance:
            unit.instance = None
        retry = self._plan(unit, instance, crash) if not expected and not self._closing else None
        if not expected and not self._closing:
            for told in self.on_lost:
                told(unit)
        self.owner.instance_lost(unit, instance, crash)
        if unit.leaving or self._closing:
            if not unit.dead:
                unit.die(crash)
            self._forget(unit)
        elif unit.dead:
            assert unit.error is not None
            self.owner.unit_died(unit, unit.error)
        elif retry is not None:
            self._publish(
                DriverRestarting(time.time(), unit.plugin.id, unit.model.id, round(retry, 3), len(unit.crashes))
            )

    # ---- private -----------------------------------------------------------------------------------------------

    def _plan(self, unit: Unit, instance: Instance, crash: DriverCrashed) -> float | None:
        """Decide what follows a crash: schedule a restart and return its delay, or let the unit die."""
        if unit.leaving:
            return None
        now = self._loop.time()
        if instance.unmade and not unit.cold:  # no fault of the model's: its process loads it itself
            unit.cold = True
            return self._schedule(unit, instance, now, 0.0)
        hopeless = isinstance(instance.error, InvalidRequest | NotIsolated)
        if not unit.supervised or hopeless:
            unit.die(instance.error or crash)
            return None
        delay = unit.back_off(now, warm=instance.preloaded)
        if delay is None:
            instance.advance(InstanceState.QUARANTINED, f"{CRASH_LIMIT} crashes in {CRASH_WINDOW_S:.0f} s")
            again = f"`byenatos models load {unit.model.id}` tries again"
            if unit.sockets is not None:
                again = "it starts again once its folder has changed, or with the next kernel"
            limit = f"{CRASH_LIMIT} crashes in {CRASH_WINDOW_S:.0f} s: quarantined"
            unit.die(DriverCrashed(f"{crash.message}\n{limit}; {again}"))
            return None
        return self._schedule(unit, instance, now, delay)

    def _schedule(self, unit: Unit, instance: Instance, now: float, delay: float) -> float:
        unit.last_failure = instance.detail
        unit.restarts += 1
        unit.restart_at = now + delay
        unit.restart = self._loop.call_later(delay, self._restart, unit)
        return delay

    def _restart(self, unit: Unit) -> None:
        unit.restart = None
        if not unit.leaving and not self._closing:
            self._start(unit)

    def _start(self, unit: Unit) -> None:
        assert self.owner is not None
        self._epoch += 1
        refused: ByenatosError | None = None
        try:
            unit.grant = self._grants.for_model(
                unit.plugin, unit.model
            )  # the rules may be others than at the last start
        except ByenatosError as error:
            refused = error
        instance = Instance(
            unit.plugin,
            unit.model,
            unit.grant,
            self._epoch,
            self,
            self.owner.deliver,
            time.time,
            self._grants.nurseries,
        )
        instance.restarts = unit.restarts
        unit.instance = instance
        self._unit_of[instance] = unit
        instance.advance(InstanceState.VERIFIED)
        try:
            if refused is not None:
                raise refused
            code = self._registry.shelf.load(unit.plugin)
            if self.egress is not None:
                instance.port = self.egress.open(instance.manifest, self._grants.closed_network(unit.plugin))
            with ExitStack() as ours:
                sockets = unit.sockets() if unit.sockets is not None else []
                for one in sockets:
                    ours.enter_context(one)
                instance.start(code, unit.file(), cold=unit.cold, sockets=sockets, background=unit.background)
        except ByenatosError as error:
            instance.error = error
            instance.advance(InstanceState.FAILED, error.message)
            reason = error.message.removeprefix(f"{unit.grant.name} ")
            self._loop.call_soon(self.instance_lost, instance, reason)

    def _forget(self, unit: Unit) -> None:
        if unit in self.units:
            self.units.remove(unit)
        if not unit.dead:
            unit.die(unit.unavailable(self._loop.time()))
        if unit.waiting and self.owner is not None:
            assert unit.error is not None
            self.owner.unit_died(unit, unit.error)
        unit.gone.set()
        if not self._closing:
            self.on_room()

    def drop(self, unit: Unit) -> None:
        """Forget a dead unit, so that its model may be loaded anew."""
        if unit.dead and unit.instance is None:
            self._forget(unit)
