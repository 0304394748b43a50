"""Moves frames between the channel, the runtime and the outbox, on the event loop.

libzmq's descriptor is *edge-triggered*: it becomes readable when something changed since the socket was last touched,
and any call on the socket, a ``send`` above all, may take the edge of a frame that has just arrived. Whoever trusts the
descriptor alone stalls (8 times in 4 s in the prototype). Hence two rules, and nothing else keeps the channel alive:

- After every send the pump looks for frames again. A turn therefore sends first and receives afterwards.
- A turn ends only when the socket has said ``EAGAIN`` to a receive after the last send, or, with a full channel, when
  it says that it is neither readable nor writable: one look at both, since looking takes the edge as well.

What is put into the outbox during a turn leaves before the turn ends: answers given at once cost no second turn of the
loop. A turn has a budget, so that an endless sender cannot own the loop.
"""

import asyncio
import threading
from collections.abc import Callable

from byenatos_sdk.runtime.channel import Channel
from byenatos_sdk.runtime.outbox import Outbox

__all__ = ["Pump"]

ROUNDS = 8
FRAMES = 64


class Pump:
    """Hands each arriving frame to ``accept``, in order, and empties :attr:`outbox`.

    ``room`` is called on the loop when an outbox that was full has room again. :meth:`wake` and :meth:`flush` may be
    called from any thread, the rest belongs to the loop.
    """

    __slots__ = ("_accept", "_channel", "_loop", "_room", "_thread", "_waiting", "outbox")

    def __init__(self, channel: Channel, accept: Callable[[bytes], None], room: Callable[[], None]) -> None:
        self._channel = channel
        self._accept = accept
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: list[asyncio.Future[None]] = []
        self.outbox = Outbox(channel.send, self.wake, self._has_room)

    def start(self) -> None:
        """Begin to move frames."""
        self._loop.add_reader(self._channel.fd, self.turn)
        self.wake()

    def stop(self) -> None:
        """Stop listening to the channel; what is in the outbox stays there."""
        self._loop.remove_reader(self._channel.fd)

    def turn(self) -> None:
        """Send, receive, and do so again while there is something to do and the budget lasts."""
        outbox = self.outbox
        outbox.awake = True
        for _ in range(ROUNDS):
            outbox.flush()
            frames = self._channel.receive(FRAMES)
            for frame in frames:
                self._accept(frame)
            if len(frames) == FRAMES:
                continue
            if outbox.blocked:
                if self._channel.active():
                    continue
                return  # still awake: the descriptor says when there is room, nobody need call
            if outbox.pending:
                continue
            outbox.awake = False
            if not outbox.pending:  # a thread may have put something in before it could see that nobody is awake
                return
            outbox.awake = True
        self._loop.call_soon(self.turn)

    def wake(self) -> None:
        """Have a turn soon."""
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self.turn)
        else:
            self._loop.call_soon_threadsafe(self.turn)

    def flush(self) -> None:
        """Send now what is in the outbox, unless the channel is full."""
        if self.outbox.blocked:
            return
        self.outbox.flush()
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.turn)
        elif not self.outbox.awake:
            self.outbox.awake = True
            self._loop.call_soon(self.turn)

    async def room(self) -> None:
        """Wait until the outbox is not congested."""
        while self.outbox.congested:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def _has_room(self) -> None:
        if threading.get_ident() == self._thread:
            self._resume()
        else:
            self._loop.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._room()
