"""Wait for answers to end: what happens between them waits here."""

import asyncio
from collections.abc import Coroutine
from typing import Any

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

    def next(self, deadline: float | None = None) -> Coroutine[Any, Any, bool]:
        """Wait for the next end of a stream, at most until ``deadline`` (a loop time); return whether there was one.

        It counts from this call on, not only once it is awaited: a task begins a turn of the loop later.
        """
        ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(ended)
        return self._wait(ended, deadline)

    async def _wait(self, ended: "asyncio.Future[None]", deadline: float | None) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                await ended
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(ended)
        return True

    def _ended(self, _: Stream, __: Terminal) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for one in waiting:
                if not one.done():
                    one.set_result(None)
