"""The triggers of ``swap.toml``: once a second each is looked at, and what fires is swapped.

``trigger_states`` says when, ``trigger_measures`` what is seen; here it is done. Besides each trigger's own cool-down,
triggers that measure leave a slot alone for their cool-down after *any* trigger swapped it, so that two of them cannot
throw a slot to and fro. A trigger whose model the slot has already does nothing, nor does one whose slot is just being
swapped: it waits. The way back (``return_to``) is taken only if the slot still has the model that the trigger gave it.

A schedule that is missed, because the kernel did not run or the machine slept, is not made up for; nor is one that
comes within the cool-down of the last. A kernel that is started anew learns from the history of swaps which triggers
had fired, so that their way back is not forgotten.

All times come from two clocks that are handed in: the loop's, and the wall's for schedules and for people.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from byenatos_kernel.pressure import Reading
from byenatos_kernel.routes import Slot
from byenatos_kernel.swaps import ENDED
from byenatos_kernel.trigger_entries import Entry, describe
from byenatos_kernel.trigger_rules import Trigger
from byenatos_kernel.trigger_states import Sight, State, Watch, sight_of
from byenatos_sdk.protocol.control import Event, TriggerFired, TriggerInfo
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import SwapEvent, SwapRequest, SwapState

__all__ = ["LOOK_EVERY_S", "Sensors", "Triggers"]

LOOK_EVERY_S = 1.0
LATE_S = 300.0
"""A schedule that is seen later than this was missed."""
_STANDS = frozenset({SwapState.SWITCHED, SwapState.DRAINING, SwapState.RETIRED})

log = logging.getLogger("byenatos")


class Sensors(Protocol):
    """What is looked at; ``trigger_measures.TriggerMeasures``."""

    def adopt(self, triggers: tuple[Trigger, ...]) -> None:
        """These triggers count from now on."""

    def read(self, trigger: Trigger) -> Reading:
        """Measure what a trigger measures, now."""


class Triggers:
    """Looks at the triggers of ``find`` while ``on``. ``known`` says whether there is a model of that name."""

    def __init__(
        self,
        find: Callable[[], tuple[Trigger, ...]],
        sensors: Sensors,
        slots: dict[str, Slot],
        known: Callable[[str], bool],
        swap: Callable[[SwapRequest], Awaitable[SwapEvent]],
        publish: Callable[[Event], None],
        *,
        on: bool,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.on = on
        self._find = find
        self._sensors = sensors
        self._slots = slots
        self._known = known
        self._swap = swap
        self._publish = publish
        self._clock = clock
        self._wall = wall
        self._adopted: tuple[Trigger, ...] = ()
        self._entries: list[Entry] = []
        self._acted: dict[str, float] = {}
        self._swapping: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, history: list[SwapEvent]) -> None:
        """Begin to look; ``history`` are the last swaps, the newest first."""
        if not self.on:
            return
        self._adopt()
        for entry in self._entries:
            self._resume(entry, history)
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)

    def close(self) -> None:
        """Look no more; swaps that were begun go on."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps triggers from doing what they are there for."""
        found = ((entry, self._problem(entry)) for entry in self._entries)
        return tuple(f"trigger {entry.watch.trigger.name!r}: {problem}" for entry, problem in found if problem)

    def infos(self) -> list[TriggerInfo]:
        """Every trigger as it stands."""
        if not self.on:
            return [describe(trigger, "off") for trigger in self._find()]
        return [
            describe(
                entry.watch.trigger,
                entry.watch.state.value,
                reading=entry.reading.value,
                fired_at=entry.fired_at,
                next_at=self._next_at(entry),
                problem=self._problem(entry),
            )
            for entry in self._entries
        ]

    def look(self) -> None:
        """Look at every trigger once, and do what is due."""
        self._adopt()
        now = self._clock()
        for entry in self._entries:
            watch = entry.watch
            if entry.schedule is None:
                entry.reading = self._sensors.read(watch.trigger)
                sight = sight_of(watch.trigger, entry.reading)
            else:
                sight = self._scheduled(entry)
            action = watch.see(sight, now, free=self._free(watch, now))
            if action == "fire":
                self._act(entry, watch.trigger.model, now, returning=False)
            elif action == "rearm":
                entry.failure = ""
                if self._returns(watch.trigger):
                    assert watch.trigger.return_to is not None
                    self._act(entry, watch.trigger.return_to, now, returning=True)

    # ---- private -----------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)
        self.look()

    def _adopt(self) -> None:
        """Take over what the operator's file says now; a trigger of the same name and aim stays where it stands."""
        triggers = self._find()
        if triggers is self._adopted:
            return
        self._adopted = triggers
        now = self._clock()
        old = {entry.watch.trigger.name: entry for entry in self._entries}
        self._entries = []
        for trigger in triggers:
            entry = Entry(trigger, now)
            entry.plan(self._wall())
            before = old.get(trigger.name)
            if before is not None and before.aim == entry.aim:
                entry.watch.resume(before.watch.state, now, before.watch.ready_at)
                entry.fired_at = before.fired_at
            self._entries.append(entry)
        self._sensors.adopt(triggers)

    def _resume(self, entry: Entry, history: list[SwapEvent]) -> None:
        """Stand where the trigger stood, if the last swap of its slot was its own."""
        trigger = entry.watch.trigger
        last = next((one for one in history if one.slot == trigger.slot and one.state in _STANDS), None)
        if last is None or last.cause != trigger.name:
            return
        now = self._clock()
        entry.fired_at = last.at
        fired = last.target == trigger.model
        entry.watch.resume(
            State.FIRED if fired else State.ARMED, now, now + last.at + trigger.cooldown_s - self._wall()
        )

    def _scheduled(self, entry: Entry) -> Sight:
        """Whether it is time. One that waits for another swap to end keeps waiting."""
        wall = self._wall()
        trigger = entry.watch.trigger
        slot = self._slots.get(trigger.slot)
        there = slot is not None and slot.model == trigger.model
        if wall < entry.planned_at:  # the clock was set back
            entry.plan(wall)
        if wall < entry.due:
            return Sight.BREACHED if entry.watch.state is State.HOLDING and not there else Sight.CLEARED
        late_s = wall - entry.due
        entry.plan(wall)
        if late_s > LATE_S:
            log.info("trigger %r was due %.0f s ago and is not made up for", trigger.name, late_s)
            return Sight.CLEARED
        return Sight.CLEARED if there else Sight.BREACHED

    def _free(self, watch: Watch, now: float) -> bool:
        """Whether what the trigger would do next can be done now."""
        trigger = watch.trigger
        slot = self._slots.get(trigger.slot)
        if slot is None:
            return False
        if watch.state in {State.FIRED, State.COOLING}:
            if not self._returns(trigger):
                return True
        elif slot.model == trigger.model or not self._known(trigger.model):
            return False
        if trigger.slot in self._swapping or (slot.swap is not None and slot.swap.state not in ENDED):
            return False
        acted = self._acted.get(trigger.slot)
        return trigger.kind == "schedule" or acted is None or now >= acted + trigger.cooldown_s

    def _returns(self, trigger: Trigger) -> bool:
        """Whether there is a way back to take; in a dry run nothing was swapped, but it is told."""
        slot = self._slots.get(trigger.slot)
        return trigger.return_to is not None and slot is not None and (trigger.dry_run or slot.model == trigger.model)

    def _act(self, entry: Entry, model: str, now: float, *, returning: bool) -> None:
        """Tell that a trigger fired, and unless it is a dry run swap its slot to ``model``."""
        trigger = entry.watch.trigger
        entry.watch.acted(now)
        entry.fired_at = self._wall()
        entry.failure = ""
        self._tell(entry, model, returning=returning)
        if trigger.dry_run:
            return
        self._acted[trigger.slot] = now
        self._swapping.add(trigger.slot)
        task = asyncio.get_running_loop().create_task(self._carry_out(entry, model, returning=returning))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, entry: Entry, model: str, *, returning: bool) -> None:
        trigger = entry.watch.trigger
        try:
            await self._swap(SwapRequest(trigger.slot, model, trigger.strategy, trigger.name))
        except ByenatosError as error:
            entry.failure = error.message
            entry.watch.failed(self._clock(), on_the_way_back=returning)
            self._tell(entry, model, returning=returning)
        finally:
            self._swapping.discard(trigger.slot)

    def _tell(self, entry: Entry, model: str, *, returning: bool) -> None:
        trigger = entry.watch.trigger
        self._publish(
            TriggerFired(
                self._wall(),
                trigger.name,
                trigger.slot,
                model,
                measure=trigger.measure,
                reading=entry.reading.value,
                bound=trigger.cleared_at if returning else trigger.bound,
                returning=returning,
                dry_run=trigger.dry_run,
                problem=entry.failure,
            )
        )

    def _next_at(self, entry: Entry) -> float:
        """When the trigger can do something next, on the wall's clock; 0: as soon as its measure says so."""
        if entry.schedule is not None:
            return entry.due
        left_s = entry.watch.ready_at - self._clock()
        return self._wall() + left_s if left_s > 0 else 0.0

    def _problem(self, entry: Entry) -> str:
        trigger = entry.watch.trigger
        if trigger.slot not in self._slots:
            return f"there is no slot {trigger.slot!r}; there is {', '.join(sorted(self._slots)) or 'none'}"
        for model in (trigger.model, trigger.return_to):
            if model is not None and not self._known(model):
                return f"there is no model {model!r}"
        return entry.failure or entry.reading.problem
