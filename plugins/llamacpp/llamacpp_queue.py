"""The line of those who wait to be answered: first come, first served; who was suspended is first."""

from collections import deque
from collections.abc import Callable, Iterator

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import ByenatosError
from llamacpp_stream import Stream, failure

__all__ = ["Queue"]


class Queue:
    """Calls come in from any thread (:meth:`add`); all else is the engine's. ``begin`` makes a call's answer."""

    def __init__(self, begin: Callable[[Call], Stream]) -> None:
        self._begin = begin
        self._inbox: deque[Call] = deque()
        self._waiting: deque[Stream] = deque()

    def __len__(self) -> int:
        return len(self._inbox) + len(self._waiting)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._waiting)

    @property
    def first(self) -> Stream | None:
        """Whose turn it is."""
        return self._waiting[0] if self._waiting else None

    def add(self, call: Call) -> None:
        """Queue a call."""
        self._inbox.append(call)

    def put_first(self, stream: Stream) -> None:
        """Queue an answer that was suspended."""
        self._waiting.appendleft(stream)

    def take(self) -> Stream:
        """Take the first out."""
        return self._waiting.popleft()

    def read(self) -> None:
        """Read the new calls, and drop what was cancelled. A call that cannot be answered ends at once."""
        while self._inbox:
            call = self._inbox.popleft()
            if call.cancelled:
                continue
            try:
                self._waiting.append(self._begin(call))
            except ByenatosError as error:
                call.emit(failure(error))
        for stream in [stream for stream in self._waiting if stream.call.cancelled]:
            self._waiting.remove(stream)
            stream.close()

    def end(self, error: ByenatosError) -> None:
        """End all with ``error``."""
        for stream in self._waiting:
            stream.call.emit(failure(error))
            stream.close()
        self._waiting.clear()
        while self._inbox:
            self._inbox.popleft().emit(failure(error))
