"""One HTTP/1.1 connection: httptools parses, this decides.

What must stay true:

- Nothing that a client sends grows without bound: head, body, pipelined requests and what it does not read are limited,
  and each phase has a deadline, so that a client that trickles is closed like one that floods.
- Requests of a connection are answered one after the other, in order; while one is answered the connection is read on,
  so that its end is seen at once and what runs for it is cancelled.
- An answer that breaks off in the middle ends in a cut connection, never in the end mark of a whole one.
"""

import asyncio
import email.utils
import sys
import time
import traceback
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus

import httptools

from http_front.exchange import Request, Response, Stream
from http_front.limits import Limits

__all__ = ["Connection", "Server"]

Handler = Callable[[Request], Awaitable[Response | Stream]]

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_SERVER = b"server: byenatos\r\n"
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_TICK_S = 1.0


class Server:
    """What the connections of one worker share."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self.loop = asyncio.get_running_loop()
        self._date = b""
        self._date_at = -1
        self._empty = asyncio.Event()
        self._timer = self.loop.call_later(_TICK_S, self._tick)

    def protocol(self) -> "Connection":
        """Make the protocol of a new connection."""
        return Connection(self)

    @property
    def date(self) -> bytes:
        """The header with today's date, made once a second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = f"date: {email.utils.formatdate(now, usegmt=True)}\r\n".encode()
        return self._date

    async def drain(self) -> None:
        """Close connections as soon as they have nothing to answer; return when all are closed."""
        self.draining = True
        for connection in list(self.connections):
            connection.leave_if_idle()
        while self.connections:
            self._empty.clear()
            await self._empty.wait()
        self._timer.cancel()

    def gone(self, connection: "Connection") -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _tick(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(_TICK_S, self._tick)
        for connection in [one for one in self.connections if one.due <= now]:
            connection.overdue()


class Connection(asyncio.Protocol):
    """One connection. ``due`` is when it has taken too long for what it is at."""

    def __init__(self, server: Server) -> None:
        self.due = float("inf")
        self._server = server
        self._limits = server.limits
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._closing = False
        self._began = False
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._inflate: zlib._Decompress | None = None
        self._refused: Response | None = None
        self._read_paused = False

    # ---- asyncio -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        server = self._server
        if server.draining or len(server.connections) >= self._limits.connections:
            self._closing = True
            transport.write(self._head(Response(status=503), 0, close=True))
            transport.close()
            return
        server.connections.add(self)
        self._expect(self._limits.head_s)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the same either way
        """The client left: stop what runs for it."""
        self._closing = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        if self._room is not None:
            self._room.set()
        self._server.gone(self)

    def eof_received(self) -> bool:
        """The client says nothing more; it may still be reading what it asked for."""
        return bool(self._task is not None or self._waiting)

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP is answered by 400 and the end."""
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(Response(b"no other protocol is spoken here\n", 400, "text/plain"))
        except httptools.HttpParserError as error:
            if self._refused is None:
                self._refuse(Response(f"not HTTP/1.1: {error}\n".encode(), 400, "text/plain"))
        if self._refused is not None:
            self._begin()

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        self._room = asyncio.Event()
        self.due = self._server.loop.time() + self._limits.stalled_s

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._room is not None:
            self._room.set()
            self._room = None
        self.due = float("inf")

    # ---- httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._began = True
        self._target = b""
        self._headers = {}
        self._head_bytes = 0
        self._body = []
        self._body_bytes = 0
        self._inflate = None
        if self._task is None:
            self._expect(self._limits.head_s)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of one that is there twice the values are joined, except where that would hide a trick."""
        self._count_head(len(name) + len(value))
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
        if key in self._headers:
            if key in {"host", "content-length", "content-type", "authorization"}:
                self._refuse(Response(f"expected one header {key}, found two\n".encode(), 400, "text/plain"))
                return
            text = f"{self._headers[key]}, {text}"
        elif len(self._headers) >= self._limits.head_count:
            self._refuse(Response(b"too many headers\n", 431, "text/plain"))
            return
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        """The head is whole: the body may come, if it is one that is taken."""
        headers = self._headers
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
        elif encoding not in {"identity", ""}:
            self._refuse(Response(b"expected a body that is plain, gzip or deflate\n", 415, "text/plain"))
            return
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
            self._refuse_body()
            return
        if headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._task is None:
            self._expect(self._limits.body_s)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._refused is not None:
            return
        limit = self._limits.body_bytes
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, limit - self._body_bytes + 1)
            except zlib.error:
                self._refuse(Response(b"the body is not compressed as its header says\n", 400, "text/plain"))
                return
        self._body_bytes += len(data)
        if self._body_bytes > limit:
            self._refuse_body()
            return
        self._body.append(data)
        if self._task is None:
            self._expect(self._limits.body_s)

    def on_message_complete(self) -> None:
        """A request is whole: answer it when its turn comes."""
        if self._refused is not None:
            return
        self._began = False
        method = self._parser.get_method().decode("latin-1")
        request = Request(
            method,
            self._target.decode("latin-1"),
            self._headers,
            b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
            version=self._parser.get_http_version(),
        )
        self._body = []
        self._waiting.append(request)
        if len(self._waiting) > self._limits.pipelined and self._transport is not None and not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()
        self._begin()

    # ---- answering -----------------------------------------------------------------------------------------------

    def leave_if_idle(self) -> None:
        """Close the connection unless a request is being answered or read."""
        if self._task is None and not self._waiting and not self._began:
            self._close()

    def overdue(self) -> None:
        """The client took too long for what it was at."""
        if self._task is not None:
            if self._transport is not None:
                self._transport.abort()
        elif self._began:
            self._refuse(Response(b"the request took too long to come\n", 408, "text/plain"))
            self._begin()
        else:
            self._close()

    def _begin(self) -> None:
        if self._task is None and not self._closing and (self._waiting or self._refused is not None):
            self.due = float("inf")
            self._task = self._server.loop.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        try:
            while self._waiting and not self._closing:
                request = self._waiting.popleft()
                close = not await self._answer(request)
                if close or self._server.draining:
                    self._close()
                    return
                if self._read_paused and self._transport is not None:
                    self._read_paused = False
                    self._transport.resume_reading()
            if self._refused is not None and self._transport is not None:
                self._write(self._head(self._refused, len(self._refused.body), close=True) + self._refused.body)
                self._close()
        except Exception:  # noqa: BLE001 - a handler's mistake costs its connection
            traceback.print_exc(file=sys.stderr)
            self._close()
        finally:
            self._task = None
            if not self._closing:
                self._expect(self._limits.head_s if self._began else self._limits.idle_s)

    async def _answer(self, request: Request) -> bool:
        """Answer one request; return whether the connection goes on."""
        answer = await self._server.handler(request)
        keep = request.keep_alive and not self._server.draining
        if isinstance(answer, Response):
            body = b"" if request.method == "HEAD" else answer.body
            self._write(self._head(answer, len(answer.body), close=not keep) + body)
            return keep
        return await self._send_stream(answer, keep=keep, chunked=request.version == "1.1")

    async def _send_stream(self, stream: Stream, *, keep: bool, chunked: bool) -> bool:
        keep = keep and chunked
        pieces = stream.pieces
        head: bytes | None = self._head(stream, None, close=not keep, chunked=chunked)
        try:
            async for piece in pieces:
                if not piece:
                    continue
                data = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                if head is not None:
                    data, head = head + data, None
                self._write(data)
                if self._room is not None:
                    await self._room.wait()
                if self._closing:
                    return False
        except asyncio.CancelledError:
            raise
        except BaseException:
            if self._transport is not None:
                self._transport.abort()  # a cut that the client can see
            raise
        finally:
            with suppress(AttributeError):
                await pieces.aclose()  # type: ignore[attr-defined]
        self._write((head or b"") + (b"0\r\n\r\n" if chunked else b""))
        return keep

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._closing and data:
            self._transport.write(data)

    def _head(self, answer: Response | Stream, length: int | None, *, close: bool, chunked: bool = False) -> bytes:
        status = answer.status if isinstance(answer, Response) else 200
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n".encode(),
            _SERVER,
            self._server.date,
            f"content-type: {answer.content_type}\r\n".encode(),
        ]
        if length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines += (f"{name}: {_one_line(value)}\r\n".encode() for name, value in answer.headers.items())
        lines.append(b"connection: close\r\n\r\n" if close else b"\r\n")
        return b"".join(lines)

    # ---- ending --------------------------------------------------------------------------------------------------

    def _expect(self, seconds: float) -> None:
        self.due = self._server.loop.time() + seconds

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(Response(b"the head of the request is too large\n", 431, "text/plain"))

    def _refuse_body(self) -> None:
        limit = self._limits.body_bytes
        self._refuse(Response(f"expected a body of at most {limit} bytes\n".encode(), 413, "text/plain"))

    def _refuse(self, response: Response) -> None:
        """Answer what cannot be understood, behind what was asked before, and read no more."""
        if self._refused is None:
            self._refused = response
            if self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def _close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()


def _one_line(value: str) -> str:
    """Keep a header's value from being two."""
    return value.replace("\r", " ").replace("\n", " ")
