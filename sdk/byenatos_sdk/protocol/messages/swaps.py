"""Swaps, and the conversations that they move."""

from enum import Enum
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from byenatos_sdk.protocol.messages.value import Value

__all__ = [
    "MOST_KEPT_S",
    "MOST_SESSION_MOVES",
    "KeptSeconds",
    "SessionInfo",
    "SessionLevel",
    "SessionMove",
    "SwapEvent",
    "SwapRequest",
    "SwapState",
    "SwapStrategy",
]

SwapStrategy: TypeAlias = Literal["graceful", "immediate", "background", "session_aware"]
SessionLevel: TypeAlias = Literal["kv", "tokens", "text", "drain"]
"""How a conversation gets to another instance, the best first: with its warm state; by text that both read as the same
tokens; by text that the target reads anew; not at all, it ends where it is."""
MOST_KEPT_S = 1e7
"""The longest time for which an old instance can be kept, about four months."""
KeptSeconds: TypeAlias = Annotated[float, Meta(ge=0, le=MOST_KEPT_S)]
MOST_SESSION_MOVES = 64
"""Conversations that an event of a swap tells of; of the others it has the number."""


class SwapState(Enum):
    """Where a swap stands; the transitions are a table in the kernel's ``swaps``."""

    REQUESTED = "requested"
    VALIDATED = "validated"
    PREPARING = "preparing"
    PREPARED = "prepared"
    SWITCHED = "switched"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class SwapRequest(Value, frozen=True, omit_defaults=True):
    """Bind ``slot`` to ``model``.

    ``graceful`` lets running answers end where they are, ``immediate`` moves them, ``session_aware`` moves each
    conversation between its own turns, ``background`` prepares with low priority and switches once the slot is idle.
    ``reason`` is what caused it: ``manual``, or a trigger's name. ``force``: swap even if conversations of the slot are
    more than the target can take. For ``keep_old_s`` seconds after the switch the old instance is kept, and the swap
    rolled back if the new one fails (``None``: as the operator's policy says).

    The call returns once new requests go to the new model, or with ``until="retired"`` once the old one is gone.
    """

    slot: str
    model: str
    strategy: SwapStrategy = "graceful"
    reason: str = "manual"
    until: Literal["switched", "retired"] = "switched"
    force: bool = False
    keep_old_s: KeptSeconds | None = None


class SessionMove(Value, frozen=True, omit_defaults=True):
    """How one conversation got to the target of a swap: at which ``level``, and what that cost.

    ``session`` is its id, or empty for a request without one. ``positions`` (tokens, for a language model) and
    ``bytes`` of warm state were copied, or read anew at the level ``text``. ``pause_s`` is for how long a running
    answer said nothing, from its last delta at the old instance to the first at the new one.
    """

    session: str
    level: SessionLevel
    positions: int = 0
    bytes: int = 0
    pause_s: float = 0.0
    detail: str = ""


class SwapEvent(Value, frozen=True, omit_defaults=True):
    """One step of one swap. ``at`` in seconds since the epoch, ``elapsed_s`` since the swap was requested.

    Of the ``moved_streams``, ``warm_streams`` moved with their warm state, the others by their text. ``cause`` is the
    request's ``reason``. In ``sequential`` mode memory holds only one of the two models: the old one leaves first, and
    requests wait until the new one is there. ``sessions`` are the conversations that moved or are to move, the first
    ``MOST_SESSION_MOVES``.
    """

    id: int
    slot: str
    source: str
    target: str
    strategy: SwapStrategy
    state: SwapState
    at: float
    elapsed_s: float = 0.0
    detail: str = ""
    moved_streams: int = 0
    draining_streams: int = 0
    warm_streams: int = 0
    cause: str = "manual"
    mode: Literal["overlap", "sequential"] = "overlap"
    sessions: tuple[SessionMove, ...] = ()


class SessionInfo(Value, frozen=True, omit_defaults=True):
    """A conversation the kernel keeps. Times in seconds since the epoch.

    ``home`` is the model that it was moved to by hand; empty if it is answered by its slot.
    """

    id: str
    slot: str
    owner: str
    created_at: float
    updated_at: float
    turns: int
    title: str = ""
    home: str = ""
