"""One trigger with everything that is known of it, and how clients are told."""

from byenatos_kernel.pressure import Reading
from byenatos_kernel.schedules import Schedule
from byenatos_kernel.trigger_rules import Trigger
from byenatos_kernel.trigger_states import State, Watch
from byenatos_sdk.protocol.control import TriggerInfo

__all__ = ["Entry", "describe"]


class Entry:
    """A trigger with what is known of it. ``due`` and ``fired_at`` are times of the wall's clock."""

    __slots__ = ("due", "failure", "fired_at", "planned_at", "reading", "schedule", "watch")

    def __init__(self, trigger: Trigger, now: float) -> None:
        self.watch = Watch(trigger, now)
        self.schedule = Schedule(trigger.cron, trigger.timezone) if trigger.kind == "schedule" else None
        self.due = 0.0
        self.planned_at = 0.0
        self.reading = Reading(None)
        self.failure = ""
        self.fired_at = 0.0

    def plan(self, at: float) -> None:
        """Find out when the schedule is due next after a time of the wall's clock."""
        if self.schedule is not None:
            self.due = self.schedule.after(at)
            self.planned_at = at

    @property
    def aim(self) -> tuple[str, str, str, str | None]:
        """What must be the same in a trigger that is written anew, for it to stand where this one stands."""
        trigger = self.watch.trigger
        return trigger.kind, trigger.slot, trigger.model, trigger.return_to


def describe(
    trigger: Trigger,
    state: str,
    *,
    reading: float | None = None,
    fired_at: float = 0.0,
    next_at: float = 0.0,
    problem: str = "",
) -> TriggerInfo:
    """Say what clients are told of a trigger."""
    if state in {State.FIRED.value, State.COOLING.value} and trigger.kind != "schedule":
        would = f"swap {trigger.slot} back to {trigger.return_to}" if trigger.return_to else "be armed again"
    else:
        would = f"swap {trigger.slot} to {trigger.model} ({trigger.strategy})"
    return TriggerInfo(
        trigger.name,
        trigger.kind,
        trigger.slot,
        trigger.model,
        state,  # type: ignore[arg-type]
        measure=trigger.measure,
        reading=reading,
        above=trigger.above,
        below=trigger.below,
        clear=trigger.clear,
        fired_at=fired_at,
        next_at=next_at,
        would=would,
        dry_run=trigger.dry_run,
        problem=problem,
    )
