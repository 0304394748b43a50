"""Models that are loaded before anybody asks for them: by hand, or because the history makes them likely.

A preloaded model serves no slot; a swap to it only has to switch. It is kept by a reservation among its unit's slots,
as swaps keep theirs. It is let go when it was idle for ``[preload] idle_s``, and sooner when its place is needed: of
those that are idle the least likely goes first. What a slot or an operator wants besides is never let go. What it holds
of conversations is hibernated first, so that a later turn need not read them again.

With ``[preload] automatic`` every minute those models are preloaded whose share of the requests in hours like the one
that comes is at least ``likely`` (``usage`` says how that is counted), the likeliest first, as long as
``max_concurrent_models`` and the memory allow it; one takes the place of a less likely one that was preloaded as well.
What is likely is not let go for being idle.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream
from byenatos_kernel.swap_policy import PreloadRules
from byenatos_kernel.units import PRELOADED, Unit
from byenatos_kernel.usage import WEEKS, Share, UsageHistory, hour_of
from byenatos_kernel.warm import arena_of
from byenatos_sdk.protocol.control import InstanceInfo, ModelUsage, Named, UsageReport
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Terminal

__all__ = ["Preloads"]

LOOK_EVERY_S = 60.0
AHEAD_S = 600.0
"""How long before an hour begins what is likely in it is loaded."""
RETRY_S = 600.0
"""How long a model that could not be preloaded is left alone."""

log = logging.getLogger("byenatos")


class Preloads:
    """Preloads models and lets them go.

    ``try_out`` has a unit show that it can answer, so that a swap need not wait for that. ``clock`` is the loop's,
    ``wall`` the one by which hours are told.
    """

    def __init__(
        self,
        drivers: DriverManager,
        registry: ModelRegistry,
        history: UsageHistory,
        rules: Callable[[], PreloadRules],
        states: SessionStates | None,
        try_out: Callable[[Unit], Awaitable[Instance]],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._drivers = drivers
        self._registry = registry
        self._history = history
        self._rules = rules
        self._states = states
        self._try_out = try_out
        self._clock = clock
        self._wall = wall
        self._shares: dict[str, Share] = {}
        self._used: dict[str, float] = {}
        self._by_hand: set[str] = set()
        self._left_alone: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look every minute."""
        self._look_again()

    async def close(self) -> None:
        """Look no more; what was counted is written."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        try:
            await self._history.write()
        except ByenatosError as error:
            log.warning("how often models were asked for is not written: %s", error.message)

    def ended(self, stream: Stream, _: Terminal) -> None:
        """Note that a model was used."""
        if stream.model in self._used:
            self._used[stream.model] = self._clock()

    async def preload(self, named: Named) -> InstanceInfo:
        """Load a model without a slot, and return once it would serve; a less likely preloaded one may go for it.

        Raises:
            NotFound, Unavailable, Overloaded: why it cannot be loaded.
        """
        entry = self._registry.model(named.name)
        if self._drivers.living(entry.id) is None:
            await self._drivers.room.make(entry)
        unit = self._take(entry)
        self._by_hand.add(entry.id)
        return (await self._ready(unit)).info

    def give_up(self) -> bool:
        """Let the least likely idle one go, since its place is needed; return whether there was one."""
        unit = self._least_likely()
        if unit is None:
            return False
        log.info("%s, which was preloaded, makes room", unit.model.id)
        self._let_go(unit)
        return True

    async def look(self) -> None:
        """Let go what was idle for too long, and preload what is likely."""
        rules, now = self._rules(), self._clock()
        self._shares = await self._history.shares(hour_of(self._wall() + AHEAD_S))
        for unit in self._kept():
            model = unit.model.id
            if unit.dead:
                unit.slots.discard(PRELOADED)
                self._drivers.drop(unit)
            elif not self._idle(unit):
                self._used[model] = now
            elif now - self._used.setdefault(model, now) >= rules.idle_s and not self._likely(model):
                log.info("%s, which was preloaded, was idle for %.0f s and goes", model, now - self._used[model])
                self._let_go(unit)
        kept = {unit.model.id for unit in self._kept()}
        self._used = {model: at for model, at in self._used.items() if model in kept}
        self._by_hand &= kept
        if rules.automatic:
            self._preload_likely()

    async def report(self) -> UsageReport:
        """What the history says of the hour that comes, and what follows from it."""
        rules = self._rules()
        hour = hour_of(self._wall() + AHEAD_S)
        shares = await self._history.shares(hour)
        kept = {unit.model.id for unit in self._kept()}
        loaded = {unit.model.id for unit in self._drivers.units if not unit.leaving and not unit.dead}
        return UsageReport(
            hour.of_day,
            hour.working,
            WEEKS,
            rules.automatic,
            rules.likely,
            tuple(
                ModelUsage(
                    model,
                    found.requests,
                    found.share,
                    loaded=model in loaded,
                    preloaded=model in kept,
                    likely=found.share >= rules.likely and self._can_be_loaded(model),
                )
                for model, found in sorted(shares.items(), key=lambda one: (-one[1].share, one[0]))
            ),
        )

    # ---- private -----------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)
        self._spawn(self._look_once())

    async def _look_once(self) -> None:
        try:
            await self.look()
        except ByenatosError as error:
            log.warning("the history of models cannot be used: %s", error.message)

    def _preload_likely(self) -> None:
        """Load what is likely and not there, the likeliest first, as far as there is room."""
        now = self._clock()
        self._left_alone = {model: until for model, until in self._left_alone.items() if now < until}
        for model in sorted(self._shares, key=self._share, reverse=True):
            if not self._likely(model) or model in self._left_alone or not self._can_be_loaded(model):
                continue
            if self._drivers.find(model) is not None:
                continue
            if self._drivers.room.full:
                other = self._least_likely()
                if (
                    other is None
                    or other.model.id in self._by_hand
                    or self._share(other.model.id) >= self._share(model)
                ):
                    return
                self._let_go(other)
            try:
                unit = self._take(self._registry.model(model))
            except ByenatosError as error:
                self._leave_alone(model, error)
                return
            log.info("%s is preloaded: %.0f %% of the requests in such hours", model, 100 * self._share(model))
            self._spawn(self._see_to(unit))

    def _take(self, entry: ModelEntry) -> Unit:
        """Reserve the unit of a model, and load it if there is none."""
        unit = self._drivers.living(entry.id) or self._drivers.load(entry)
        unit.slots.add(PRELOADED)
        self._used[entry.id] = self._clock()
        return unit

    async def _ready(self, unit: Unit) -> Instance:
        try:
            return await self._try_out(unit)
        except ByenatosError:
            unit.slots.discard(PRELOADED)
            self._drivers.drop(unit)
            self._drivers.release(unit)
            raise

    async def _see_to(self, unit: Unit) -> None:
        try:
            await self._ready(unit)
        except ByenatosError as error:
            self._leave_alone(unit.model.id, error)

    def _leave_alone(self, model: str, error: ByenatosError) -> None:
        log.warning("%s cannot be preloaded: %s", model, error.message)
        self._left_alone[model] = self._clock() + RETRY_S

    def _let_go(self, unit: Unit) -> None:
        """Give the reservation up; conversations are hibernated before the unit goes, unless a twin serves on."""
        unit.slots.discard(PRELOADED)
        if unit.wanted:
            return
        instance = unit.ready
        twins = any(one.model is unit.model and one is not unit and not one.leaving for one in self._drivers.units)
        if instance is None or self._states is None or arena_of(instance) is None or twins:
            self._drivers.release(unit)
            return
        unit.leaving = True  # it takes no new requests, and its place is free
        self._spawn(self._put_to_sleep(self._states, unit, instance))

    async def _put_to_sleep(self, states: SessionStates, unit: Unit, instance: Instance) -> None:
        try:
            await states.hibernate_all(instance)
        finally:
            unit.leaving = False
            self._drivers.release(unit)

    def _kept(self) -> list[Unit]:
        return [unit for unit in self._drivers.units if PRELOADED in unit.slots and not unit.leaving]

    def _idle(self, unit: Unit) -> bool:
        """Whether nothing but the reservation keeps a unit."""
        answering = unit.waiting or (unit.instance is not None and unit.instance.streams)
        return not unit.pinned and unit.slots == {PRELOADED} and not answering

    def _least_likely(self) -> Unit | None:
        return min(
            (unit for unit in self._kept() if self._idle(unit) and not unit.dead),
            key=lambda unit: (
                unit.model.id in self._by_hand,
                self._share(unit.model.id),
                self._used.get(unit.model.id, 0.0),
            ),
            default=None,
        )

    def _share(self, model: str) -> float:
        found = self._shares.get(model)
        return found.share if found is not None else 0.0

    def _likely(self, model: str) -> bool:
        rules = self._rules()
        return rules.automatic and self._share(model) >= rules.likely

    def _can_be_loaded(self, model: str) -> bool:
        entry = self._registry.models.get(model)
        return entry is not None and entry.state == "available"

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
