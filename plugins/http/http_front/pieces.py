"""A streamed answer in the pieces in which it is sent: what has come since the last one, or a sign of life.

What Unicode calls a line's end and JSON does not (U+2028, U+2029, U+0085) is escaped, for many clients read a stream
with text libraries that end a line there, in the middle of an event.

One timer watches over a stream. It is not moved with every delta, which would cost as much as the delta itself: when it
fires it sees when something was heard last, and waits for what is left of the time.
"""

import asyncio
from collections.abc import Awaitable, Callable

from byenatos_sdk.client import AsyncStream
from byenatos_sdk.formats.contract import StreamEncoder
from byenatos_sdk.formats.ndjson import in_lines
from byenatos_sdk.formats.streams import failure_of
from byenatos_sdk.protocol.answer import Answer, error_from
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Delta, Failure, InferenceResponse
from http_front.choices import Choices

__all__ = ["FIRST_S", "KEEP_ALIVE_S", "Ended", "Pieces"]

FIRST_S = 15.0
"""How long nothing is sent before the first delta: then the stream begins without it."""
KEEP_ALIVE_S = 15.0

Ended = Callable[[InferenceResponse], Awaitable[None]]


class Pieces:
    """An iterator of the pieces; ``ended`` is handed the whole answer before the piece that says its end."""

    def __init__(self, stream: AsyncStream | Choices, encoder: StreamEncoder, ended: Ended | None) -> None:
        self._stream = stream
        self._encoder = encoder
        self._ended = ended
        self._answer = Answer()
        self._first: list[Delta] | None = None
        self._failed = False
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time() + FIRST_S - KEEP_ALIVE_S
        self._timer = self._loop.call_later(FIRST_S, self._look)

    async def begin(self) -> None:
        """Wait until there is a piece.

        Raises:
            ByenatosError: the answer ended before it began.
        """
        try:
            self._first = first = await self._stream.several()
        except BaseException:
            await self.aclose()
            raise
        if first and isinstance(first[0], Failure):
            await self.aclose()
            raise error_from(first[0])

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise StopAsyncIteration
        try:
            deltas, self._first = self._first, None
            if deltas is None:
                deltas = await self._stream.several()
            if not deltas:
                if self._stream.ended:
                    raise StopAsyncIteration
                return self._encoder.keep_alive()
            self._heard = self._loop.time()
            if self._ended is not None:
                await self._keep(deltas, self._ended)
            return in_lines(self._encoder.encode(deltas))
        except ByenatosError as error:
            self._failed = True
            return self._encoder.encode([failure_of(error, partial=True)])

    @property
    def over(self) -> bool:
        """Whether the piece that was given last was the last one."""
        return self._failed or self._stream.ended

    async def aclose(self) -> None:
        """Leave the stream; what runs for it is stopped."""
        self._timer.cancel()
        await self._stream.aclose()

    async def _keep(self, deltas: list[Delta], ended: Ended) -> None:
        if not isinstance(deltas[-1], Failure):
            for delta in deltas:
                self._answer.add(delta)
            if self._answer.finish is not None:
                await ended(self._answer.response())

    def _look(self) -> None:
        """Wake whoever waits, if nothing was heard for too long."""
        left_s = self._heard + KEEP_ALIVE_S - self._loop.time()
        if left_s <= 0:
            self._stream.nudge()
            left_s = KEEP_ALIVE_S
        self._timer = self._loop.call_later(left_s, self._look)
