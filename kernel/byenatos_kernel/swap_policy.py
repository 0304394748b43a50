"""Read and check ``swap.toml``: when models are swapped without being asked, and what is done around every swap.

The file is ``<home>/policies/swap.toml``; without it, the one that ships with the kernel counts. Unknown keys and wrong
types are errors that name the file, the key, what was expected and what was found. The shipped file explains each key.
"""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from byenatos_kernel.toml_file import read_toml
from byenatos_kernel.trigger_rules import Trigger, check_trigger
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import KeptSeconds

__all__ = [
    "MemoryRules",
    "PreloadRules",
    "ProbationRules",
    "QueueRules",
    "SlotRules",
    "SwapPolicy",
    "SwapPolicyError",
    "SwapRules",
    "read_swap_policy",
]

MAX_POLICY = 1 << 20

_Seconds = Annotated[float, Meta(ge=0, le=1e7)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Name = Annotated[str, Meta(min_length=1, max_length=256)]


class SwapPolicyError(InvalidRequest):
    """The file is not as it must be. The message names it and the key; correct it there."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file: unknown keys are errors."""


class SwapRules(_Strict, frozen=True):
    """``[swap]``. ``keep_old_s``: how long the old instance is kept after a switch, to roll back to.

    ``live_session_s``: a conversation in which something was said within that time must fit the target of a swap.
    """

    keep_old_s: KeptSeconds = 30.0
    live_session_s: _Seconds = 3600.0


class MemoryRules(_Strict, frozen=True):
    """``[memory]``: what all loaded models may take together, in MiB; 0 is what the machine has free."""

    budget_mib: Annotated[int, Meta(ge=0)] = 0


class QueueRules(_Strict, frozen=True):
    """``[queue]``: how many requests of a slot may wait while memory holds neither of two models."""

    most: Annotated[int, Meta(ge=0, le=100_000)] = 256


class ProbationRules(_Strict, frozen=True):
    """``[probation]``: when a swap is rolled back while the old instance is kept.

    ``error_rate``: the share of requests that the new instance fails, of at least ``least_requests``.
    ``latency_factor``: how many times longer its first token may take than the old one's (0: any).
    """

    error_rate: _Share = 0.5
    least_requests: Annotated[int, Meta(ge=1)] = 3
    latency_factor: Annotated[float, Meta(ge=0)] = 5.0


class SlotRules(_Strict, frozen=True):
    """``[slots.NAME]``. ``degrade_to``: smaller models, the first that works serves when the slot's own cannot.

    ``keep_old_s`` counts instead of that of ``[swap]``.
    """

    degrade_to: tuple[_Name, ...] = ()
    keep_old_s: KeptSeconds | None = None


class PreloadRules(_Strict, frozen=True):
    """``[preload]``: whether models that the history makes likely are loaded before they are asked for.

    ``likely``: the least share of the requests of an hour like this one that made a model worth it. ``idle_s``: a
    preloaded model that nobody used for so long is let go.
    """

    automatic: bool = False
    likely: _Share = 0.2
    idle_s: _Seconds = 900.0


class SwapPolicy(_Strict, frozen=True):
    """The whole file."""

    swap: SwapRules = SwapRules()
    memory: MemoryRules = MemoryRules()
    queue: QueueRules = QueueRules()
    probation: ProbationRules = ProbationRules()
    preload: PreloadRules = PreloadRules()
    slots: dict[_Name, SlotRules] = field(default_factory=dict)
    triggers: tuple[Trigger, ...] = ()

    def keep_old_s(self, slot: str) -> float:
        """For how long the old instance is kept after a switch of ``slot``, in seconds."""
        own = self.slots.get(slot, SlotRules()).keep_old_s
        return self.swap.keep_old_s if own is None else own

    def degrade_to(self, slot: str) -> tuple[str, ...]:
        """The models that serve ``slot`` when its own cannot, in their order."""
        return self.slots.get(slot, SlotRules()).degrade_to


def read_swap_policy(path: Path) -> SwapPolicy:
    """Read ``path``.

    Raises:
        SwapPolicyError: naming the file and key, what was expected and what was found.
    """
    policy = read_toml(path, SwapPolicy, most=MAX_POLICY, error=SwapPolicyError)
    names: set[str] = set()
    for trigger in policy.triggers:
        if trigger.name in names:
            raise SwapPolicyError(f"{path}: triggers: expected each name once, found {trigger.name!r} twice")
        names.add(trigger.name)
        try:
            check_trigger(trigger)
        except InvalidRequest as error:
            raise SwapPolicyError(f"{path}: trigger {trigger.name!r}: {error.message}") from None
    return policy
