"""The kernel: all parts put together, run until told to stop, stopped in order."""

import asyncio
import logging
import os
import signal

from byenatos_kernel import __version__
from byenatos_kernel.access import Access
from byenatos_kernel.arrivals import Arrivals
from byenatos_kernel.bus import Bus
from byenatos_kernel.clients import ClientState
from byenatos_kernel.config import Config
from byenatos_kernel.control import Control
from byenatos_kernel.database import Database
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.egress import Egress
from byenatos_kernel.enforcement import Enforcement
from byenatos_kernel.fronts import FrontManager
from byenatos_kernel.grants import Grants
from byenatos_kernel.health import HealthWatch
from byenatos_kernel.hibernation import Hibernation
from byenatos_kernel.hotswap import HotSwapManager
from byenatos_kernel.link import quoted
from byenatos_kernel.measurements import Measurements
from byenatos_kernel.memory_budget import MemoryBudget
from byenatos_kernel.model_files import Digests
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_kernel.offers import Offers
from byenatos_kernel.places import Places
from byenatos_kernel.plugins import PluginShelf
from byenatos_kernel.preloads import Preloads
from byenatos_kernel.pressure import Machine
from byenatos_kernel.profiles import Profiles
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.renewals import Renewals
from byenatos_kernel.routes import Routes
from byenatos_kernel.rules import Rules
from byenatos_kernel.session_homes import SessionHomes
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.sessions import SessionStore
from byenatos_kernel.shipped import shipped, swap_file
from byenatos_kernel.stand_ins import StandIns
from byenatos_kernel.supply import Supply
from byenatos_kernel.swap_policy import SwapPolicy, read_swap_policy
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.trigger_measures import TriggerMeasures
from byenatos_kernel.triggers import Triggers
from byenatos_kernel.turns import Turns
from byenatos_kernel.usage import UsageHistory
from byenatos_kernel.warm import WarmState
from byenatos_kernel.watched_file import WatchedFile
from byenatos_sandbox import Templates, memory, missing_layers
from byenatos_sandbox.broker import Broker
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import (
    DriverFailed,
    DriverRestarting,
    Event,
    InstanceChanged,
    ModelChanged,
    SwapAdvanced,
    TriggerFired,
)
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.frames import Call, Open

__all__ = ["Kernel"]

_PRELOADED = ("byenatos_sdk.runtime",)
"""What every driver's process has imported before it is made."""

DRAIN_S = 2.0
STOP_S = 1.5
FIRST_LOOK_S = 3.0

log = logging.getLogger("byenatos")


