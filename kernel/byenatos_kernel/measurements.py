"""What became of requests lately: the figures by which swaps are triggered, and rolled back.

Every stream that ends leaves one :class:`Outcome`; the newest :data:`MOST` of a slot are kept, and nothing is computed
before somebody asks.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.errors import (
    Cancelled,
    ClientTooSlow,
    ContentFiltered,
    Draining,
    InvalidRequest,
    PermissionDenied,
    Unsupported,
)
from byenatos_sdk.protocol.messages import Failure, Terminal

__all__ = ["Measurements", "Outcome", "percentile"]

MOST = 1024
NOT_THE_MODELS = frozenset(
    error.code
    for error in (Cancelled, ClientTooSlow, ContentFiltered, Draining, InvalidRequest, PermissionDenied, Unsupported)
)
"""What ends a request without the model having failed."""


class Outcome(Struct, frozen=True, gc=False):
    """One request that ended, or left a model that failed it, ``at`` a loop time.

    ``code`` is empty if it was answered; ``failed`` if it was not and that was the model's doing. ``first_s``: from the
    request to its first delta (``None``: there was none). ``took_s``: to its end. ``characters`` of the answer, about.
    ``moves``: how often it changed its place. ``tokens`` of the answer, if its driver counted them.
    """

    at: float
    epoch: int
    model: str
    code: str
    failed: bool
    first_s: float | None
    took_s: float
    characters: int
    moves: int
    tokens: int | None = None


class Measurements:
    """Keeps the outcomes by slot; ``clock`` is the loop's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._outcomes: dict[str, deque[Outcome]] = {}

    def ended(self, stream: Stream, terminal: Terminal) -> None:
        """Keep what became of a stream; those that address no slot are not measured."""
        if isinstance(terminal, Failure):
            self._keep(stream, terminal.code)
        else:
            self._keep(stream, "", terminal.usage.output_tokens)

    def left(self, stream: Stream, code: str) -> None:
        """A stream goes on elsewhere since its model failed it: that counts against the model, whatever follows."""
        self._keep(stream, code)

    def _keep(self, stream: Stream, code: str, tokens: int | None = None) -> None:
        if stream.slot is None:
            return
        now = self._clock()
        outcome = Outcome(
            at=now,
            epoch=stream.epoch,
            model=stream.model,
            code=code,
            failed=bool(code) and code not in NOT_THE_MODELS,
            first_s=stream.first_at - stream.opened_at if stream.first_at else None,
            took_s=now - stream.opened_at,
            characters=stream.total,
            moves=stream.moves,
            tokens=tokens,
        )
        kept = self._outcomes.get(stream.slot)
        if kept is None:
            kept = self._outcomes[stream.slot] = deque(maxlen=MOST)
        kept.append(outcome)

    def latest(self, slot: str) -> Outcome | None:
        """The outcome of a slot's request that ended last."""
        kept = self._outcomes.get(slot)
        return kept[-1] if kept else None

    def since(self, slot: str, at: float) -> list[Outcome]:
        """The outcomes of a slot since a loop time, the oldest first."""
        return [one for one in self._outcomes.get(slot, ()) if one.at >= at]


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of ``values`` lie; 0 if there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
