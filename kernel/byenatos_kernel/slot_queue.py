"""The queue of a slot that nothing serves for a while: its requests wait in order, each until its own deadline."""

import asyncio

from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.errors import Overloaded

__all__ = ["SlotQueue"]


class SlotQueue:
    """Holds the streams of ``slot`` while it is swapped to ``target``; at most ``most`` of those that come anew.

    ``over`` is set once they have all been given to whatever serves the slot from then on.
    """

    def __init__(self, slot: str, target: str, most: int) -> None:
        self.over = asyncio.Event()
        self._slot = slot
        self._target = target
        self._most = most
        self._streams: dict[Stream, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._streams

    @property
    def reason(self) -> str:
        """What a stream waits for, in words."""
        return f"it waited for slot {self._slot!r} to be swapped to {self._target}"

    def wait(self, stream: Stream) -> None:
        """Let a stream wait; one that was being answered already (it had to leave its place) always may.

        Raises:
            Overloaded: so many wait already.
        """
        if not stream.epoch and len(self._streams) >= self._most:
            raise Overloaded(
                f"slot {self._slot!r} is being swapped to {self._target}, and {self._most} requests wait for it "
                "already, as many as [queue] most in swap.toml lets; try again later",
                retry_after_s=1.0,
            )
        self._streams[stream] = None

    def leave(self, stream: Stream) -> None:
        """Take a stream out, if it is in."""
        self._streams.pop(stream, None)

    def end(self) -> list[Stream]:
        """Return the streams in the order in which they were opened, and let go of them: the queue is over."""
        streams = sorted(self._streams, key=lambda stream: stream.opened_at)
        self._streams.clear()
        self.over.set()
        return streams
