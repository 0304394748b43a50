"""The driver's connections to the broker, kept warm, the one used last first."""

import asyncio
from collections import deque

from byenatos_sdk.egress.connection import Connection
from byenatos_sdk.egress.dialling import DIAL_S, KEPT_ALIVE_S, MOST_CONNECTIONS, dial_async
from byenatos_sdk.protocol.errors import Unavailable

__all__ = ["Pool"]


class Pool:
    """Hands out connections; who finds all of them busy waits for one, in order."""

    def __init__(self, most: int = MOST_CONNECTIONS) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._dialling = 0
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    async def get(self, due: float, dial_s: float = DIAL_S) -> Connection:
        """Return a connection on which a request may be sent, until ``due`` (in the loop's time).

        A new one is had within ``dial_s``, or not at all.

        Raises:
            Unavailable: the broker hands out none, or this pool is closed.
            TimeoutError: none became free.
        """
        while not self._closed:
            if self._idle:
                connection = self._idle.pop()
                if connection.usable and self._loop.time() - connection.idle_since < KEPT_ALIVE_S:
                    return connection
                connection.abort()
            elif len(self._all) + self._dialling < self._most:
                return await self._dial(due, dial_s)
            else:
                async with asyncio.timeout_at(due):
                    found = await self._wait()
                if found is not None and found.usable:
                    return found
        raise Unavailable("this driver is being stopped")

    def close(self) -> None:
        """Close everything, what goes on too."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()
        self._tell(None, all_of_them=True)

    # ---- private -----------------------------------------------------------------------------------------------

    async def _dial(self, due: float, dial_s: float) -> Connection:
        self._dialling += 1
        try:
            async with asyncio.timeout_at(due):
                stream = await dial_async(dial_s)
            _, connection = await self._loop.create_unix_connection(
                lambda: Connection(self._freed, self._gone), sock=stream
            )
        except BaseException:
            self._tell(None)  # there is room for another try
            raise
        finally:
            self._dialling -= 1
        self._all.add(connection)
        return connection

    async def _wait(self) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (given := waiter.result()) is not None:
                self._freed(given)
            raise

    def _freed(self, connection: Connection) -> None:
        if self._closed:
            connection.abort()
        elif not self._tell(connection):
            self._idle.append(connection)

    def _gone(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._tell(None)

    def _tell(self, connection: Connection | None, *, all_of_them: bool = False) -> bool:
        """Give a connection, or the news that there may be room, to whoever waits longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                if not all_of_them:
                    return True
        return False
