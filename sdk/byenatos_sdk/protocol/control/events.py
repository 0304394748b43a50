"""What the kernel tells of without being asked for each."""

from typing import Final, TypeAlias

from msgspec import Struct

from byenatos_sdk.protocol.control.results import InstanceInfo, ModelInfo
from byenatos_sdk.protocol.messages import SwapEvent, Value

__all__ = [
    "EVENT_FEATURES",
    "DriverFailed",
    "DriverRestarting",
    "Event",
    "InstanceChanged",
    "ModelChanged",
    "SwapAdvanced",
    "TriggerFired",
]


class InstanceChanged(Value, frozen=True, tag="instance_changed"):
    """An instance went to another state."""

    at: float
    instance: InstanceInfo


class DriverFailed(Value, frozen=True, tag="driver_failed"):
    """An instance died or never came up; ``last_output`` holds its last lines."""

    at: float
    epoch: int
    driver: str
    model: str
    reason: str
    last_output: tuple[str, ...] = ()


class DriverRestarting(Value, frozen=True, tag="driver_restarting"):
    """A dead instance will be started again in ``delay_s`` seconds."""

    at: float
    driver: str
    model: str
    delay_s: float
    crashes: int


class ModelChanged(Value, frozen=True, tag="model_changed"):
    """A model was found, refused or removed."""

    at: float
    model: ModelInfo


class SwapAdvanced(Value, frozen=True, tag="swap_advanced"):
    """A swap took a step."""

    at: float
    swap: SwapEvent


class TriggerFired(Value, frozen=True, tag="trigger_fired", omit_defaults=True):
    """A trigger found its condition met, and swaps ``slot`` to ``model``; ``returning``: back, since it is over.

    ``reading`` and ``bound`` of its ``measure`` are why; a schedule has neither. ``dry_run``: nothing was swapped. The
    swap's own steps follow; if it failed the event comes once more, with the ``problem``.
    """

    at: float
    trigger: str
    slot: str
    model: str
    measure: str = ""
    reading: float | None = None
    bound: float | None = None
    returning: bool = False
    dry_run: bool = False
    problem: str = ""


Event: TypeAlias = InstanceChanged | DriverFailed | DriverRestarting | ModelChanged | SwapAdvanced | TriggerFired


EVENT_FEATURES: Final[dict[type[Struct], str]] = {TriggerFired: "triggers"}
"""Events that came later, each with the feature without which a client does not understand it."""
