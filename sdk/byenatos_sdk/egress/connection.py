"""A connection to the egress broker: one request and its answer at a time, under deadlines, and closed at once.

Closing is how an answer is cancelled: the broker hears of it in the same turn of its loop and breaks the exchange with
the vendor off. What nobody reads is bounded: beyond ``HIGH_WATER`` the connection is not read either, so that a vendor
who is faster than the application slows down. What goes up is bounded too: a large request, with images in it, is
written in pieces as fast as the broker takes them, and copied nowhere on its way: what is held back of it
(``formats.uploads``) is put into base64 as it leaves.
"""

import asyncio
from collections.abc import Callable, Iterator

from byenatos_sdk.egress.framing import MAX_HEAD, Body, Head, Violation, body_of, read_head
from byenatos_sdk.formats.uploads import PIECE, Upload

__all__ = ["Closed", "Connection"]

HIGH_WATER = 256 << 10
DRAIN_S = 1.0
DRAIN_BYTES = 64 << 10
"""What may come after the end of an answer that was read as far as it mattered, before the connection is given up."""


class Closed(ConnectionError):
    """The connection ended before the answer did. ``begun``: some of the answer had come."""

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class Connection(asyncio.Protocol):
    """One stream that the broker handed out. ``on_free`` hears when another request may be sent on it."""

    def __init__(self, on_free: Callable[["Connection"], None], on_gone: Callable[["Connection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._on_free = on_free
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._unsent: Iterator[bytes | memoryview] = iter(())
        self._left = 0  # bytes that it will yield
        self._full = False
        self._head: Head | None = None
        self._body: Body | None = None
        self._data = b""
        self._content: list[bytes] = []
        self._held = 0
        self._error: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._drained = -1  # bytes thrown away since the answer was left; -1: it is read
        self._drain_timer: asyncio.TimerHandle | None = None
        self._busy = self._bodiless = False
        self._going_up = False  # more of the request is to be written
        self.idle_since = 0.0

    # ---- what asyncio calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=PIECE)

    def pause_writing(self) -> None:
        """The broker does not keep up."""
        self._full = True

    def resume_writing(self) -> None:
        """It does again."""
        self._full = False
        self._push()
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take in a part of the answer."""
        try:
            self._take(data)
        except Violation as violation:
            self._fail(violation)
        else:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._cancel_timers()
        self._unsent, self._left = iter(()), 0
        if self._body is not None:
            self._body.closed()
        self._fail(Closed(str(error or "the connection ended"), begun=self._head is not None))
        self._on_gone(self)

    # ---- what a driver calls -----------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether a request may be sent now."""
        return not self._busy and self._error is None and self._transport is not None

    def send(self, head: bytes, body: bytes | Upload = b"", *, bodiless: bool = False) -> None:
        """Send a request; what does not leave at once follows while the answer is awaited.

        ``bodiless``: its method says that the answer is a head without a body.
        """
        self._ask(bodiless=bodiless)
        assert self._transport is not None
        if isinstance(body, bytes) and len(body) <= PIECE:
            self._transport.write(head + body)
            return
        self._transport.write(head)
        self._unsent = (Upload([(body, None)]) if isinstance(body, bytes) else body).pieces()
        self._left = len(body)
        self._push()

    def begin(self, head: bytes, *, bodiless: bool = False) -> None:
        """Send the head of a request whose body is still being made: :meth:`write` it, then :meth:`end` it."""
        self._ask(bodiless=bodiless)
        assert self._transport is not None
        self._going_up = True
        self._transport.write(head)

    async def write(self, data: bytes, due: float) -> bool:
        """Go on with the request, as fast as the broker takes it; false once it is answered already.

        Raises:
            TimeoutError: the broker did not take it until ``due``.
            ConnectionError: the connection broke.
        """
        assert self._transport is not None
        if self._error is None:
            self._transport.write(data)
        while self._head is None and (self._full or self._error is not None):
            await self._wait(due)
        return self._head is None

    def end(self, data: bytes) -> None:
        """Send the last of the request."""
        assert self._transport is not None
        self._transport.write(data)
        self._going_up = False

    async def head(self, due: float) -> Head:
        """Wait for the answer to begin, until ``due`` (in the loop's time).

        Raises:
            TimeoutError: it did not.
            ConnectionError: the connection broke, or what came is no HTTP.
        """
        while self._head is None:
            await self._wait(due)
        return self._head

    async def read(self, due: float) -> bytes:
        """Return what came of the answer's body, waiting for something; empty at its end.

        Raises:
            TimeoutError: nothing came until ``due``.
            ConnectionError: the connection broke before the end.
        """
        while not self._content:
            if self._body is not None and self._body.over:
                return b""
            await self._wait(due)
        content = self._content[0] if len(self._content) == 1 else b"".join(self._content)
        self._content.clear()
        if self._held > HIGH_WATER and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._held = 0
        return content

    def leave(self) -> None:
        """Be done with the answer: keep the connection if little is left of it, else break it off."""
        if not self._busy:
            return
        if self._error is not None or self._body is None:
            self.abort()
        elif self._body.over:
            self._free()
        else:
            self._content.clear()
            self._held = self._drained = 0
            assert self._transport is not None
            self._transport.resume_reading()
            self._drain_timer = self._loop.call_later(DRAIN_S, self.abort)

    def drop(self) -> None:
        """Break off the exchange that was begun, unless it was left already."""
        if self._busy:
            self.abort()

    def abort(self) -> None:
        """Break off what goes on, now."""
        self._cancel_timers()
        if self._error is None:
            self._error = Closed("the connection was closed by this side", begun=self._head is not None)
        if self._transport is not None:
            self._transport.abort()

    # ---- private -----------------------------------------------------------------------------------------------

    def _ask(self, *, bodiless: bool) -> None:
        """Begin with a request."""
        assert self.usable
        self._busy = True
        self._bodiless = bodiless
        self._head = self._body = None
        self._content.clear()
        self._held = 0

    def _push(self) -> None:
        """Write what is left of the request, as long as the broker keeps up."""
        while self._left and not self._full and self._transport is not None and not self._transport.is_closing():
            piece = next(self._unsent)
            self._left -= len(piece)
            if not self._left:
                self._unsent = iter(())  # it holds all of the body
            self._transport.write(piece)

    def _take(self, data: bytes) -> None:
        while self._body is None:
            self._data += data
            end = self._data.find(b"\r\n\r\n")
            if not self._busy or len(self._data if end < 0 else self._data[:end]) > MAX_HEAD:
                raise Violation("expected an answer to what was asked, found something else, or a head without an end")
            if end < 0:
                return
            head = read_head(self._data[:end])
            data, self._data = self._data[end + 4 :], b""
            if head.status >= 200:
                self._head, self._body = head, body_of(head, bodiless=self._bodiless)
        if not data:
            pass
        elif self._drained >= 0:
            self._drained += len(data)
            self._body.feed(data)
            if self._drained > DRAIN_BYTES:
                self.abort()
        elif content := self._body.feed(data):
            self._content.append(content)
            self._held += len(content)
            if self._held > HIGH_WATER and self._transport is not None:
                self._transport.pause_reading()
        if self._body.rest:
            raise Violation("expected the end of an answer, found more")
        if self._body.over and self._drained >= 0:
            self._free()

    def _free(self) -> None:
        """Another request may follow."""
        assert self._head is not None
        self._cancel_timers()
        if self._head.headers.get("connection", "").lower() == "close" or self._unfinished:
            self.abort()  # of what was not sent the broker would make the next request
            return
        self._busy = False
        self._drained = -1
        self._body = self._head = None
        self.idle_since = self._loop.time()
        self._on_free(self)

    @property
    def _unfinished(self) -> bool:
        """Whether the exchange is not over although the answer is."""
        return self._error is not None or self._left > 0 or self._going_up

    def _fail(self, error: ConnectionError) -> None:
        if self._error is None:
            self._error = error
            if self._transport is not None:
                self._transport.abort()
        self._wake()

    async def _wait(self, due: float) -> None:
        if self._error is not None:
            raise self._error
        self._due = due
        if self._timer is None or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _look(self) -> None:
        """The timer rang: perhaps for an earlier deadline than the one that counts now."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
        elif not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._drain_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._drain_timer = None
