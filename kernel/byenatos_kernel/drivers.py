"""The driver manager: which models are loaded, by which processes, and what happens when one dies.

It owns the units and their instances. Streams are the switchboard's: the manager tells it (:class:`UnitOwner`) when a
unit became ready, when an instance was lost with streams on it, and when a unit died for good.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from contextlib import ExitStack
from typing import Protocol

from byenatos_kernel.egress import Egress
from byenatos_kernel.grants import Grants
from byenatos_kernel.instances import FORGIVEN, Instance
from byenatos_kernel.link import quoted
from byenatos_kernel.memory_budget import MemoryBudget
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.units import CRASH_LIMIT, CRASH_WINDOW_S, KEPT, PRELOADED, Unit
from byenatos_sandbox import NotIsolated
from byenatos_sdk.protocol.control import DriverFailed, DriverRestarting, Event, InstanceChanged
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    DriverCrashed,
    InvalidRequest,
    Overloaded,
)
from byenatos_sdk.protocol.messages import InstanceState

__all__ = ["IN_CASE", "DriverManager", "UnitOwner"]

IN_CASE = (KEPT, PRELOADED)
"""How the reservations of units begin that are kept in case they are needed."""

STOP_GRACE_S = 3.0
SILENT_S = 0.35
DEAD_S = 2.0
BLOCKED_S = 10.0
SWEEP_S = 0.1


class UnitOwner(Protocol):
    """Who answers for the streams; the switchboard."""

    def deliver(self, instance: Instance, frames: list[bytes]) -> None:
        """Frames came from a driver."""

    def unit_ready(self, unit: Unit, instance: Instance) -> None:
        """New streams may go to ``instance``."""

    def instance_lost(self, unit: Unit, instance: Instance, error: DriverCrashed) -> None:
        """The process is gone; ``instance.streams`` need another place."""

    def unit_died(self, unit: Unit, error: ByenatosError) -> None:
        """Nothing will come of the unit; what waits for it needs another place."""


class DriverManager:
    """Loads models into driver processes, restarts what crashes, retires what nobody wants.

    Whoever keeps units that could go if need be (see :meth:`evictable`) adds a function to ``evictors``. It gives one
    up, so that it is let go, and returns whether it had one to give. For the models in ``claims`` room is being made.
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
        self.evictors: list[Callable[[], bool]] = []
        self.claims: list[ModelEntry] = []
        self.not_needed: Callable[[ModelEntry], list[Unit]] = lambda _: []
        """Which units nobody needs once there is room for a model, beside those that are kept in case."""
        self._budget = budget
        self.units: list[Unit] = []
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
        self._most_models = most_models
        self._unit_of: dict[Instance, Unit] = {}
        self._epoch = 0
        self._loop = asyncio.get_running_loop()
        self._swept_at = self._loop.time()
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)
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

    @property
    def full(self) -> bool:
        """Whether as many models are loaded as may be."""
        return len(_counted(unit for unit in self.units if unit.sockets is None)) >= self._most_models

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
            Overloaded: as many models as allowed are loaded, or memory does not suffice; :meth:`make_room` may help.
            NotFound, Unavailable: the model's driver is missing or refused.
            InvalidRequest: the manifest or the operator's files ask for what no sandbox can be granted.
        """
        counts = self._registry.plugin_for(model)
        plugin = plugin or counts
        if lack := self.lack(model, overlap=overlap):
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
            Overloaded, NotFound, Unavailable, InvalidRequest: as :meth:`make_room` and :meth:`load`.
        """
        unit = self.living(model.id, but)
        if unit is None:
            self._registry.plugin_for(model)  # before anything makes room for it
            await self.make_room(model, overlap=overlap, patient=patient)
            unit = self.living(model.id, but)  # somebody else may have loaded it meanwhile
        return unit or self.load(model, supervised=supervised, overlap=overlap, plugin=plugin)

    def lack(self, model: ModelEntry, *, overlap: int = 0, without: Container[Unit] = ()) -> str:
        """Say why there is no room for one more process of ``model``; empty if there is.

        ``without``: as if these units were gone.
        """
        models = [unit for unit in self.units if unit.sockets is None]
        units = [unit for unit in models if unit not in without]
        claims = [claimed for claimed in self.claims if claimed is not model]
        loaded = _counted(units) | {claimed.id for claimed in claims}
        if model.id not in loaded and len(loaded) >= self._most_models + overlap:
            return (
                f"{len(loaded)} models are loaded ({', '.join(sorted(loaded))}) and max_concurrent_models is "
                f"{self._most_models}; unload one or raise it"
            )
        if self._budget is None:
            return ""
        nurseries = self._grants.nurseries
        return self._budget.lack(
            model,
            [unit for unit in units if not unit.dead or unit.instance is not None],
            gone=[unit for unit in models if unit in without],
            claims=claims,
            kept_bytes=nurseries.idle_bytes if nurseries is not None else 0,
        )

    def evictable(self, model: ModelEntry) -> list[Unit]:
        """The units that make room for ``model``: those that somebody keeps in case, and those that it replaces.

        Reservations are the names in ``Unit.slots`` that stand in parentheses; those of such a unit begin with one of
        ``IN_CASE``. It is given up where its room is needed. What a swap keeps to be rolled back to does not count
        against ``max_concurrent_models``.
        """
        unneeded = [unit for unit in self.units if unit.slots and not (unit.pinned or unit.leaving)]
        in_case = [unit for unit in unneeded if all(name.startswith(IN_CASE) for name in unit.slots)]
        return [*in_case, *self.not_needed(model)]

    async def make_room(
        self, model: ModelEntry, *, overlap: int = 0, patient: bool = False, without: Sequence[Unit] = ()
    ) -> None:
        """Have room for one more process of ``model``, by giving up what is only kept in case.

        Idle templates go first, then what the ``evictors`` give; what is being stopped already is waited for. Nothing
        goes in vain: if all that could go would not suffice, nothing is given up. ``patient``: what leaves once its
        requests have ended is waited for, too. ``without``: as if these units were gone.

        Raises:
            Overloaded: that does not suffice, with all figures.
        """
        nurseries = self._grants.nurseries
        while lack := self.lack(model, overlap=overlap, without=without):
            stopping = [
                unit for unit in self.units if unit.leaving and (patient or not unit.busy) and unit not in without
            ]
            if stopping:
                await _first_gone(stopping)
            elif nurseries is not None and await nurseries.end_idle():
                continue
            elif self.lack(model, overlap=overlap, without=[*without, *self.evictable(model)]) or not self._evict(
                model
            ):
                raise Overloaded(lack)

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
        self._sweep_timer.cancel()
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
                self.degrade(instance, "the process is suspended (SIGSTOP)")

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

    def _evict(self, model: ModelEntry) -> bool:
        """Let one unit go that makes room for ``model``; return whether there was one."""
        if any(evict() for evict in self.evictors):
            return True
        for unit in self.not_needed(model)[:1]:
            unit.slots.clear()
            self.release(unit)
            return True
        return False

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
            unit.die(
                DriverCrashed(
                    f"{crash.message}\n{CRASH_LIMIT} crashes in {CRASH_WINDOW_S:.0f} s: quarantined; "
                    f"`byenatos models load {unit.model.id}` tries again"
                )
            )
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

    # ---- heartbeats --------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Look for instances that fell silent. A kernel that was itself held up forgives the time that it lost."""
        now = self._loop.time()
        late = now - self._swept_at - SWEEP_S
        self._swept_at = now
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)
        for instance in self.instances:
            instance.strays = 0
            instance.wasted_s *= 1 - FORGIVEN
            if not (instance.serving or instance.state is InstanceState.DRAINING):
                continue
            if late > SWEEP_S:
                instance.last_seen += late
            silent = now - instance.last_seen
            if silent > DEAD_S:
                instance.fail(f"hung: no heartbeat for {silent:.1f} s")
            elif instance.loop_age_s > BLOCKED_S and instance.streams:
                instance.fail(f"hung: its event loop has been blocked for {instance.loop_age_s:.0f} s")
            elif silent > SILENT_S:
                self.degrade(instance, f"no heartbeat for {silent * 1000:.0f} ms")
            elif instance.recovered:
                instance.advance(InstanceState.READY)

    def degrade(self, instance: Instance, detail: str) -> None:
        """Note that an instance is not well; it goes on serving, and is ready again once it is heard of and healthy."""
        instance.degraded_at = self._loop.time()
        if instance.state is InstanceState.READY:
            instance.advance(InstanceState.DEGRADED, detail)


def _counted(units: Iterable[Unit]) -> set[str]:
    """The models that count against ``max_concurrent_models``: not those on their way out, dead or spare."""
    return {unit.model.id for unit in units if not (unit.leaving or unit.dead or unit.spare)}


async def _first_gone(units: list[Unit]) -> None:
    """Wait until one of them is gone."""
    waits = [asyncio.ensure_future(unit.gone.wait()) for unit in units]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