class Kernel:
    """All parts of a running kernel. Make it inside the event loop, then ``await run()``."""

    def __init__(
        self, home: Home, config: Config, access: Access, policy: SwapPolicy, broker: Broker | None = None
    ) -> None:
        self.home = home
        self._stopping = asyncio.Event()
        self._signals = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.database = Database(home.database)
        self.rules = Rules(home, access)
        self.policy = WatchedFile(policy, home.policies, lambda: swap_file(home), read_swap_policy)
        self.bus = Bus(home.socket, __version__)
        self.nurseries = Nurseries(Templates(_PRELOADED), access.templates)
        profiles = Profiles([home.policies / "sandbox", shipped("policies") / "sandbox"])
        grants = Grants(access, profiles, home.scratch, self.nurseries)
        self.shelf = PluginShelf(home, [shipped("plugins"), home.plugins], self.database)
        self.registry = ModelRegistry(self.shelf, home.models, grants, config, Digests(self.database), self._publish)
        self.drivers = DriverManager(
            self.registry,
            grants,
            self._publish,
            most_models=config.driver.max_concurrent_models,
            budget=MemoryBudget(lambda: self.policy.value),
        )
        self.egress = Egress(home, access, broker)
        self.enforcement = Enforcement(self.drivers, grants, self.egress)
        self.routes = Routes(self.drivers, self.registry)
        self.sessions = SessionStore(self.database)
        self.places = Places(self.drivers, self.routes)
        self.turns = Turns(self.sessions)
        self.warm = WarmState()
        self.states = SessionStates(self.warm, Hibernation(home.warm, home.warm_key))
        self.switchboard = Switchboard(self.places, self.routes, self.turns, self.bus, self.warm, self.states)
        clock = asyncio.get_running_loop().time
        self.measurements = Measurements(clock)
        arrivals = Arrivals(clock)
        self.trigger_measures = TriggerMeasures(
            self.measurements, arrivals, Machine(), lambda: self.switchboard.live, self.routes.slots, clock
        )
        self.swaps = HotSwapManager(
            self.database,
            self.registry,
            self.drivers,
            self.routes,
            self.switchboard,
            self._publish,
            lambda: self.policy.value,
            self.states,
            measurements=self.measurements,
        )
        self.triggers = Triggers(
            lambda: self.policy.value.triggers,
            self.trigger_measures,
            self.routes.slots,
            self.registry.models.__contains__,
            self.swaps.swap,
            self._publish,
            on=config.driver.auto_optimization,
            clock=clock,
        )
        history = UsageHistory(self.database, lambda name: name in self.registry.models)
        self.preloads = Preloads(
            self.drivers,
            self.registry,
            history,
            lambda: self.policy.value.preload,
            self.states,
            self.swaps.try_out,
            clock=clock,
        )
        self.supply = Supply(self.registry, self.drivers, self.routes, self.swaps, config.driver.fallback_model)
        self.renewals = Renewals(self.registry, self.drivers, self.routes, self.swaps, self.supply)
        self.offers = Offers(self.database, self.registry, self.drivers)
        self.stand_ins = StandIns(self.registry, self.drivers, lambda: self.policy.value)
        self.session_homes = SessionHomes(
            self.registry, self.drivers, self.routes, self.switchboard, self.swaps.conversations
        )
        self.fronts = FrontManager(config.fronts, access.clients, self.drivers, self.bus)
        self.health = HealthWatch(self.drivers, config.driver.health_check_interval)
        self.control = Control(self, (*config.not_in_force(), *missing_layers()))
        self.drivers.owner = self.switchboard
        self.drivers.egress = self.egress
        self.drivers.on_ready = self.offers.ready
        self.drivers.on_room = self.supply.room_made
        self.offers.used = lambda model: self.registry.in_use(model) or bool(self.routes.bound_to(model))
        self.drivers.room.evictors += [self.swaps.give_up_kept, self.preloads.give_up]
        self.places.fallback = self.supply.fallback
        self.places.way_back = self.swaps.probations.kept_by
        self.swaps.rollbacks.on_rolled_back = self.renewals.rolled_back
        self.places.stand_in = self.stand_ins.find
        self.drivers.room.not_needed = self.stand_ins.not_needed
        self.shelf.in_use = lambda: {unit.plugin.digest for unit in self.drivers.units}
        self.registry.in_use = lambda model: any(unit.model.id == model for unit in self.drivers.units)
        self.registry.on_removed = self.supply.removed
        self.registry.on_judged = self._judged
        self.registry.on_plugins = self.fronts.plugins_changed
        self.registry.on_scan = self._scanned
        self.rules.on_change = self._rules_changed
        self.switchboard.failover.on_left += [self.measurements.left, self.swaps.probations.left]
        self.switchboard.admissions.on_opened.append(arrivals.opened)
        self.switchboard.on_ended += [
            self.measurements.ended,
            self.swaps.probations.ended,
            history.ended,
            self.preloads.ended,
        ]
        self.bus.owner = self
        self._config = config

    async def run(self) -> None:
        """Serve until stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGCHLD, self.drivers.child_stopped)
        self.nurseries.templates.start()
        self.database.open()
        await self.swaps.recover(self._config.bindings)
        await self.offers.load()
        await self.registry.start()
        await self.supply.start()
        await self.session_homes.start()
        await self._look_at_files()
        self.bus.start()
        self.fronts.start()
        self.health.start()
        self.preloads.start()
        self.triggers.start(await self.swaps.history())
        memory.settle()
        log.info("kernel %s serves %s (pid %d)", __version__, self.home.endpoint, os.getpid())
        await self._stopping.wait()
        await self._close()
        signal.set_wakeup_fd(-1)  # the loop closes what this names before it lets go of it: a child may end in between

    def stop(self) -> None:
        """Drain and stop."""
        self._stopping.set()

    # ---- ClientOwner: what clients send ------------------------------------------------------------------------

    def hold(self) -> bool:
        """A drain of the bus begins."""
        return self.places.hold()

    def release(self) -> None:
        """A drain of the bus is over."""
        self.places.release()

    def open(self, client: ClientState, header: Open, body: bytes) -> None:
        """A request."""
        self.switchboard.open(client, header, body)

    def cancel(self, client: ClientState, number: int) -> None:
        """Stop a stream or a call."""
        if number in client.calls:
            self.control.cancel(client, number)
        else:
            self.switchboard.cancel(client, number)

    def pause(self, client: ClientState, number: int, *, on: bool) -> None:
        """Hold a stream back or let it go on."""
        self.switchboard.pause(client, number, on=on)

    def call(self, client: ClientState, header: Call, body: bytes) -> None:
        """A control method."""
        self.control.call(client, header, body)

    def gone(self, client: ClientState, error: ByenatosError) -> None:
        """The client left."""
        self.switchboard.client_gone(client, error)
        self.control.gone(client)

    # ---- private -----------------------------------------------------------------------------------------------

    async def _look_at_files(self) -> None:
        """Wait until the models that are there are known, at most a moment."""
        waiting = [asyncio.ensure_future(one) for one in (self.supply.wait_for_files(), self._stopping.wait())]
        await asyncio.wait(waiting, timeout=FIRST_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()

    def _judged(self, entry: ModelEntry) -> None:
        task = asyncio.get_running_loop().create_task(self._give(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give(self, entry: ModelEntry) -> None:
        await self.supply.judged(entry)
        await self.session_homes.judged(entry)

    def _scanned(self, changed: set[str] | None) -> None:
        self.rules.look(changed)
        self.policy.look(changed)

    def _rules_changed(self, access: Access) -> None:
        self.enforcement.enforce(access)
        self.fronts.adopt(access.clients)

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals > 1:
            log.warning("stopping at once")
            self.drivers.kill_all()
            os._exit(130)
        log.info("stopping; once more to stop at once")
        self.stop()

    async def _close(self) -> None:
        self.triggers.close()
        self.swaps.close()
        self.health.close()
        self.fronts.close()
        self.rules.close()
        self.policy.close()
        self.registry.close()
        self.offers.close()
        await self.switchboard.drain(DRAIN_S)
        self.stand_ins.close()
        await self.preloads.close()
        await self.drivers.close(STOP_S)
        await self.egress.close()
        self.nurseries.close()
        self.bus.close()
        self.database.close()
        log.info("stopped")

    def _publish(self, event: Event) -> None:
        _log_event(event)
        self.trigger_measures.happened(event)
        self.control.publish(event)


def _log_event(event: Event) -> None:
    if isinstance(event, DriverFailed):
        shown = quoted(event.last_output[-10:])
        log.warning("%s/%s (epoch %d) %s%s", event.driver, event.model, event.epoch, event.reason, shown)
    elif isinstance(event, DriverRestarting):
        log.warning("%s/%s starts again in %.1f s (crash %d)", event.driver, event.model, event.delay_s, event.crashes)
    elif isinstance(event, InstanceChanged):
        one = event.instance
        log.info("%s/%s (epoch %d, pid %d) is %s", one.driver, one.model, one.epoch, one.pid, one.state.value)
    elif isinstance(event, ModelChanged):
        log.info("model %s is %s %s", event.model.id, event.model.state, event.model.reason)
    elif isinstance(event, SwapAdvanced):
        swap = event.swap
        log.info("swap %d of %s to %s: %s %s", swap.id, swap.slot, swap.target, swap.state.value, swap.detail)
    elif isinstance(event, TriggerFired):
        done = "would swap" if event.dry_run else "could not swap" if event.problem else "swaps"
        log.info("trigger %s %s %s to %s %s", event.trigger, done, event.slot, event.model, event.problem)
