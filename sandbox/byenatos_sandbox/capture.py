"""Reads a sandbox's output pipes in the event loop, no faster than its grant allows.

The gate is the reader itself: when a second's share is read, the pipes are not looked at until the next second. They
fill up, the flooding driver blocks in ``write()`` and pays for its flood with its own time.
"""

import asyncio
import os
from collections.abc import Iterable

from byenatos_sandbox.output import OutputTail

__all__ = ["OutputCapture"]

_CHUNK = 64 << 10
_LARGEST_PIPE = 1 << 20  # /proc/sys/fs/pipe-max-size as it comes: what one pipe may still hold after its writer's death


class OutputCapture:
    """Feeds ``tail`` from ``pipes``, which it owns from now on and closes."""

    __slots__ = ("_left", "_loop", "_pipes", "_share", "_tail", "_timer", "_window_ends")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pipes: Iterable[int], tail: OutputTail, *, kib_per_s: int
    ) -> None:
        self._loop = loop
        self._pipes = {pipe: tail.stream() for pipe in pipes}
        self._tail = tail
        self._share = kib_per_s << 10
        self._timer: asyncio.TimerHandle | None = None
        self._open_gate()

    def show(self) -> tuple[str, ...]:
        """Return the last lines."""
        return self._tail.show()

    def drain(self) -> None:
        """Read what dead writers left in the pipes, past the gate; bounded, should somebody still be writing."""
        for pipe, stream in self._pipes.items():
            taken = 0
            while taken < _LARGEST_PIPE and (data := _read(pipe, _CHUNK)):
                stream.feed(data)
                taken += len(data)

    def close(self) -> None:
        """Stop reading and close the pipes; idempotent."""
        self._shut_gate()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pipe in self._pipes:
            os.close(pipe)
        self._pipes.clear()

    def _open_gate(self) -> None:
        self._timer = None
        self._new_window()
        for pipe in self._pipes:
            self._loop.add_reader(pipe, self._readable, pipe)

    def _shut_gate(self) -> None:
        for pipe in self._pipes:
            self._loop.remove_reader(pipe)

    def _new_window(self) -> None:
        self._left = self._share
        self._window_ends = self._loop.time() + 1

    def _readable(self, pipe: int) -> None:
        if self._loop.time() >= self._window_ends:
            self._new_window()
        data = _read(pipe, min(self._left, _CHUNK))
        if data is None:
            return
        if not data:
            self._loop.remove_reader(pipe)
            os.close(pipe)
            del self._pipes[pipe]
            return
        self._pipes[pipe].feed(data)
        self._left -= len(data)
        if self._left <= 0:
            self._shut_gate()
            self._timer = self._loop.call_at(self._window_ends, self._open_gate)


def _read(pipe: int, size: int) -> bytes | None:
    """Read without waiting: ``None`` if there is nothing now, ``b""`` if there never will be."""
    try:
        return os.read(pipe, size)
    except BlockingIOError:
        return None
