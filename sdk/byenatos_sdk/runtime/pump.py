"""Moves frames between the channel, the runtime and the outbox, on the event loop.

What is put into the outbox while frames are handed over leaves when the last one of them is: answers given at once cost
no second turn of the loop. What is put in at any other time on the loop leaves at the end of its turn. A channel that
is full is listened to until it takes more.
"""

import asyncio
import threading
from collections.abc import Callable

from byenatos_sdk.protocol.zmtp import Violation
from byenatos_sdk.runtime.channel import Channel
from byenatos_sdk.runtime.outbox import Outbox

__all__ = ["Pump"]

ROUNDS = 8
"""How often a turn begins anew for a thread that goes on putting events in."""


class Pump:
    """Hands each arriving frame to ``accept``, in order, and empties :attr:`outbox`.

    ``room`` is called on the loop when an outbox that was full has room again, ``gone`` with what the kernel did when
    there is nothing more to hear. :meth:`wake` and :meth:`flush` may be called from any thread, the rest belongs to the
    loop.
    """

    __slots__ = ("_accept", "_channel", "_gone", "_listening", "_loop", "_room", "_thread", "_waiting", "outbox")

    def __init__(
        self,
        channel: Channel,
        accept: Callable[[bytes], None],
        room: Callable[[], None],
        gone: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._accept = accept
        self._room = room
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: list[asyncio.Future[None]] = []
        self._listening = False
        self.outbox = Outbox(channel, self.wake, self._has_room)

    def start(self) -> None:
        """Begin to move frames."""
        self._loop.add_reader(self._channel, self._readable)
        self._readable()
        self.wake()

    def stop(self) -> None:
        """Stop listening to the channel; what is in the outbox stays there."""
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)

    def wake(self) -> None:
        """Have a turn soon."""
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._turn)
        else:
            self._loop.call_soon_threadsafe(self._turn)

    def flush(self) -> None:
        """Send now what is in the outbox, unless the channel is full."""
        if not self.outbox.blocked and not self.outbox.flush():
            self.wake()  # to listen for room

    async def room(self) -> None:
        """Wait until the outbox is not congested."""
        while self.outbox.congested:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def _readable(self) -> None:
        try:
            frames = self._channel.receive()
        except Violation as violation:
            self._leave(f"broke the protocol of the channel: {violation}")
            return
        if frames:
            self._take(frames)
        elif self._channel.lost:
            self._leave("closed the channel")

    def _take(self, frames: list[bytes]) -> None:
        self.outbox.awake = True
        position = 0
        try:
            while position < len(frames):
                position += 1
                self._accept(frames[position - 1])
        finally:  # a mistake in one frame costs that one only
            if position < len(frames):
                self._loop.call_soon(self._take, frames[position:])
            self._turn()

    def _leave(self, reason: str) -> None:
        self._loop.remove_reader(self._channel)
        self._gone(reason)

    def _turn(self) -> None:
        outbox = self.outbox
        for _ in range(ROUNDS):
            if not outbox.flush():  # still awake: the socket says when there is room, nobody need call
                self._listen()
                return
            outbox.awake = False
            if not outbox.pending:  # a thread may have put something in before it could see that nobody is awake
                break
            outbox.awake = True
        else:
            self._loop.call_soon(self._turn)
        if self._listening:
            self._listening = False
            self._loop.remove_writer(self._channel)

    def _listen(self) -> None:
        if not self._listening and not self._channel.lost:
            self._listening = True
            self._loop.add_writer(self._channel, self._turn)

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
