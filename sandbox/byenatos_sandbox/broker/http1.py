"""HTTP/1.1 to a vendor, by h11: one exchange at a time, the connection kept for the next."""

import asyncio

import h11

from byenatos_sandbox.broker.keys import Header
from byenatos_sandbox.broker.upstream import Head, Order, UpstreamError
from byenatos_sandbox.broker.wire import Wire

__all__ = ["Http1"]

MAX_HEAD = 64 << 10


class Http1:
    """A connection, which is its own exchange: there is never another at the same time."""

    multiplexed = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._queued: list[bytes] = []
        self._busy = False
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
        try:
            request = h11.Request(method=order.method, target=order.target, headers=headers)
        except h11.LocalProtocolError:  # its text quotes the header, which may be the one with the key
            self.close()
            raise UpstreamError("the request has a header that cannot be sent") from None
        self._queue(request)
        return self

    def send(self, data: bytes) -> None:
        """Queue a piece of the body."""
        self._queue(h11.Data(data=data))

    def finish(self) -> None:
        """Queue the end of the request."""
        self._queue(h11.EndOfMessage())

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
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return Head(event.status_code, list(event.headers))
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise UpstreamError("the vendor sent what is no answer")

    def take(self) -> bytes | None:
        """Return what is here of the answer, empty if that is nothing yet; ``None`` at its end."""
        event = self._ready()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if event is h11.NEED_DATA:
            return b""
        if isinstance(event, h11.EndOfMessage):
            return None
        raise UpstreamError("the vendor broke the connection off in the middle of an answer")

    async def more(self) -> None:
        """Wait until there may be something to take."""
        await self._wire.readable()

    def close(self) -> None:
        """Close the connection, and break off what goes on over it."""
        self._wire.abort()

    def release(self) -> None:
        """Keep the connection for the next exchange if this one is over; else break it off."""
        self._busy = False
        over = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        unasked = self._http.trailing_data[0] or not self._wire.quiet  # would be taken for the next answer
        if over and self._wire.open and not self._queued and not unasked:
            self._http.start_next_cycle()
            self.idle_since = self._loop.time()
        else:
            self._wire.abort()

    # ---- private -----------------------------------------------------------------------------------------------

    def _queue(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError:
            raise UpstreamError("the request's body is not as long as it said, or the answer has ended it") from None
        if data:
            self._queued.append(data)

    async def _next(self) -> object:
        while (event := self._ready()) is h11.NEED_DATA:
            await self._wire.readable()
        return event

    def _ready(self) -> object:
        try:
            if not self._wire.quiet:  # asking h11 first would cost as much again
                self._http.receive_data(self._wire.take())
            while (event := self._http.next_event()) is h11.NEED_DATA and self._wire.ended:
                self._http.receive_data(self._wire.take())
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            reason = "sent what is no HTTP/1.1" if self._wire.open else "broke the connection off"
            raise UpstreamError(f"the vendor {reason}") from None
        return event
