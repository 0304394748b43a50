"""The real parts of a kernel behind a wire that remembers, on scripted drivers, without processes or sockets."""

import asyncio
import itertools
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

from scripted_driver import ScriptedDriver

from byenatos_kernel import link
from byenatos_kernel.access import Access
from byenatos_kernel.clients import ClientState
from byenatos_kernel.config import Config
from byenatos_kernel.database import Database
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.grants import Grants
from byenatos_kernel.hotswap import HotSwapManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.measurements import Measurements
from byenatos_kernel.memory_budget import MemoryBudget
from byenatos_kernel.model_files import Digests
from byenatos_kernel.places import Places
from byenatos_kernel.plugins import PluginShelf
from byenatos_kernel.profiles import Profiles
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.renewals import Renewals
from byenatos_kernel.routes import Routes
from byenatos_kernel.session_homes import SessionHomes
from byenatos_kernel.sessions import SessionStore
from byenatos_kernel.shipped import shipped
from byenatos_kernel.stand_ins import StandIns
from byenatos_kernel.supply import Supply
from byenatos_kernel.swap_policy import SwapPolicy, SwapRules
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.turns import Turns
from byenatos_kernel.verdicts import Order, Report
from byenatos_kernel.verifier import carry_out
from byenatos_sandbox import Grant
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.frames import Open, encode
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, ModelSpecification, TextDelta, user

__all__ = ["FailingDatabase", "Rig", "Wire", "text_of"]

MODELS = ("a", "b", "c")
MANIFEST = """[plugin]
id = "scripted"
version = "1"
entry = "driver:Scripted"
[permissions]
model_files = ["*.toy"]
"""


def manifest(memory_mib: dict[str, int], declared: dict[str, str]) -> str:
    """The plugin's manifest, with what its models take of memory and further lines of their tables."""
    return MANIFEST + "".join(
        f'[[models]]\nid = "{model}"\nmemory_mib = {memory_mib.get(model, 0)}\n{declared.get(model, "")}\n'
        for model in MODELS
    )


async def _ask(order: Order) -> Report:
    """What the verifier's process does, without the process."""
    return carry_out(order)


class Wire:
    """Stands where the bus stands: every client reads at once, and what it read is kept, by client and stream."""

    def __init__(self) -> None:
        self.dirty: dict[ClientState, None] = {}
        self.flush_due = False
        self.heard: dict[ClientState, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))

    def schedule_flush(self) -> None:
        if not self.flush_due:
            self.flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        self.flush_due = False
        dirty, self.dirty = self.dirty, {}
        for client in dirty:
            while not client.gone and (client.dirty or client.control):
                for number, event in client.next_frame():
                    self.heard[client][number].append(event)


class FailingDatabase(Database):
    """A database whose disk is full while ``failing`` is set.

    With ``in_step`` the loop stands still while the thread works, so that what follows what does not depend on time.
    """

    failing = False
    in_step = False

    async def run(self, job: Any, *, durable: bool = True) -> Any:
        if self.failing:
            await asyncio.sleep(0)
            raise ByenatosError("the disk is full")
        if not self.in_step or self._thread is None:
            return await super().run(job, durable=durable)
        await asyncio.sleep(0)
        if self._thread is None:  # closed meanwhile, which it says
            return await super().run(job, durable=durable)
        outcome = _Outcome()
        self._jobs.put((job, outcome, None, durable))
        outcome.known.wait()
        await asyncio.sleep(0)
        if outcome.failure is not None:
            raise outcome.failure
        return outcome.result


class _Outcome:
    """Stands where the database's thread expects an event loop."""

    def __init__(self) -> None:
        self.known = threading.Event()
        self.result: Any = None
        self.failure: Exception | None = None

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, _resolve: Any, _future: None, result: Any, failure: Exception | None) -> None:
        self.result, self.failure = result, failure
        self.known.set()


