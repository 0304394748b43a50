"""Blocking streams and event feeds, and the pump that fills them.

Nobody reads the socket between two calls of a blocking client: the kernel then collects what comes, up to its cap for
each stream, beyond which it ends the stream with ``client_too_slow``. While any stream is waited for, all are filled.

Ctrl-C: while the client waits, ``KeyboardInterrupt`` leaves the stream that waits and harms nothing. While it takes in
frames, Python could raise between two lines of the core and tear its books; so the signal is held back for those
microseconds and delivered after them. Other signal handlers that raise are not held back: if one hits those
microseconds, the connection is ended with a sentence about it, and every stream still gets its one terminal.
"""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from byenatos_sdk.client.core import Connection
from byenatos_sdk.client.inbox import Inbox
from byenatos_sdk.client.link import Link
from byenatos_sdk.client.replies import GRACE_S, gone_away, news_in, overdue, result_in
from byenatos_sdk.protocol.answer import Answer
from byenatos_sdk.protocol.control import Empty, Event
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.frames import ClientEvent
from byenatos_sdk.protocol.messages import Delta, Finish, InferenceRequest, InferenceResponse, Moved

__all__ = ["Events", "Exchange", "Pump", "Stream"]

_BUDGET = 64
"""Frames taken in before the reader gets to read."""

_Result = TypeVar("_Result")


class Pump:
    """Moves frames between the socket and the core whenever somebody waits. One thread at a time."""

    def __init__(self, link: Link) -> None:
        self.connection = Connection()
        self._link = link
        self._critical = _Critical()
        self._dropped: deque[Inbox] = deque()

    def begin(self, start: Callable[[], None]) -> None:
        """Let ``start`` begin an exchange at the core and send it; raises what ``start`` raises."""

        def begin() -> None:
            start()
            self._send()

        self._guarded(begin)

    def next(self, inbox: Inbox, give_up_at: float | None = None) -> ClientEvent | None:
        """Wait for the next event of an exchange; ``None`` after its end.

        Raises:
            TimeoutError: at ``give_up_at`` in monotonic time.
        """
        connection = self.connection
        while True:
            event = connection.take(inbox)
            if event is not None:
                if connection.outgoing:
                    self._guarded(self._send)
                return event
            if inbox.ended:
                return None
            if not self._guarded(self._move):
                timeout_s = None if give_up_at is None else give_up_at - time.monotonic()
                if timeout_s is not None and timeout_s <= 0:
                    raise TimeoutError
                self._link.wait(timeout_s, to_send=bool(connection.outgoing))

    def leave(self, inbox: Inbox) -> None:
        """Give an exchange up and tell the kernel."""
        if not inbox.ended:
            self._dropped.append(inbox)
            self._guarded(self._send)

    def drop(self, inbox: Inbox) -> None:
        """Leave an exchange from a finalizer, which may run in any thread and in the middle of anything.

        The kernel is told at once if that is safe, else at the next use of the client. Nothing is read here: whoever is
        about to wait would miss it.
        """
        self._dropped.append(inbox)
        if self._critical.free_for_this_thread():
            self._guarded(self._send)

    def close(self) -> None:
        """Say goodbye, end what runs, and free the socket; waits at most a second until the goodbye is out."""
        if self.connection.loss is None:
            self.connection.close()
            self._link.send(self.connection.outgoing)
            self._link.close()

    def hang_up(self, reason: str) -> None:
        """End the connection without a goodbye; the kernel sees it at once and stops what it still does for it."""
        self.connection.lost(reason)
        self._link.close(linger_ms=0)

    def _guarded(self, action: Callable[[], _Result]) -> _Result:
        with self._critical:
            try:
                return action()
            except ByenatosError:  # raised by the core on purpose, before it changed anything
                raise
            except BaseException as error:
                self.hang_up(f"this client was interrupted while it took in frames ({error!r}); open a new one")
                raise

    def _send(self) -> None:
        if self.connection.loss is None:
            while self._dropped:
                self.connection.leave(self._dropped.popleft())
            self._link.send(self.connection.outgoing)

    def _move(self) -> bool:
        """Send what is to be sent and take in what has come; return whether anything changed."""
        connection, link = self.connection, self._link
        self._send()
        came = False
        for _ in range(_BUDGET):
            frame = link.receive()
            if frame is None:
                break
            connection.receive(frame)
            came = True
        if not came and link.gone():
            while (frame := link.receive()) is not None:  # what it said between the last look and its end
                connection.receive(frame)
            self.hang_up(gone_away(link.endpoint))
        elif connection.loss is None:
            link.send(connection.outgoing)
        else:
            link.close(linger_ms=0)
        return came or connection.loss is not None


