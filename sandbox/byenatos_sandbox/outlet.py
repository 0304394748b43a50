"""One process's way out by ``socket``: a call is answered with a stream to the broker, so many calls a second.

The event loop that answers is the kernel's own. So a driver that asks without end is made to wait, in its own call, and
slows itself only. No more wait than may: a call can be taken back, by a signal, and asked again, and what was taken
back is not told.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress

from byenatos_sandbox.tripwire import Call, Listener

__all__ = ["Outlet"]

AT_ONCE = 64
A_SECOND = 64.0
"""A driver may have 64 connections at a time; whoever opens more than that each second does not keep them."""
MOST_WAITING = 256


class Outlet:
    """Answers what one process asks for; ``dial`` returns a new stream, or raises ``OSError``."""

    def __init__(self, dial: Callable[[], socket.socket]) -> None:
        self._dial = dial
        self._room = float(AT_ONCE)
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time()

    def answer(self, listener: Listener, call: Call) -> None:
        """Answer a call of ``socket`` for a unix stream, now or when its turn comes."""
        now = self._loop.time()
        self._room = min(float(AT_ONCE), self._room + (now - self._at) * A_SECOND)
        self._at = now
        if self._room < -MOST_WAITING:
            with suppress(OSError):  # the caller is gone
                listener.refuse(call, errno.EAGAIN)
            return
        self._room -= 1
        if self._room >= 0:
            self._hand(listener, call)
        else:
            self._loop.call_later(-self._room / A_SECOND, self._hand, listener, call)

    def _hand(self, listener: Listener, call: Call) -> None:
        if listener.fileno() < 0:
            return
        kind = call.arguments[1]
        with suppress(OSError):  # the caller is gone
            try:
                with self._dial() as stream:
                    stream.setblocking(not kind & socket.SOCK_NONBLOCK)
                    listener.hand(call, stream.fileno(), close_on_exec=bool(kind & socket.SOCK_CLOEXEC))
            except OSError as error:
                listener.refuse(call, error.errno or errno.ECONNREFUSED)
