"""One HTTP/1.1 connection: ``reading`` says what was asked, this answers, and closes who takes too long.

What must stay true:

- Nothing that a client sends or leaves unread grows without bound, and each phase has a deadline, so that a client that
  trickles is closed like one that floods.
- Requests of a connection are answered one after the other, in order; while one is answered the connection is read on,
  so that its end is seen at once and what runs for it is cancelled. A client that closes its half only has left too:
  nobody can tell the two apart, and an answer for nobody costs a model's time.
- An answer that breaks off in the middle ends in a cut connection, never in the end mark of a whole one.
- Who is refused while still sending gets to read why: closing over unread bytes would reset the connection and may take
  the answer away, so only our half is closed, and what comes is thrown away for a moment (RFC 9112, 9.6).
"""

import asyncio
import socket
import struct
import sys
import traceback
from typing import TYPE_CHECKING

from http_front.exchange import Request, Response, Stream
from http_front.reading import Phase, Reader

if TYPE_CHECKING:
    from http_front.server import Server

__all__ = ["Connection"]

_RESET = struct.pack("ii", 1, 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY = frozenset({204, 304})
_FAILED = Response(b"something failed inside; the server's log says what\n", 500, "text/plain")
_FULL = Response(b"too many large requests at once; try again\n", 503, "text/plain", {"retry-after": "1"})
_LATE = Response(b"the request took too long to come\n", 408, "text/plain")


class Connection(asyncio.Protocol):
    """One connection. ``due`` is when it has taken too long for what it is at."""

    def __init__(self, server: "Server") -> None:
        self.due = float("inf")
        self._server = server
        self._limits = server.limits
        self._reader = Reader(server.limits)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._closing = False
        self._since = server.loop.time()
        self._at = (0, Phase.IDLE)
        self._unread = 0
        self._held_bytes = 0
        self._read_paused = False

    # ---- asyncio -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        server = self._server
        full = server.draining or len(server.connections) >= self._limits.connections
        server.connections.add(self)
        if full:
            transport.write(self._head(Response(status=503), close=True))
            self._linger()
        else:
            self._rearm()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the same either way
        """The client left: stop what runs for it."""
        self._closing = True
        self._reader.requests.clear()
        self._reader.refuse(_LATE)
        self._account()
        if self._task is not None:
            self._task.cancel()
        if self._room is not None:
            self._room.set()
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        """Read; what is whole is answered when its turn comes."""
        if self._closing:
            return
        reader = self._reader
        reader.feed(data)
        self._account()
        if self._held_bytes and self._server.held_bytes > self._limits.bodies_bytes:
            reader.refuse(_FULL)
            self._account()
        if reader.refused is not None or self._holds_enough():
            self._pause_reading()
        if self._task is None:
            self._turn()

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        self._room = asyncio.Event()
        self._rearm()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._room is not None:
            self._room.set()
            self._room = None
        self._rearm()

    # ---- the server ----------------------------------------------------------------------------------------------

    def leave_if_idle(self) -> None:
        """Close the connection soon, unless a request is being answered or read; the worker leaves.

        Not at once: a request may be on its way, and closing over it would reset the connection. One that comes in
        time is answered, and the answer tells the client that it was the last one.
        """
        if self._task is None and self._reader.phase is Phase.IDLE:
            left_s = self._limits.leave_s if self._reader.begun else self._limits.linger_s
            self.due = min(self.due, self._server.loop.time() + left_s)

    def overdue(self) -> None:
        """Deal with a client that took too long for what it was at."""
        transport = self._transport
        assert transport is not None
        unread = transport.get_write_buffer_size()
        if 0 < unread < self._unread:  # it reads, if slowly
            self._rearm()
        elif self._closing or self._room is not None:
            transport.abort()
        elif self._reader.phase is Phase.IDLE:
            self._close()
        else:
            self._reader.refuse(_LATE)
            self._turn()

    # ---- answering -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Answer what waits; else wait for the client."""
        reader = self._reader
        if reader.requests or reader.refused is not None:
            self._task = self._server.loop.create_task(self._answer_all())
            if self._room is None:
                self.due = float("inf")
                return
        elif reader.awaits_continue:
            reader.awaits_continue = False
            self._write(_CONTINUE)
        self._rearm()

    async def _answer_all(self) -> None:
        reader = self._reader
        try:
            while reader.requests:
                keep = await self._answer(reader.requests.popleft())
                if self._room is not None:
                    await self._room.wait()
                if self._closing:
                    return
                self._account()
                if not keep:
                    self._close()
                    return
                if self._read_paused and reader.refused is None and not self._holds_enough():
                    self._read_paused = False
                    assert self._transport is not None
                    self._transport.resume_reading()
            if reader.refused is not None:
                self._write(self._head(reader.refused, close=True) + reader.refused.body)
                self._linger()
        except asyncio.CancelledError:
            self._closing = True
            raise
        finally:
            self._task = None
            if not self._closing:
                self._since = self._server.loop.time()
                self._turn()
                if self._server.draining:
                    self.leave_if_idle()

    async def _answer(self, request: Request) -> bool:
        """Answer one request; return whether the connection goes on."""
        server = self._server
        try:
            answer = await server.handler(request)
        except Exception:  # noqa: BLE001 - a handler's mistake costs its connection
            traceback.print_exc(file=sys.stderr)
            answer = _FAILED
        keep = request.keep_alive and not server.draining and answer is not _FAILED
        if isinstance(answer, Stream):
            return await self._send_stream(answer, request, keep=keep and request.version == "1.1")
        head = self._head(answer, close=not keep, old=request.version == "1.0", id=request.id)
        self._write(head if request.method == "HEAD" or answer.status in _NO_BODY else head + answer.body)
        return keep

    async def _send_stream(self, stream: Stream, request: Request, *, keep: bool) -> bool:
        chunked = request.version == "1.1"
        framing = b"transfer-encoding: chunked\r\n" if chunked else b""
        framing += b"" if keep else b"connection: close\r\n"
        head = self._server.heads.head(200, stream.content_type, stream.headers, framing, request.id)
        pieces = stream.pieces
        try:
            if request.method != "HEAD":
                async for piece in pieces:
                    if not piece:
                        continue
                    if chunked and getattr(pieces, "over", False):
                        self._write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(piece), piece))
                        return keep
                    self._write(b"%b%x\r\n%b\r\n" % (head, len(piece), piece) if chunked else head + piece)
                    head = b""
                    if self._room is not None:
                        await self._room.wait()
                    if self._closing:
                        return False
                self._write(head + b"0\r\n\r\n" if chunked else head)
            else:
                self._write(head)
        except Exception:  # noqa: BLE001 - a handler's mistake costs its connection
            traceback.print_exc(file=sys.stderr)
            if head:
                self._write(self._head(_FAILED, close=True) + _FAILED.body)
            else:
                self._cut(reset=not chunked)
            return False
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
        return keep

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._closing:
            self._transport.write(data)

    def _head(self, answer: Response, *, close: bool, old: bool = False, id: str = "") -> bytes:
        framing = b"" if answer.status in _NO_BODY else b"content-length: %d\r\n" % len(answer.body)
        if close:
            framing += b"connection: close\r\n"
        elif old:
            framing += b"connection: keep-alive\r\n"
        return self._server.heads.head(answer.status, answer.content_type, answer.headers, framing, id)

    # ---- deadlines and bounds ------------------------------------------------------------------------------------

    def _rearm(self) -> None:
        """Say anew when the client has taken too long."""
        now, limits, reader = self._server.loop.time(), self._limits, self._reader
        self._unread = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if self._room is not None or (self._closing and self._unread):
            self.due = now + limits.stalled_s
            return
        if self._closing:
            self.due = now + limits.linger_s
            return
        if self._task is not None:
            self.due = float("inf")
            return
        at = (reader.begun, reader.phase)
        if at != self._at:
            self._at, self._since = at, now
        if reader.phase is Phase.BODY:
            earned_s = reader.body_received / limits.body_bytes_per_s
            self.due = min(now, self._since + earned_s) + limits.body_s
        elif reader.phase is Phase.HEAD or not reader.begun:
            self.due = self._since + limits.head_s
        else:
            self.due = self._since + limits.idle_s

    def _account(self) -> None:
        held = self._reader.held_bytes
        self._server.held_bytes += held - self._held_bytes
        self._held_bytes = held

    def _holds_enough(self) -> bool:
        """Whether more than may wait does so behind what is answered."""
        waiting = len(self._reader.requests)
        return waiting > self._limits.pipelined or (waiting > 0 and self._held_bytes > self._limits.body_bytes)

    def _pause_reading(self) -> None:
        if not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    # ---- ending --------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Close when what was written is gone."""
        self._closing = True
        self._rearm()
        if self._transport is not None:
            self._transport.close()

    def _cut(self, *, reset: bool) -> None:
        """Close at once; ``reset`` where the connection's end would be the answer's, to say that it is not."""
        self._closing = True
        if self._transport is not None:
            if reset:
                connected = self._transport.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def _linger(self) -> None:
        """Say nothing more, and throw away what still comes until the client has seen that."""
        self._closing = True
        self._rearm()
        if self._transport is not None:
            self._transport.write_eof()
            if self._read_paused:
                self._transport.resume_reading()
