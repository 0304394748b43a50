"""Streams and event feeds for asyncio, and the pump that fills them.

One socket and one reader callback serve every stream of a client; there is no task per stream, and pyzmq's asyncio
sockets, which cost twenty times as much per delta, are not used. The reader drains the socket with a budget, so that a
flood leaves room for the rest of the application, and comes back by ``call_soon`` after it has sent anything (the
descriptor's edge may be gone, see ``link``).
"""

import asyncio
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from msgspec import Struct

from byenatos_sdk.client.core import Connection
from byenatos_sdk.client.inbox import Inbox
from byenatos_sdk.client.link import Link
from byenatos_sdk.client.replies import GRACE_S, gone_away, news_in, overdue, result_in
from byenatos_sdk.client.wire import WireLink
from byenatos_sdk.protocol.answer import Answer
from byenatos_sdk.protocol.control import Empty, Event
from byenatos_sdk.protocol.errors import DeadlineExceeded
from byenatos_sdk.protocol.frames import ClientEvent
from byenatos_sdk.protocol.messages import Delta, Finish, InferenceRequest, InferenceResponse, Moved

__all__ = ["AsyncEvents", "AsyncStream", "Pump"]

_BUDGET = 64
"""Frames taken in one turn of the event loop."""

_RETRY_S = 0.005
"""How soon to try again when the socket takes no more: its descriptor's edge may have been swallowed by a read."""


