"""``[[triggers]]`` of ``swap.toml``: what a trigger can be told, and whether it makes sense."""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from byenatos_kernel.schedules import Schedule
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import SwapStrategy

__all__ = ["MEASURES", "Trigger", "check_trigger"]

MEASURES: dict[str, tuple[str, ...]] = {
    "performance": ("p95_latency_s", "first_token_p95_s", "tokens_per_s"),
    "resource": (
        "memory_available_mib",
        "memory_pressure",
        "cpu_pressure",
        "io_pressure",
        "temperature_c",
        "gpu_memory_free_mib",
    ),
    "error": ("error_rate", "crashes"),
    "workload": ("queue_depth", "running", "task_share", "long_context_share"),
    "schedule": (),
}
"""What each kind of trigger can measure; ``policies/swap.toml`` says what the words mean."""

_Seconds = Annotated[float, Meta(ge=0, le=1e7)]
_Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Trigger(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[[triggers]]``: swap ``slot`` to ``model`` when something holds.

    ``measure`` (see :data:`MEASURES`) must be ``above`` or ``below`` a bound for ``hold_s`` seconds. Then the trigger
    fires once; it is armed again when the measure was past ``clear`` (default: the bound) for ``hold_s`` seconds, and
    at the earliest ``cooldown_s`` after it fired. With ``return_to`` that swaps the slot to that model. ``window_s``:
    over how long is measured; shares and percentiles of fewer than ``least_requests`` say nothing. A ``schedule`` fires
    at the times of ``cron`` in ``timezone`` instead. ``task`` and ``long_tokens`` say whose share ``workload`` looks
    at. ``dry_run``: say what would be done, and do nothing.
    """

    name: _Name
    kind: Literal["performance", "resource", "error", "schedule", "workload"]
    model: _Name
    slot: _Name = "default"
    strategy: SwapStrategy = "graceful"
    measure: str = ""
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    hold_s: _Seconds = 10.0
    window_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    least_requests: Annotated[int, Meta(ge=1, le=1000)] = 5
    cooldown_s: _Seconds = 300.0
    return_to: _Name | None = None
    cron: str = ""
    timezone: str = ""
    task: str = ""
    long_tokens: Annotated[int, Meta(ge=1)] = 8192
    dry_run: bool = False

    @property
    def bound(self) -> float | None:
        """What the measure must be above, or below; ``None`` for a schedule."""
        return self.above if self.above is not None else self.below

    @property
    def cleared_at(self) -> float | None:
        """What the measure must be past again before the trigger is armed."""
        return self.bound if self.clear is None else self.clear


def check_trigger(trigger: Trigger) -> None:
    """Raise ``InvalidRequest``, which names the key, unless a trigger makes sense."""
    if trigger.kind == "schedule":
        _check_schedule(trigger)
    else:
        _check_measure(trigger)
    if trigger.return_to == trigger.model:
        raise InvalidRequest(f"return_to: expected another model than the trigger swaps to, found {trigger.model!r}")


def _check_schedule(trigger: Trigger) -> None:
    foreign = {
        "measure": trigger.measure,
        "above": trigger.above,
        "below": trigger.below,
        "clear": trigger.clear,
        "return_to": trigger.return_to,
        "task": trigger.task,
    }
    for key, value in foreign.items():
        if value not in {None, ""}:
            raise InvalidRequest(f"{key}: expected nothing at a schedule, found {value!r}; another schedule swaps back")
    Schedule(trigger.cron, trigger.timezone)


def _check_measure(trigger: Trigger) -> None:
    for key, value in {"cron": trigger.cron, "timezone": trigger.timezone}.items():
        if value:
            raise InvalidRequest(f"{key}: expected nothing at a trigger of kind {trigger.kind!r}, found {value!r:.80}")
    measures = MEASURES[trigger.kind]
    if trigger.measure not in measures:
        raise InvalidRequest(
            f"measure: expected one of {', '.join(measures)} at kind {trigger.kind!r}, found {trigger.measure!r:.80}"
        )
    if (trigger.above is None) == (trigger.below is None):
        found = "neither" if trigger.above is None else "both"
        raise InvalidRequest(f"above, below: expected one of them, found {found}")
    for key, number in {"above": trigger.above, "below": trigger.below, "clear": trigger.clear}.items():
        if number is not None and not math.isfinite(number):
            raise InvalidRequest(f"{key}: expected a finite number, found {number}")
    if trigger.clear is not None:
        if trigger.above is not None and trigger.clear > trigger.above:
            raise InvalidRequest(f"clear: expected at most above = {trigger.above:g}, found {trigger.clear:g}")
        if trigger.below is not None and trigger.clear < trigger.below:
            raise InvalidRequest(f"clear: expected at least below = {trigger.below:g}, found {trigger.clear:g}")
    if (trigger.measure == "task_share") != bool(trigger.task):
        raise InvalidRequest(f"task: expected one at measure 'task_share' and only there, found {trigger.task!r:.80}")
