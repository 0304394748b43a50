"""One connection of a driver: heads are read strictly, each request is relayed, and a driver that leaves is noticed.

Requests come one after the other. What a driver sends beyond one that is being answered waits, at most a buffer of it.
"""

import asyncio
import json
from typing import TYPE_CHECKING

import h11

from byenatos_sandbox.broker.framing import MAX_HEAD, HeadReader
from byenatos_sandbox.broker.keys import Header
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.relay import Relay
from byenatos_sandbox.broker.wire import HIGH_WATER, Wire

if TYPE_CHECKING:
    from byenatos_sandbox.broker.port import Port

__all__ = ["REFUSED_HEADER", "Line"]

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
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._heads = HeadReader()
        self._rest = b""
        self._queued: list[bytes] = []
        self._due: asyncio.Handle | None = None
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    async def live(self) -> None:
        """Serve requests until the driver leaves or breaks the protocol."""
        self._task = asyncio.current_task()
        try:
            while (request := await self._request()) is not None:
                await Relay(self, request).run()
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._rest = self._http.trailing_data[0]
                if self._rest:  # whose head is to be read as strictly, and not by the one that has it
                    self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
                else:
                    self._http.start_next_cycle()
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

    async def event(self) -> h11.Data | h11.EndOfMessage | None:
        """Return the next piece of the request's body, waiting for it; nothing if the driver has left.

        Raises:
            Refused: it is not as it said it would be.
        """
        if self._http.they_are_waiting_for_100_continue:
            self._queue(h11.InformationalResponse(status_code=100, headers=[]))
        while True:
            found = self.ready_event()
            if found is not None:
                return found
            if not self.wire.open and self.wire.quiet:
                return None
            self._feed(await self.wire.read())

    def ready_event(self) -> h11.Data | h11.EndOfMessage | None:
        """Return the next piece of the body if it is here already.

        Raises:
            Refused: it is not as it said it would be.
        """
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            raise Refused(400, "the request's body is malformed or shorter than it said") from None
        return event if isinstance(event, h11.Data | h11.EndOfMessage) else None

    @property
    def whole(self) -> bool:
        """Whether the request has come to its end."""
        return self._http.their_state is not h11.SEND_BODY

    # ---- the answer --------------------------------------------------------------------------------------------

    @property
    def answering(self) -> bool:
        """Whether an answer has begun."""
        return self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    def begin(self, status: int, headers: list[Header]) -> None:
        """Begin the answer."""
        self._queue(h11.Response(status_code=status, headers=headers))

    async def send(self, data: bytes) -> None:
        """Go on with the answer; waits until the driver has taken enough."""
        self._queue(h11.Data(data=data))
        await self.wire.drain()

    async def finish(self) -> None:
        """End the answer; one that does not end the request ends the connection."""
        self._queue(h11.EndOfMessage())
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
        body = json.dumps(
            {"error": {"type": "egress_refused", "code": refused.status, "message": refused.reason}}
        ).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (REFUSED_HEADER, b"refused"),
        ]
        if self._http.their_state is not h11.DONE:
            headers.append((b"connection", b"close"))
        self.begin(refused.status, headers)
        await self.send(body)
        await self.finish()

    async def discard(self) -> None:
        """Read what is left of the request, within bounds, and forget it."""
        taken = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self.whole and taken < DRAIN_BYTES:
                    event = await self.event()
                    if event is None:
                        return
                    taken += len(event.data) if isinstance(event, h11.Data) else 0
        except (TimeoutError, Refused):
            return

    # ---- private -----------------------------------------------------------------------------------------------

    async def _request(self) -> h11.Request | None:
        """Return the next request, or nothing at the end; what is malformed is answered and ends the connection."""
        self.deadline = self._loop.time() + KEPT_ALIVE_S
        data, self._rest = self._rest, b""
        try:
            while (whole := self._heads.feed(data)) is None:
                data = await self.wire.read()
                if not data:
                    return None
            self.touch()
            self._http.receive_data(whole)
            event = self._http.next_event()
        except h11.RemoteProtocolError:
            event = None
        except Refused as refused:
            await self._malformed(refused)
            return None
        if isinstance(event, h11.Request):
            return event
        await self._malformed(Refused(400, "the request is no HTTP/1.1"))
        return None

    async def _malformed(self, refused: Refused) -> None:
        self.port.malformed(refused)
        self._http = h11.Connection(h11.SERVER)  # the old one knows no way on
        await self.refuse(refused)

    def _feed(self, data: bytes) -> None:
        self.touch()
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError:
            raise Refused(400, "the driver sent more after the end") from None

    def _queue(self, event: h11.Event) -> None:
        """Have an event leave at the end of this turn of the loop: a short answer is one write."""
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError:
            raise ConnectionResetError("the answer cannot be sent as it is") from None
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