class Pump:
    """Moves frames between the socket and the core from within one event loop."""

    def __init__(self, link: Link | WireLink) -> None:
        self.connection = Connection()
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._flushing = False
        self._retrying = False
        self._attached = True
        monitor = link.monitor_fileno()
        self._descriptors = [link.fileno()]
        self._loop.add_reader(self._descriptors[0], self._turn)
        if monitor is not None:
            self._descriptors.append(monitor)
            self._loop.add_reader(monitor, self._watch)
        self._loop.call_soon(self._watch)

    def stream(self, request: InferenceRequest) -> Inbox:
        """Start a stream; raises what ``Connection.open`` raises."""
        inbox = self.connection.stream(request)
        if self._link.edge_triggered:
            self.flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_all)
        return inbox

    def call(self, method: str, parameters: Struct) -> Inbox:
        """Start a control call."""
        inbox = self.connection.call(method, parameters)
        self.flush()
        return inbox

    def flush(self) -> None:
        """Send what stands in the core's outgoing queue, as far as the socket takes it."""
        outgoing = self.connection.outgoing
        if not self._attached or not (outgoing or self._link.unsent):
            return
        if self._link.send(outgoing):
            if self._link.edge_triggered:
                self._schedule()
        elif not self._retrying:
            self._retrying = True
            self._loop.call_later(_RETRY_S, self._retry)

    async def next(self, inbox: Inbox, give_up_at: float | None = None) -> ClientEvent | None:
        """Wait for the next event of an exchange; ``None`` after its end.

        Raises:
            TimeoutError: at ``give_up_at`` in the loop's time.
        """
        connection = self.connection
        while True:
            event = connection.take(inbox)
            if event is not None:
                if connection.outgoing:
                    self.flush()
                return event
            if inbox.ended:
                return None
            waiter = self.arrival(inbox)
            try:
                if give_up_at is None:
                    await waiter
                else:
                    async with asyncio.timeout_at(give_up_at):
                        await waiter
            finally:
                inbox.wake = None

    def arrival(self, inbox: Inbox) -> asyncio.Future[None]:
        """Return what is done when something comes; whoever has waited for it takes the inbox's ``wake`` away."""
        if inbox.wake is not None:
            raise RuntimeError("expected one task to read a stream, found a second one; open a stream for each")
        waiter = self._loop.create_future()
        inbox.wake = partial(_wake, waiter)
        return waiter

    def filling(self, inbox: Inbox) -> asyncio.Future[None]:
        """Return what is done when everything of an exchange has come, or so much that it is paused: not before."""
        waiter = self.arrival(inbox)

        def wake() -> None:
            if not (inbox.ended or inbox.paused):
                inbox.wake = wake
            elif not waiter.done():
                waiter.set_result(None)

        inbox.wake = wake
        return waiter

    def leave(self, inbox: Inbox) -> None:
        """Give an exchange up and tell the kernel; nothing is to be told of one that has ended."""
        ended = inbox.ended
        self.connection.leave(inbox)
        if not ended:
            self.flush()

    def drop(self, inbox: Inbox) -> None:
        """Leave an exchange from a finalizer, which may run in any thread and in the middle of anything."""
        with suppress(RuntimeError):  # the loop is closed, and with it everything
            self._loop.call_soon_threadsafe(self.leave, inbox)

    async def close(self) -> None:
        """Say goodbye, end what runs, and free the socket."""
        self.connection.close()
        if self._attached:
            self._link.send(self.connection.outgoing)
            self._detach()
            await asyncio.to_thread(self._link.close)  # waits until the goodbye is out

    def hang_up(self, reason: str) -> None:
        """End the connection without a goodbye; the kernel sees it at once and stops what it still does for it."""
        self.connection.lost(reason)
        self._free()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _flush_all(self) -> None:
        self._flushing = False
        self.flush()

    def _retry(self) -> None:
        self._retrying = False
        self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        if not self._attached:
            return
        for _ in range(_BUDGET):
            frame = self._link.receive()
            if frame is None:
                break
            self.connection.receive(frame)
        else:
            self._schedule()
        if self.connection.loss is None:
            self.flush()
            if len(self._descriptors) == 1:
                self._watch()
        else:
            self._free()

    def _watch(self) -> None:
        """End the connection if the kernel has gone, after everything that it still said."""
        if self._attached and self._link.gone():
            while (frame := self._link.receive()) is not None:
                self.connection.receive(frame)
            self.hang_up(gone_away(self._link.endpoint))

    def _free(self) -> None:
        if self._attached:
            self._detach()
            self._link.close(linger_ms=0)

    def _detach(self) -> None:
        self._attached = False
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Exchange:
    """What streams and event feeds share: they are left when nobody reads them any more."""

    def __init__(self, pump: Pump, inbox: Inbox) -> None:
        self._pump = pump
        self._inbox = inbox

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave. What has not arrived yet is cancelled at the kernel; iterating again ends at once."""
        self._pump.leave(self._inbox)

    def __del__(self) -> None:
        if not self._inbox.ended:
            self._pump.drop(self._inbox)


class AsyncStream(_Exchange):
    """One running answer: an async iterator of deltas that ends after ``Finish``, which it yields too.

    A ``Failure`` is raised as the error that it stands for; ``error.partial`` says whether part of the answer came
    before it, and :attr:`text` has that part. The request is under way as soon as the stream exists. Let one task read.
    """

    def __init__(self, pump: Pump, inbox: Inbox, timeout_s: float | None) -> None:
        super().__init__(pump, inbox)
        self._answer = Answer()
        self._timeout_s = timeout_s
        self._give_up_at: float | None = None
        if timeout_s is not None:
            self._give_up_at = asyncio.get_running_loop().time() + timeout_s + GRACE_S

    async def __anext__(self) -> Delta:
        event = await self._next()
        if event is None:
            raise StopAsyncIteration
        return self._answer.add(event)

    async def several(self) -> list[Delta]:
        """Wait for the next delta and return it with all others that have come by then; nothing after the end.

        For whoever passes deltas on: they are not added up here, and a ``Failure`` is returned like any other. Nothing
        is returned too when :meth:`nudge` was called while it waited.
        """
        inbox, pump = self._inbox, self._pump
        if not inbox.events and not inbox.ended:
            await self._until(pump.arrival(inbox))
        deltas: list[Delta] = pump.connection.take_all(inbox)  # type: ignore[assignment]  # a stream's are deltas
        if pump.connection.outgoing:
            pump.flush()
        return deltas

    def nudge(self) -> None:
        """Wake whoever waits in :meth:`several` though nothing has come: for signs of life to others."""
        self._inbox.rouse()

    @property
    def ended(self) -> bool:
        """Whether everything that there is was read."""
        return self._inbox.ended and not self._inbox.events

    async def _next(self) -> ClientEvent | None:
        try:
            return await self._pump.next(self._inbox, self._give_up_at)
        except TimeoutError:
            raise await self._overdue() from None

    async def _overdue(self) -> DeadlineExceeded:
        error = overdue(self._timeout_s or 0, partial=bool(self._answer.text))
        await self.aclose()
        return error

    @property
    def text(self) -> str:
        """The text that was read so far."""
        return self._answer.text

    @property
    def finish(self) -> Finish | None:
        """The ``Finish``, once it was read."""
        return self._answer.finish

    @property
    def moves(self) -> tuple[Moved, ...]:
        """Every move of this stream to another instance that was read so far."""
        return tuple(self._answer.moves)

    async def response(self) -> InferenceResponse:
        """Read what is left and return the whole answer; raises as iterating does."""
        inbox, answer, pump = self._inbox, self._answer, self._pump
        while True:
            if not (inbox.ended or inbox.paused):
                await self._until(pump.filling(inbox))
            ended = inbox.ended
            for event in pump.connection.take_all(inbox):
                answer.add(event)
            if ended:
                return answer.response()
            pump.flush()

    async def _until(self, waiter: asyncio.Future[None]) -> None:
        try:
            if self._give_up_at is None:
                await waiter
            else:
                async with asyncio.timeout_at(self._give_up_at):
                    await waiter
        except TimeoutError:
            raise await self._overdue() from None
        finally:
            self._inbox.wake = None


class AsyncEvents(_Exchange):
    """What happens in the kernel from now on: an async iterator without end, until it is left."""

    async def __anext__(self) -> Event:
        event = await self._pump.next(self._inbox)
        if event is None:
            raise StopAsyncIteration
        if (news := news_in(event)) is not None:
            return news
        result_in(event, Empty)
        raise StopAsyncIteration