class _Critical:
    """Where nothing may tear the core's books: one thread at a time, and Ctrl-C held back until the end."""

    def __init__(self) -> None:
        self._busy = False
        self._thread = threading.get_ident()
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        self._interrupted: list[FrameType | None] = []

    def free_for_this_thread(self) -> bool:
        """Whether this thread was the last one inside, and nobody is now."""
        return not self._busy and self._thread == threading.get_ident()

    def __enter__(self) -> None:
        if self._busy:
            raise RuntimeError("expected one thread at a time in a Client, found a second one; make a Client for each")
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._hold)
        self._thread = threading.get_ident()
        self._busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy = False
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._interrupted:
                self._handler(signal.SIGINT, self._interrupted.pop())

    def _hold(self, _number: int, frame: FrameType | None) -> None:
        self._interrupted[:] = [frame]


class Exchange:
    """A stream, a call or a feed of events. It is left when nobody reads it any more, however that comes about.

    It exists before ``start`` begins it at the core, so that an interrupt between any two lines finds its owner.
    """

    def __init__(self, pump: Pump, start: Callable[[], Inbox]) -> None:
        self._pump = pump
        self._inbox: Inbox | None = None

        def begin() -> None:
            self._inbox = start()

        pump.begin(begin)

    def next_event(self, give_up_at: float | None = None) -> ClientEvent | None:
        """Wait for the next event; ``None`` after the end. Ctrl-C leaves."""
        assert self._inbox is not None
        try:
            return self._pump.next(self._inbox, give_up_at)
        except KeyboardInterrupt:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave. What has not arrived yet is cancelled at the kernel; iterating again ends at once."""
        if self._inbox is not None:
            self._pump.leave(self._inbox)

    def __del__(self) -> None:
        if self._inbox is not None and not self._inbox.ended:
            self._pump.drop(self._inbox)


class Stream(Exchange):
    """One running answer: an iterator of deltas that ends after ``Finish``, which it yields too.

    A ``Failure`` is raised as the error that it stands for; ``error.partial`` says whether part of the answer came
    before it, and :attr:`text` has that part. The request is under way as soon as the stream exists. Ctrl-C while it is
    read cancels it.
    """

    def __init__(self, pump: Pump, request: InferenceRequest) -> None:
        super().__init__(pump, lambda: pump.connection.stream(request))
        self._answer = Answer()
        self._timeout_s = request.timeout_s
        self._give_up_at = None if request.timeout_s is None else time.monotonic() + request.timeout_s + GRACE_S

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        try:
            event = self.next_event(self._give_up_at)
        except TimeoutError:
            error = overdue(self._timeout_s or 0, partial=bool(self._answer.text))
            self.close()
            raise error from None
        if event is None:
            raise StopIteration
        return self._answer.add(event)

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

    def response(self) -> InferenceResponse:
        """Read what is left and return the whole answer; raises as iterating does."""
        for _ in self:
            pass
        return self._answer.response()


class Events(Exchange):
    """What happens in the kernel from now on: an iterator without end, until it is left or interrupted."""

    def __init__(self, pump: Pump) -> None:
        super().__init__(pump, lambda: pump.connection.call("events", Empty()))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.next_event()
        if event is None:
            raise StopIteration
        if (news := news_in(event)) is not None:
            return news
        result_in(event, Empty)
        raise StopIteration
