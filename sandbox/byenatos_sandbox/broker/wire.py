"""A stream of bytes with back-pressure both ways, whose end is heard of at once and not only by whoever reads.

asyncio's own streams tell only a reader that the other side left. Here a driver that goes away while its vendor thinks
is heard of in the same turn of the loop, and the vendor's connection goes with it.
"""

import asyncio
from collections.abc import Callable

__all__ = ["Wire"]

HIGH_WATER = 64 << 10


class Wire(asyncio.Protocol):
    """One connection, to a driver or to a vendor. ``on_gone`` is called once, when the other side has left."""

    __slots__ = (
        *("_chunks", "_drained", "_eof", "_full", "_gone", "_held", "_readable", "_taker", "_transport"),
        "on_gone",
    )

    def __init__(self, on_gone: Callable[[], None] | None = None) -> None:
        self.on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._held = 0
        self._eof = self._gone = self._full = False
        self._readable: asyncio.Future[None] | None = None
        self._taker: Callable[[], bool] | None = None
        self._drained: asyncio.Future[None] | None = None

    # ---- what asyncio calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Keep what came; stop reading when nobody takes it."""
        self._chunks.append(data)
        self._held += len(data)
        if self._held > HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """The other side will send no more; there is nothing to do for one that half leaves."""
        self._leave()

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone."""
        self._gone = True
        self._leave()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def pause_writing(self) -> None:
        """The other side does not keep up."""
        self._full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # ---- what the broker calls ---------------------------------------------------------------------------------

    @property
    def transport(self) -> asyncio.Transport:
        """The transport under it."""
        assert self._transport is not None
        return self._transport

    @property
    def open(self) -> bool:
        """Whether the other side is there."""
        return not self._eof and self._transport is not None and not self._transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether nothing came that nobody read."""
        return not self._chunks

    @property
    def ended(self) -> bool:
        """Whether nothing more will come than has come."""
        return self._eof

    @property
    def full(self) -> bool:
        """Whether the other side does not keep up."""
        return self._full and not self._gone

    async def readable(self, taker: Callable[[], bool] | None = None) -> None:
        """Wait until something came or nothing more will come.

        ``taker`` is called when something comes, in the same turn of the loop, and says whether it wants to be called
        again: only when it does not is the wait over. What it raises is raised here.
        """
        if not self._chunks and not self._eof:
            waiting = self._readable = asyncio.get_running_loop().create_future()
            self._taker = taker
            try:
                await waiting
            finally:
                self._readable = self._taker = None
                if not waiting.cancelled():
                    waiting.exception()  # which nobody hears of who was cancelled in the same turn

    async def read(self) -> bytes:
        """Return what came, waiting for something; empty at the end."""
        await self.readable()
        return self.take()

    def take(self) -> bytes:
        """Return what came; empty if that is nothing."""
        if not self._chunks:
            return b""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._held > HIGH_WATER and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._held = 0
        return data

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None and not self._gone:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the other side has taken enough.

        Raises:
            ConnectionError: it is gone.
        """
        if self._full and not self._gone:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        if self._gone:
            raise ConnectionResetError("the other side is gone")

    def close(self) -> None:
        """Send what is on its way and close."""
        self.on_gone = None
        if self._transport is not None and not self._transport.is_closing():  # twice breaks TLS of Python 3.11.2
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self.on_gone = None
        if self._transport is not None:
            self._transport.abort()

    # ---- private -----------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        self._eof = True
        self._wake()
        if self.on_gone is not None:
            told, self.on_gone = self.on_gone, None
            told()

    def _wake(self) -> None:
        if self._readable is None or self._readable.done():
            return
        try:
            if self._taker is None or not self._taker():
                self._readable.set_result(None)
        except Exception as error:  # noqa: BLE001 - whoever waits is told, and not the transport
            self._readable.set_exception(error)
