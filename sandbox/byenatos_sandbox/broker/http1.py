"""HTTP/1.1 to a vendor: one exchange at a time, the connection kept for the next."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

from byenatos_sandbox.broker.bodies import CHUNKED, Incoming, MalformedBodyError, Outgoing
from byenatos_sandbox.broker.framing import MAX_HEAD, Answer, parse_answer, write_head
from byenatos_sandbox.broker.keys import Header
from byenatos_sandbox.broker.upstream import Head, Order, UpstreamError
from byenatos_sandbox.broker.wire import Wire

__all__ = ["Http1"]

MOST_INTERIM = 20
"""Answers that say that the answer is to come: so many at most."""
_TARGET: Final = re.compile(rb"[!-~]+")
_NO_HTTP = "the vendor sent what is no HTTP/1.1"


class Http1:
    """A connection, which is its own exchange: there is never another at the same time."""

    multiplexed = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._queued: list[bytes] = []
        self._busy = False
        self._method = b""
        self._request = Outgoing(0)
        self._answer: Answer | None = None
        self._body = Incoming(0)
        self._data = b""
        self._loop = asyncio.get_running_loop()
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin now; what was sent unasked ends the connection."""
        return not self._busy and not self.closed and self._wire.quiet

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return not self._wire.open

    def begin(self, order: Order) -> "Http1":
        """Queue the head of a request."""
        headers: list[Header] = [(b"host", order.authority), *order.headers, (b"accept-encoding", b"identity")]
        self._busy = True
        head = write_head(b"%b %b HTTP/1.1" % (order.method, order.target), headers)
        if head is None or not _TARGET.fullmatch(order.target):
            self.close()
            raise UpstreamError("the request has a header that cannot be sent")
        length = 0
        for name, value in order.headers:
            if name == b"transfer-encoding":
                length = CHUNKED
            elif name == b"content-length":
                length = int(value)
        self._method = order.method
        self._request = Outgoing(length)
        self._answer = None
        self._queued.append(head)
        return self

    def send(self, data: bytes) -> None:
        """Queue a piece of the body."""
        try:
            self._queued.append(self._request.data(data))
        except MalformedBodyError:
            raise UpstreamError("the request's body is longer than it said") from None

    def finish(self) -> None:
        """Queue the end of the request."""
        try:
            self._queued.append(self._request.end())
        except MalformedBodyError:
            raise UpstreamError("the request's body is shorter than it said") from None

    async def flush(self) -> None:
        """Write what is queued and wait until the vendor has room."""
        if self._queued:
            data = b"".join(self._queued)
            self._queued.clear()
            self._wire.write(data)
        try:
            await self._wire.drain()
        except ConnectionError:
            raise UpstreamError("the connection broke") from None

    async def head(self) -> Head:
        """Wait for the answer to begin."""
        for _ in range(MOST_INTERIM):
            found = await self._head()
            if found.status >= 200:
                self._answer = found
                self._body = Incoming(found.length)
                return Head(found.status, found.headers)
            if found.status == 101:
                break
        raise UpstreamError("the vendor sent what is no answer")

    def take(self) -> bytes | None:
        """Return what is here of the answer, empty if that is nothing yet; ``None`` at its end."""
        if self._body.over:
            return None
        body = self._body
        data = self._data or self._wire.take()
        self._data = b""
        try:
            if data:
                content = body.feed(data)
                return None if body.over and not content else content
            if self._wire.ended:
                body.end()
                return None
        except MalformedBodyError:
            if data:
                raise UpstreamError(_NO_HTTP) from None
            raise UpstreamError("the vendor broke the connection off in the middle of an answer") from None
        return b""

    async def more(self, taker: Callable[[], bool]) -> None:
        """Wait until there may be something to take; ``taker`` takes it in the same turn of the loop."""
        await self._wire.readable(taker)

    def close(self) -> None:
        """Close the connection, and break off what goes on over it."""
        self._wire.abort()

    def release(self) -> None:
        """Keep the connection for the next exchange if this one is over; else break it off."""
        self._busy = False
        over = self._request.over and self._answer is not None and self._answer.lasting and self._body.over
        unasked = self._data or self._body.rest or not self._wire.quiet  # would be taken for the next answer
        if over and self._wire.open and not self._queued and not unasked:
            self.idle_since = self._loop.time()
        else:
            self._wire.abort()

    # ---- private -----------------------------------------------------------------------------------------------

    async def _head(self) -> Answer:
        while (end := self._data.find(b"\r\n\r\n")) < 0 and len(self._data) <= MAX_HEAD:
            data = await self._wire.read()
            if not data:
                raise UpstreamError("the vendor broke the connection off")
            self._data += data
        found = parse_answer(self._data[: end + 4], self._method) if 0 <= end <= MAX_HEAD else None
        if found is None:
            raise UpstreamError(_NO_HTTP)
        self._data = self._data[end + 4 :]
        return found
