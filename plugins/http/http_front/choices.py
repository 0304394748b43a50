"""Several answers to one request, read side by side as if they were one stream, and written into one."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from byenatos_sdk.client.aio_streams import AsyncStream
from byenatos_sdk.formats.contract import ChoicesEncoder
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Delta, Failure

__all__ = ["Choices"]

_Batch: TypeAlias = list[Delta] | ByenatosError
_WAITING = 2
"""Batches of deltas, per answer, that are read ahead of the client."""


class Choices:
    """A stream and its encoder in one, for :class:`Answering`: a batch of deltas is always one answer's.

    The first failure ends all of them, for the client's stream has no place for what comes after an error.
    """

    def __init__(self, streams: Sequence[AsyncStream], encoder: ChoicesEncoder) -> None:
        self.content_type = encoder.content_type
        self._encoder = encoder
        self._streams = streams
        self._batches: asyncio.Queue[tuple[int, _Batch | None]] = asyncio.Queue(_WAITING * len(streams))
        self._open = len(streams)
        self._current = 0
        loop = asyncio.get_running_loop()
        self._readers = [loop.create_task(self._read(number, stream)) for number, stream in enumerate(streams)]

    async def several(self) -> list[Delta]:
        """Wait for the next batch of any answer; nothing after the end of all, or when it is nudged.

        Raises:
            ByenatosError: the connection to the kernel ended.
        """
        while self._open:
            self._current, batch = await self._batches.get()
            if batch is None:
                break
            if isinstance(batch, ByenatosError):
                self._open = 0
                raise batch
            if batch:
                if isinstance(batch[-1], Failure):
                    self._open = 0
                return batch
            self._open -= 1
        return []

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return not self._open

    def nudge(self) -> None:
        """Wake whoever waits though nothing has come."""
        if self._batches.empty():
            self._batches.put_nowait((self._current, None))

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Write the batch that was read last."""
        return self._encoder.encode(deltas, self._current)

    def keep_alive(self) -> bytes:
        """Return what means nothing."""
        return self._encoder.keep_alive()

    async def aclose(self) -> None:
        """Leave all of them."""
        for reader in self._readers:
            reader.cancel()
        for stream in self._streams:
            await stream.aclose()

    async def _read(self, number: int, stream: AsyncStream) -> None:
        more = True
        while more:
            try:
                batch: _Batch = await stream.several()
            except ByenatosError as error:
                batch = error
            more = isinstance(batch, list) and bool(batch)
            await self._batches.put((number, batch))