class Rig:
    """A kernel's parts in ``folder``. Make it and use it inside the event loop."""

    def __init__(
        self,
        folder: Path,
        slots: dict[str, str],
        *,
        fallback: str | None = None,
        most_models: int = 9,
        config: Config | None = None,
        memory_mib: dict[str, int] | None = None,
        declared: dict[str, str] | None = None,
        lifecycle: str = "",
    ) -> None:
        home = Home(folder)
        home.create()
        home.access.write_text("[plugins]\nunsigned = true\n")
        plugin = home.plugins / "scripted"
        plugin.mkdir(exist_ok=True)
        text = manifest(memory_mib or {}, declared or {})
        (plugin / "plugin.toml").write_text(f"{text}[lifecycle]\n{lifecycle}\n")
        self.slots = slots
        self.drivers_made: list[ScriptedDriver] = []
        self.obedient = True
        self.probe_reply = encode(ProbeResult(ModelSpecification("probed", architecture="toy")))
        self.events: list[Any] = []
        self.wire = Wire()
        self.database = FailingDatabase(folder / "kernel.db")
        publish = self.events.append
        self.shelf = PluginShelf(home, [home.plugins], self.database, ask=_ask, quiet_s=0.0)
        grants = Grants(Access(), Profiles([shipped("policies") / "sandbox"]), folder)
        self.registry = ModelRegistry(
            self.shelf, home.models, grants, config or Config(), Digests(self.database), publish
        )
        self.free_bytes = 1 << 40
        budget = MemoryBudget(lambda: self.policy, lambda: self.free_bytes)
        self.drivers = DriverManager(self.registry, grants, publish, most_models=most_models, budget=budget)
        self.routes = Routes(self.drivers, self.registry)
        self.sessions = SessionStore(self.database)
        self.turns = Turns(self.sessions)
        self.places = Places(self.drivers, self.routes)
        self.switchboard = Switchboard(self.places, self.routes, self.turns, self.wire)
        self.policy = SwapPolicy(SwapRules(keep_old_s=0.0))
        self.measurements = Measurements(asyncio.get_running_loop().time)
        self.switchboard.on_ended.append(self.measurements.ended)
        self.switchboard.failover.on_left.append(self.measurements.left)
        self.swaps = HotSwapManager(
            self.database,
            self.registry,
            self.drivers,
            self.routes,
            self.switchboard,
            publish,
            lambda: self.policy,
            measurements=self.measurements,
        )
        self.switchboard.on_ended.append(self.swaps.probations.ended)
        self.switchboard.failover.on_left.append(self.swaps.probations.left)
        self.supply = Supply(self.registry, self.drivers, self.routes, self.swaps, fallback)
        self.renewals = Renewals(self.registry, self.drivers, self.routes, self.swaps, self.supply)
        self.swaps.rollbacks.on_rolled_back = self.renewals.rolled_back
        self.shelf.in_use = lambda: {unit.plugin.digest for unit in self.drivers.units}
        self.session_homes = SessionHomes(
            self.registry, self.drivers, self.routes, self.switchboard, self.swaps.conversations
        )
        self.stand_ins = StandIns(self.registry, self.drivers, lambda: self.policy)
        self.drivers.owner = self.switchboard
        self.drivers.on_room = self.supply.room_made
        self.places.fallback = self.supply.fallback
        self.places.way_back = self.swaps.probations.kept_by
        self.places.stand_in = self.stand_ins.find
        self.drivers.room.not_needed = self.stand_ins.not_needed
        self.registry.in_use = lambda model: any(unit.model.id == model for unit in self.drivers.units)
        self.client = ClientState("uid:0", 0)
        self._numbers = itertools.count(1)
        self._seam = mock.patch.object(link, "launch", self._launch)
        self._seam.start()

    def _launch(
        self, grant: Grant, *, entry: str, config: bytes, code: Any, on_exit: Any, **_nothing: None
    ) -> ScriptedDriver:
        driver = ScriptedDriver(
            grant, config=config, on_exit=on_exit, obedient=self.obedient, probe_reply=self.probe_reply
        )
        self.drivers_made.append(driver)
        return driver

    async def start(self) -> "Rig":
        self.database.open()
        await self.swaps.recover(self.slots)
        await self.shelf.start()
        self.registry.scan()
        await self.supply.start()
        return self

    def ignore_time(self) -> None:
        """Look for neither silent drivers nor late streams, and wait for the disk: for tests that halt the loop."""
        self.database.in_step = True
        self.drivers.heartbeats.close()
        self.switchboard._sweep_timer.cancel()

    async def settle(self, rounds: int = 12) -> None:
        """Let everything happen that can happen without a further word from the test."""
        for _ in range(rounds):
            if self.database._thread is not None:
                await Database.run(self.database, lambda _: None)
            for _ in range(6):
                await asyncio.sleep(0)

    def kill(self) -> None:
        """End as a killed kernel ends: nothing runs on, nothing is stored that was not on its way to the disk."""
        self._seam.stop()
        self.ignore_time()
        for task in (*self.renewals._tasks, *self.swaps._tasks, *self.switchboard._tasks):
            task.cancel()
        for unit in self.drivers.units:
            if unit.restart is not None:
                unit.restart.cancel()
        self.shelf.close()
        self.drivers._closing = True
        for driver in self.alive:
            driver.exit()
        self.database.close()

    # ---- what a test looks for and asks ------------------------------------------------------------------------

    @property
    def alive(self) -> list[ScriptedDriver]:
        return [driver for driver in self.drivers_made if driver.alive]

    def driver(self, model: str) -> ScriptedDriver:
        """The newest living driver of a model."""
        return [driver for driver in self.alive if driver.model == model][-1]

    async def comes_up(self, model: str) -> ScriptedDriver:
        """Have the newest driver of a model say, where drivers are not obedient, that it is loaded and feels well."""
        driver = self.driver(model)
        driver.loaded()
        await self.settle()
        driver.feels("ok")
        return driver

    def everybody_obeys(self) -> None:
        """Have every driver do what it is asked: load, be well, leave once it was told to and has nothing to say."""
        for driver in self.alive:
            driver.obedient = True
            if driver.load:
                driver.loaded()
            driver.feels("ok")
            if driver.drained and not driver.streams:
                driver.exit(0)

    def pass_back_offs(self) -> None:
        """Have every process start again that waits for its time to do so."""
        for unit in list(self.drivers.units):
            if unit.restart is not None:
                unit.restart.cancel()
                self.drivers._restart(unit)

    def instance(self, model: str) -> Instance:
        driver = self.driver(model)
        return next(one for one in self.drivers.instances if one.process is driver)

    def open(
        self,
        target: str,
        *,
        session: str | None = None,
        client: ClientState | None = None,
        body: bytes = b"",
        **limits: int,
    ) -> int:
        """Open a stream; returns the client's number for it."""
        number = next(self._numbers)
        body = body or encode(InferenceRequest((user("count"),), model=target))
        self.switchboard.open(client or self.client, Open(number, target, session, **limits), body)
        return number

    def heard(self, number: int, client: ClientState | None = None) -> list[Any]:
        return self.wire.heard[client or self.client][number]

    def terminal(self, number: int) -> Finish | Failure | None:
        """The one terminal of a stream, if it came; nothing comes after it."""
        events = self.heard(number)
        ends = [event for event in events if isinstance(event, Finish | Failure)]
        assert len(ends) <= 1, events
        assert not ends or events[-1] is ends[0], events
        return ends[0] if ends else None


def text_of(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))
