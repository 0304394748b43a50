"""A stream at a new place that has not proved itself there yet: it may still go back.

The proof is the first word. It must come within three of the stream's own token times, as measured where it was; a
fast model is given :data:`FLOOR_S`, which a process needs to do anything for the first time on a busy machine, and a
move by text the time that reading the text takes on top. Else, or if the new place fails before, the stream goes back.
"""

import asyncio
from collections.abc import Callable

from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["FLOOR_S", "Trial", "patience_s"]

FLOOR_S = 1.0
TOKEN_TIMES = 3
TOKEN_CHARACTERS = 4
"""About how many characters a token has: the kernel counts no tokens."""


class Trial:
    """``undo`` puts the stream where it goes if it fails. ``left_at``: when its last word came at its old place.

    ``over`` is done when it is known how it ended: ``failure`` says why the stream is not at the new place.
    """

    def __init__(self, stream: Stream, undo: Callable[[ByenatosError], bool], left_at: float) -> None:
        self.total = stream.total
        self.failure: ByenatosError | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pause_s = 0.0
        self._stream = stream
        self._undo = undo
        self._left_at = left_at

    def heard(self, at: float) -> None:
        """The first word came at the new place."""
        if not self.pause_s:
            self.pause_s = max(at - self._left_at, 0.0)
        self.end()

    def failed(self, error: ByenatosError) -> bool:
        """The new place failed: put the stream elsewhere; return ``False`` if it has said a word there, or cannot."""
        if self._stream.total != self.total or self.failure is not None:
            return False
        self.failure = error
        self._stream.trial = None
        if not self._undo(error):
            self.failure = None  # there is no way back: it is where it is
        self.end()
        return self.failure is not None

    def end(self) -> None:
        """Nobody needs to wait for the outcome any longer."""
        if not self.over.done():
            self.over.set_result(None)


def patience_s(stream: Stream) -> float:
    """How long a stream's first word at a new place is waited for, beside what reading takes there."""
    tokens = stream.total / TOKEN_CHARACTERS
    spoke_s = max(stream.progress - stream.first_at, 0.0) if stream.first_at else 0.0
    return max(FLOOR_S, TOKEN_TIMES * spoke_s / tokens if tokens > 1 else 0.0)
