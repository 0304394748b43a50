"""One connection of a driver: heads are read strictly, each request is relayed, and a driver that leaves is noticed.

Requests come one after the other. What a driver sends beyond one that is being answered waits, at most a buffer of it.
"""

import asyncio
import json
from typing import TYPE_CHECKING

from byenatos_sandbox.broker.bodies import CHUNKED, Incoming, MalformedBodyError, Outgoing
from byenatos_sandbox.broker.framing import HeadReader, Request, has_no_body, parse_request, write_head
from byenatos_sandbox.broker.keys import Header
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.relay import Relay
from byenatos_sandbox.broker.wire import HIGH_WATER, Wire

if TYPE_CHECKING:
    from byenatos_sandbox.broker.port import Port

__all__ = ["REFUSED_HEADER", "Line", "refusal"]

KEPT_ALIVE_S = 180.0
"""How long a driver may keep a connection without a request on it."""
SILENT_S = 900.0
"""How long both sides of a request may be silent: a model may think for minutes before its first word."""
DRAIN_S = 2.0
DRAIN_BYTES = 4 << 20
REFUSED_HEADER = b"x-byenatos-egress"


class Line:
    """The broker's end of a connection that a driver was handed."""

    def __init__(self, port: "Port") -> None:
        self.port = port
        self.wire = Wire(self._left)
        self.deadline = 0.0
        self.gone = ""
        self._loop = asyncio.get_running_loop()
        self._heads = HeadReader()
        self._rest = b""
        self._method = b""
        self._body = Incoming(0)
        self._awaits_continue = self._ends = False
        self._answer: Outgoing | None = None
        self._queued: list[bytes] = []
        self._due: asyncio.Handle | None = None
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    async def live(self) -> None:
        """Serve requests until the driver leaves or breaks the protocol."""
        self._task = asyncio.current_task()
        if self.gone:  # it was closed before it began
            self.wire.abort()
            return
        try:
            while (request := await self._request()) is not None:
                await Relay(self, request).run()
                if self._ends or self._answer is None or not self._answer.over or not self.whole:
                    break
                self._rest += self._body.rest
        except asyncio.CancelledError:
            self.wire.abort()
        except ConnectionError:
            pass
        finally:
            self.flush()
            self.wire.close()

    def touch(self) -> None:
        """Something happened: the line is alive."""
        self.deadline = self._loop.time() + SILENT_S

    def expire(self) -> None:
        """The line was silent for too long."""
        self._end("nobody said anything for too long")

    def close(self) -> None:
        """Break off what goes on."""
        self._end("the port was closed")

    # ---- the request -------------------------------------------------------------------------------------------

    def take(self) -> bytes | None:
        """Return what is here of the request's body, empty if that is nothing yet; ``None`` at its end.

        Raises:
            Refused: it is not as it said it would be.
        """
        if self.whole:
            return None
        body = self._body
        data = self._rest or self.wire.take()
        if not data:
            return b""
        self._rest = b""
        self._awaits_continue = False
        self.touch()
        try:
            content = body.feed(data)
        except MalformedBodyError:
            raise Refused(400, "the request's body is malformed or shorter than it said") from None
        return None if body.over and not content else content

    async def more(self) -> None:
        """Wait until there may be something to take.

        Raises:
            ConnectionError: the driver has left.
        """
        if self._awaits_continue and self._answer is None:
            self._awaits_continue = False
            self._queue(b"HTTP/1.1 100 \r\n\r\n")
        await self.wire.readable()
        if not self.wire.open and self.wire.quiet:
            raise ConnectionResetError("the driver left")

    @property
    def whole(self) -> bool:
        """Whether the request has come to its end."""
        return self._body.over

    # ---- the answer --------------------------------------------------------------------------------------------

    @property
    def answering(self) -> bool:
        """Whether an answer has begun."""
        return self._answer is not None

    def begin(self, status: int, headers: list[Header]) -> None:
        """Begin the answer; without a length it goes in chunks."""
        lengths = [value for name, value in headers if name == b"content-length"]
        bodiless = has_no_body(self._method, status)
        if not lengths and not bodiless:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        if self._ends:
            headers = [*headers, (b"connection", b"close")]
        head = write_head(b"HTTP/1.1 %d " % status, headers)
        if head is None or len(set(lengths)) > 1 or not all(one.isdigit() and len(one) <= 20 for one in lengths):
            raise _unsendable()
        length = int(lengths[0]) if lengths else CHUNKED
        self._answer = Outgoing(0 if bodiless else length)
        self._queue(head)

    def send(self, data: bytes) -> None:
        """Go on with the answer; to be flushed, and not to be called while the driver does not keep up."""
        assert self._answer is not None
        try:
            self._queue(self._answer.data(data))
        except MalformedBodyError:
            raise _unsendable() from None

    async def finish(self) -> None:
        """End the answer; one that does not end the request ends the connection."""
        assert self._answer is not None
        try:
            self._queue(self._answer.end())
        except MalformedBodyError:
            raise _unsendable() from None
        self.flush()
        await self.wire.drain()

    def flush(self) -> None:
        """Write what is queued now: there is nothing to wait for that could go with it."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._queued:
            data = self._queued[0] if len(self._queued) == 1 else b"".join(self._queued)
            self._queued.clear()
            self._size = 0
            self.touch()
            self.wire.write(data)

    async def refuse(self, refused: Refused) -> None:
        """Answer for the broker, having taken the request in: a driver that is still sending would hear nothing."""
        if not self.whole:
            await self.discard()
        headers, body = _words(refused)
        self._ends = self._ends or not self.whole
        self.begin(refused.status, headers)
        if self._method != b"HEAD":
            self.send(body)
        await self.finish()

    async def discard(self) -> None:
        """Read what is left of the request, within bounds, and forget it."""
        taken = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while taken < DRAIN_BYTES and (data := self.take()) is not None:
                    taken += len(data)
                    if not data:
                        await self.more()
        except (TimeoutError, ConnectionError, Refused):
            return

    # ---- private -----------------------------------------------------------------------------------------------

    async def _request(self) -> Request | None:
        """Return the next request, or nothing at the end; what is malformed is answered and ends the connection."""
        self.deadline = self._loop.time() + KEPT_ALIVE_S
        data, self._rest = self._rest, b""
        self._answer = None
        try:
            while (whole := self._heads.feed(data)) is None:
                data = await self.wire.read()
                if not data:
                    return None
            self.touch()
            end = whole.index(b"\r\n\r\n") + 4
            request = parse_request(whole[:end])
        except Refused as refused:
            await self._malformed(refused)
            return None
        self._rest = whole[end:]
        self._method = request.method
        self._body = Incoming(request.length)
        self._awaits_continue = False
        for name, value in request.headers:
            if name == b"connection" and b"close" in value.lower():
                self._ends = True
            elif name == b"expect" and value.lower() == b"100-continue":
                self._awaits_continue = not self._rest
        return request

    async def _malformed(self, refused: Refused) -> None:
        self.port.malformed(refused)
        self._ends = True
        self._method = b""
        self._body = Incoming(0)
        await self.refuse(refused)

    def _queue(self, data: bytes) -> None:
        """Have something leave at the end of this turn of the loop: a short answer is one write."""
        if not data:
            return
        if self._due is None:
            self._due = self._loop.call_soon(self.flush)
        self._queued.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER:
            self.flush()

    def _left(self) -> None:
        self._end("the driver left")

    def _end(self, reason: str) -> None:
        self.gone = self.gone or reason
        if self._task is not None:
            self._task.cancel()


def refusal(refused: Refused) -> bytes:
    """A whole answer of the broker's own, after which the connection ends."""
    headers, body = _words(refused)
    head = write_head(b"HTTP/1.1 %d " % refused.status, [*headers, (b"connection", b"close")])
    assert head is not None
    return head + body


def _words(refused: Refused) -> tuple[list[Header], bytes]:
    body = json.dumps({"error": {"type": "egress_refused", "code": refused.status, "message": refused.reason}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (REFUSED_HEADER, b"refused"),
    ]
    return headers, body


def _unsendable() -> ConnectionResetError:
    return ConnectionResetError("the answer cannot be sent as it is")
