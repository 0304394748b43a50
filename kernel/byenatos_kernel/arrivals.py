"""What was asked of each slot lately: the task that requests name, and how long they are.

A request is opaque to the kernel. Only while a trigger looks at its contents is each one decoded, and no further than
to the one field; without such a trigger nothing is kept and nothing is decoded.
"""

from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import Struct

from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.frames import UNREADABLE

__all__ = ["Arrival", "Arrivals"]

MOST = 1024
BYTES_PER_TOKEN = 4


class _Task(Struct):
    """The one field of an ``InferenceRequest`` that is read; the others are skipped."""

    task: str | None = None


_decode_task = msgspec.msgpack.Decoder(_Task).decode


class Arrival(Struct, frozen=True, gc=False):
    """One request that came ``at`` a loop time; ``tokens`` of its whole input, estimated at four bytes each."""

    at: float
    task: str
    tokens: int


class Arrivals:
    """Keeps the newest :data:`MOST` arrivals of each slot while ``wanted``; ``clock`` is the loop's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.wanted = False
        self._clock = clock
        self._arrivals: dict[str, deque[Arrival]] = {}

    def opened(self, stream: Stream) -> None:
        """Keep what a request asks, if that is wanted and it addresses a slot. Its ``body`` is complete."""
        if not self.wanted or stream.slot is None:
            return
        try:
            task = _decode_task(stream.body).task or ""
        except UNREADABLE:
            task = ""  # its driver will say so
        kept = self._arrivals.get(stream.slot)
        if kept is None:
            kept = self._arrivals[stream.slot] = deque(maxlen=MOST)
        kept.append(Arrival(self._clock(), task, len(stream.body) // BYTES_PER_TOKEN))

    def since(self, slot: str, at: float) -> list[Arrival]:
        """The arrivals at a slot since a loop time, the oldest first."""
        return [one for one in self._arrivals.get(slot, ()) if one.at >= at]

    def want(self, *, wanted: bool) -> None:
        """Begin to keep arrivals, or forget them all."""
        self.wanted = wanted
        if not wanted:
            self._arrivals.clear()
