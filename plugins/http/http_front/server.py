"""What the connections of one worker share: the handler, the limits, the clock that finds who takes too long."""

import asyncio
from collections.abc import Awaitable, Callable

from http_front.connection import Connection
from http_front.exchange import Request, Response, Stream
from http_front.heads import Heads
from http_front.limits import Limits

__all__ = ["Handler", "Server"]

Handler = Callable[[Request], Awaitable[Response | Stream]]


class Server:
    """Answers connections with ``handler``. Deadlines are looked at every ``tick_s`` seconds."""

    def __init__(self, handler: Handler, limits: Limits, *, tick_s: float = 1.0) -> None:
        self.handler = handler
        self.limits = limits
        self.heads = Heads()
        self.connections: set[Connection] = set()
        self.held_bytes = 0
        """Bytes of bodies that all connections hold."""
        self.draining = False
        self.loop = asyncio.get_running_loop()
        self._tick_s = tick_s
        self._empty = asyncio.Event()
        self._timer = self.loop.call_later(tick_s, self._tick)

    def protocol(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self)

    async def drain(self) -> None:
        """Close connections once they have nothing more to answer; return when all are closed."""
        self.draining = True
        self._tick_s = min(self._tick_s, self.limits.leave_s / 2)
        self._timer.cancel()
        self._tick()
        for connection in list(self.connections):
            connection.leave_if_idle()
        while self.connections:
            self._empty.clear()
            await self._empty.wait()
        self._timer.cancel()

    def gone(self, connection: Connection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _tick(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(self._tick_s, self._tick)
        for connection in [one for one in self.connections if one.due <= now]:
            connection.overdue()
