"""HTTP/2 to a vendor, by h2: many exchanges over one connection, each with a window of its own.

A window is opened again only as the driver takes what came, so that a driver that does not read holds back its own
answer and nobody else's.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from byenatos_sandbox.broker.upstream import Head, Order, UpstreamError
from byenatos_sandbox.broker.wire import Wire

__all__ = ["Http2"]

MAX_HEAD = 64 << 10
STREAM_WINDOW = 256 << 10
CONNECTION_WINDOW = 2 << 20
MOST_EXCHANGES = 100
_SPLIT = 64 << 10


class Http2:
    """A connection and its exchanges; a task of its own reads it."""

    multiplexed = True

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.http = h2.connection.H2Connection(config)
        self.http.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: MOST_EXCHANGES,
            },
        )
        self.http.initiate_connection()
        self.http.increment_flow_control_window(CONNECTION_WINDOW)
        self._exchanges: dict[int, _Exchange] = {}
        self._leaving = False
        self.idle_since = 0.0
        self.flush()
        self._reader = self._loop.create_task(self._read())

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin now."""
        most = min(self.http.remote_settings.max_concurrent_streams, MOST_EXCHANGES)
        return not self._leaving and self._wire.open and len(self._exchanges) < most

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return not self._wire.open or (self._leaving and not self._exchanges)

    def begin(self, order: Order) -> "_Exchange":
        """Queue the head of a request."""
        try:
            number = self.http.get_next_available_stream_id()
            exchange = _Exchange(self, number, order)
        except h2.exceptions.ProtocolError:
            self._leaving = True
            raise UpstreamError("the connection takes no more requests") from None
        self._exchanges[number] = exchange
        return exchange

    def flush(self) -> None:
        """Write what h2 has for the vendor."""
        data = self.http.data_to_send()
        if data:
            self._wire.write(data)

    async def drain(self) -> None:
        """Wait until the vendor has room."""
        try:
            await self._wire.drain()
        except ConnectionError:
            raise UpstreamError("the connection broke") from None

    def forget(self, number: int) -> None:
        """An exchange is over."""
        self._exchanges.pop(number, None)
        self.idle_since = self._loop.time()
        if self._leaving and not self._exchanges:
            self.close()

    def close(self) -> None:
        """Close the connection, and break off what goes on over it."""
        self._leaving = True
        self._reader.cancel()
        self._wire.abort()
        self._fail("the connection was closed")

    # ---- private -----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        reason = "the vendor broke the connection off"
        try:
            while data := await self._wire.read():
                for event in self.http.receive_data(data):
                    self._take(event)
                self.flush()
                await self._wire.drain()  # a vendor that asks for answers has to read them
        except h2.exceptions.ProtocolError:
            reason = "the vendor sent what is no HTTP/2"
            self.flush()
        except ConnectionError:
            pass
        finally:
            self._leaving = True
            self._wire.close()
            self._fail(reason)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self._leaving = True
            for late in [one for one in self._exchanges if one > (event.last_stream_id or 0)]:
                self._exchanges[late].fail("the vendor ends the connection and did not take this request")
            return
        if isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            for exchange in list(self._exchanges.values()):
                exchange.wake()
            return
        found = self._exchanges.get(getattr(event, "stream_id", None) or 0)
        if found is not None:
            found.note(event)
        elif isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            # of an exchange that was broken off: the connection's window is given back
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _fail(self, reason: str) -> None:
        for exchange in list(self._exchanges.values()):
            exchange.fail(reason)


class _Exchange:
    """One stream of the connection."""

    def __init__(self, connection: Http2, number: int, order: Order) -> None:
        self._connection = connection
        self._number = number
        self._queued = bytearray()
        self._finishing = self._finished = False
        self._head: Head | None = None
        self._data: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._failure = ""
        self._changed: set[asyncio.Future[None]] = set()
        headers = [(b":method", order.method), (b":scheme", b"https"), (b":authority", order.authority)]
        headers += [(b":path", order.target), *order.headers, (b"accept-encoding", b"identity")]
        connection.http.send_headers(number, headers)

    def send(self, data: bytes) -> None:
        """Queue a piece of the body."""
        self._queued += data

    def finish(self) -> None:
        """Queue the end of the request."""
        self._finishing = True

    async def flush(self) -> None:
        """Write what is queued, as fast as the windows open."""
        http = self._connection.http
        try:
            while self._queued:
                self._check()
                room = min(http.local_flow_control_window(self._number), http.max_outbound_frame_size, _SPLIT)
                if room <= 0:
                    self._connection.flush()
                    await self._change()
                    continue
                piece = bytes(self._queued[:room])
                del self._queued[:room]
                last = self._finishing and not self._queued
                http.send_data(self._number, piece, end_stream=last)
                self._finished = self._finished or last
                self._connection.flush()
                await self._connection.drain()
            if self._finishing and not self._finished:
                self._finished = True
                self._check()
                http.end_stream(self._number)
        except h2.exceptions.ProtocolError:
            raise UpstreamError("the vendor has ended the request") from None
        self._connection.flush()

    async def head(self) -> Head:
        """Wait for the answer to begin."""
        while self._head is None:
            self._check()
            await self._change()
        return self._head

    def take(self) -> bytes | None:
        """Return what is here of the answer and open the window again by as much; ``None`` at its end."""
        if not self._data:
            if self._ended:
                return None
            self._check()
            return b""
        pieces, credit = [], 0
        while self._data:
            data, size = self._data.popleft()
            pieces.append(data)
            credit += size
        if credit:
            with suppress(h2.exceptions.ProtocolError):  # the stream is over: there is no window any more
                self._connection.http.acknowledge_received_data(credit, self._number)
            self._connection.flush()
        return b"".join(pieces)

    async def more(self, _taker: Callable[[], bool]) -> None:
        """Wait until there may be something to take."""
        await self._change()

    def release(self) -> None:
        """Be done with it; one that is not over is reset."""
        if not (self._ended and self._finished) and not self._failure:
            with suppress(h2.exceptions.ProtocolError):
                self._connection.http.reset_stream(self._number, h2.errors.ErrorCodes.CANCEL)
        credit = sum(size for _, size in self._data)
        if credit:
            with suppress(h2.exceptions.ProtocolError):
                self._connection.http.acknowledge_received_data(credit, self._number)
        self._data.clear()
        self._connection.flush()
        self._connection.forget(self._number)

    # ---- what the connection calls -----------------------------------------------------------------------------

    def note(self, event: h2.events.Event) -> None:
        """Take an event of this stream."""
        if isinstance(event, h2.events.DataReceived):
            self._data.append((event.data or b"", event.flow_controlled_length or 0))
        elif isinstance(event, h2.events.ResponseReceived):
            found = [(bytes(name), bytes(value)) for name, value in event.headers or []]
            status = dict(found).get(b":status", b"")
            if status.isdigit() and len(status) == 3:
                self._head = Head(int(status), [one for one in found if not one[0].startswith(b":")])
            else:
                self._failure = "the vendor sent an answer without a status"
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True
        elif isinstance(event, h2.events.StreamReset):
            self._failure = "the vendor broke the request off"
        self.wake()

    def fail(self, reason: str) -> None:
        """Nothing more will come."""
        self._failure = self._failure or reason
        self.wake()

    def wake(self) -> None:
        """Have whoever waits look again."""
        for future in self._changed:
            if not future.done():
                future.set_result(None)

    # ---- private -----------------------------------------------------------------------------------------------

    async def _change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        try:
            await future
        finally:
            self._changed.discard(future)

    def _check(self) -> None:
        if self._failure and not self._ended:
            raise UpstreamError(self._failure)
