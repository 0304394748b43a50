"""Wait for answers to end: what happens between them waits here."""

import asyncio

from byenatos_kernel.streams import Stream
from byenatos_kernel.switchboard import Switchboard
from byenatos_sdk.protocol.messages import Terminal

__all__ = ["Endings"]


class Endings:
    """Tells of each end of a stream, and whether a slot is idle."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._switchboard = switchboard
        self._waiting: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()
        switchboard.on_ended.append(self._ended)

    def idle(self, slot: str) -> bool:
        """Whether nothing of a slot runs or waits."""
        return not any(stream.slot == slot for stream in self._switchboard.live)

    async def next(self, deadline: float | None = None) -> bool:
        """Wait for the next end of a stream, at most until ``deadline`` (a loop time); return whether there was one."""
        ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(ended)
        try:
            async with asyncio.timeout_at(deadline):
                await ended
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(ended)
        return True

    def _ended(self, _: Stream, __: Terminal) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
