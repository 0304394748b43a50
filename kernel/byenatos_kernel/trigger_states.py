"""The states of one trigger: one table, driven by what is seen of its measure and by the clock.

::

    armed --breached--> holding --held--> fired --cleared--> cooling --held, and cooled down--> armed
              ^            |                ^                   |
              +--not any more               +----not any more---+

*Breached* is past the bound, *cleared* past the value at which the trigger is armed again; where the two differ, what
lies between them is *between*, and so a measure that swings about its bound fires one swap and no second. A measure
that *cannot be read* shows nothing: it neither breaches nor clears.

Nothing is done within ``cooldown_s`` after the trigger did something, whatever the measure does: neither the swap nor
the way back. A swap that failed is tried again after that time at the earliest, if its reason still holds then.
"""

from enum import Enum
from typing import Literal, TypeAlias

from byenatos_kernel.pressure import Reading
from byenatos_kernel.trigger_rules import Trigger

__all__ = ["TRANSITIONS", "Action", "Sight", "State", "Watch", "sight_of"]

Action: TypeAlias = Literal["nothing", "fire", "rearm"]


class State(Enum):
    """Where a trigger stands."""

    ARMED = "armed"
    HOLDING = "holding"
    FIRED = "fired"
    COOLING = "cooling"


class Sight(Enum):
    """What a reading means to a trigger."""

    BREACHED = 1
    BETWEEN = 2
    CLEARED = 3
    UNREADABLE = 4


TRANSITIONS: dict[tuple[State, Sight], State] = {
    (State.ARMED, Sight.BREACHED): State.HOLDING,
    (State.HOLDING, Sight.BETWEEN): State.ARMED,
    (State.HOLDING, Sight.CLEARED): State.ARMED,
    (State.HOLDING, Sight.UNREADABLE): State.ARMED,
    (State.FIRED, Sight.CLEARED): State.COOLING,
    (State.COOLING, Sight.BREACHED): State.FIRED,
    (State.COOLING, Sight.BETWEEN): State.FIRED,
    (State.COOLING, Sight.UNREADABLE): State.FIRED,
}
"""Where a sight leads at once; what is not here stays. The arrows that take time, to FIRED and ARMED, are in `see`."""


class Watch:
    """One trigger as it stands: its ``state`` and ``since`` when, and before when it does nothing (``ready_at``)."""

    def __init__(self, trigger: Trigger, now: float) -> None:
        self.trigger = trigger
        self.state = State.ARMED
        self.since = now
        self.ready_at = now

    def see(self, sight: Sight, now: float, *, free: bool = True) -> Action:
        """Take a sight at a loop time; return what is to be done. Unless ``free``, nothing is done yet."""
        self._enter(TRANSITIONS.get((self.state, sight), self.state), now)
        hold_s = 0.0 if self.trigger.kind == "schedule" else self.trigger.hold_s
        if now - self.since < hold_s or now < self.ready_at or not free:
            return "nothing"
        if self.state is State.HOLDING:
            self._enter(State.FIRED, now)
            return "fire"
        if self.state is State.COOLING:
            self._enter(State.ARMED, now)
            return "rearm"
        return "nothing"

    def acted(self, now: float) -> None:
        """Something was done just now: the cool-down begins."""
        self.ready_at = now + self.trigger.cooldown_s

    def failed(self, now: float, *, on_the_way_back: bool) -> None:
        """What was done has failed: it is to be done again, once the cool-down is over, if its reason still holds."""
        self._enter(State.FIRED if on_the_way_back else State.ARMED, now)

    def resume(self, state: State, now: float, ready_at: float) -> None:
        """Stand where the trigger stood before the kernel was started anew."""
        self.ready_at = ready_at
        self._enter(state, now)

    def _enter(self, state: State, now: float) -> None:
        if state is not self.state:
            self.state = state
            self.since = now


def sight_of(trigger: Trigger, reading: Reading) -> Sight:
    """Say what a reading means to a trigger that measures. Nothing to measure, such as no requests, clears."""
    if reading.problem:
        return Sight.UNREADABLE
    value, clear = reading.value, trigger.cleared_at
    if value is None or clear is None:
        return Sight.CLEARED
    if trigger.above is not None:
        return Sight.BREACHED if value > trigger.above else Sight.CLEARED if value <= clear else Sight.BETWEEN
    assert trigger.below is not None
    return Sight.BREACHED if value < trigger.below else Sight.CLEARED if value >= clear else Sight.BETWEEN
