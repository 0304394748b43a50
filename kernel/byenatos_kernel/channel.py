"""The kernel's end of a connection, to a driver or a client: a strict ZMTP 3 peer on asyncio (see ``protocol.zmtp``).

What must stay true:

- One ``recv`` per turn of the loop, of at most :data:`READ_BYTES`: a flooding peer cannot own the loop.
- The bytes held for an unfinished message never exceed what one message may have.
- Frames are handed over in batches, one call per read, because the call is the cost.
- What could not be written is kept, in order, up to the write limit; beyond it ``send`` refuses. One turn of the loop
  writes so many buffers and no more.
- What the peer had said before it left is read, also when writing to it fails first: only reading ends a channel.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice

from msgspec import Struct

from byenatos_sdk.protocol.frames import MAX_BODY, MAX_HEADER
from byenatos_sdk.protocol.zmtp import Reader, Violation, frame_head, opening

__all__ = ["CLIENT", "DRIVER", "Channel", "ChannelFull", "Peer"]

READ_BYTES = 64 << 10
URGENT_BYTES = 1 << 20
"""Room beyond the write limit for the short words that end something."""
_BUFFERS_PER_WRITE = 512
_WRITES_PER_TURN = 16


class Peer(Struct, frozen=True):
    """What is at the other end: how it is called, the socket type that it is shown, and what it may send.

    ``frame_limits`` are bytes, one for each frame of a message; ``write_limit`` is how many may wait to be read by it.
    """

    name: str
    socket_type: bytes
    frame_limits: tuple[int, ...]
    write_limit: int


DRIVER = Peer("driver", b"PAIR", (1 << 20,), 64 << 20)
CLIENT = Peer("client", b"ROUTER", (MAX_HEADER, MAX_BODY), 16 << 20)


class ChannelFull(Exception):
    """The peer has stopped reading: more than the write limit is waiting for it."""


class Channel:
    """One connection to one driver process or one client.

    ``on_frames`` gets the frames of each read, whole messages only; ``on_closed`` is called once, with the reason, when
    the peer closed or is cut off for breaking the protocol (then ``violated`` is true, and a last message can still be
    sent and flushed). After ``close`` neither is called again.
    """

    __slots__ = (
        "_broken",
        "_buffered",
        "_closed",
        "_ending",
        "_flush_due",
        "_loop",
        "_on_closed",
        "_on_frames",
        "_out",
        "_peer",
        "_reader",
        "_socket",
        "_writing",
        "violated",
    )

    def __init__(
        self,
        connected: socket.socket,
        on_frames: Callable[[list[bytes]], None],
        on_closed: Callable[[str], None],
        peer: Peer = DRIVER,
    ) -> None:
        self._socket = connected
        self._on_frames = on_frames
        self._on_closed = on_closed
        self._peer = peer
        self._reader = Reader(peer.frame_limits, self._answer)
        self._loop = asyncio.get_running_loop()
        self._buffered = 0
        self._flush_due = False
        self._writing = False
        self._ending = False
        self._broken = False
        self._closed = False
        self.violated = False
        connected.setblocking(False)
        self._loop.add_reader(connected.fileno(), self._readable)
        self._out: deque[bytes | memoryview] = deque()
        self._put(opening(peer.socket_type))
        self._flush_soon()

    @property
    def buffered(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._buffered

    @property
    def held(self) -> int:
        """Bytes kept of a message that has not come to its end."""
        return self._reader.held

    def send(self, frame: bytes, *, hold: bool = False, urgent: bool = False) -> None:
        """Queue one message; it leaves with the next flush, at the latest at the end of this turn of the loop.

        With ``hold`` it is the caller who will flush, as soon as it has nothing more to send: that saves a turn.
        ``urgent`` is for short messages that end something: there is room for them when there is for nothing else.

        Raises:
            ChannelFull: the peer does not read and the write limit is reached; nothing was queued.
        """
        if self._closed or self._broken:
            return
        size = len(frame)
        if self._buffered + size > self._peer.write_limit + (URGENT_BYTES if urgent else 0):
            raise ChannelFull
        self._put(frame_head(size))
        self._put(frame)
        if not hold:
            self._flush_soon()

    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        self._flush_due = False
        if self._writing or self._closed:
            return
        self._write()

    def close(self, linger_s: float = 0.0) -> None:
        """Close the connection, giving what waits ``linger_s`` seconds to be read; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        if self._out and linger_s > 0:
            self._socket.settimeout(linger_s)
            with contextlib.suppress(OSError):
                self._socket.sendall(b"".join(self._out))
        self._socket.close()
        self._out.clear()

    def drain_input(self) -> None:
        """Take in what a dead peer had still written, until its end of the stream or one frame limit."""
        budget = self._peer.frame_limits[-1] // READ_BYTES + 2
        while budget and not self._closed and self._readable():
            budget -= 1

    # ---- writing -----------------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        if data:  # what is empty could never be written away
            self._out.append(data)
            self._buffered += len(data)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def _write(self) -> None:
        out = self._out
        for _ in range(_WRITES_PER_TURN):
            if not out:
                break
            try:
                sent = self._socket.sendmsg(list(islice(out, _BUFFERS_PER_WRITE)))
            except BlockingIOError:
                break
            except OSError:  # it will not read on; what it had said is still to be read, and reading tells of its end
                self._broken = True
                out.clear()
                self._buffered = 0
                break
            self._buffered -= sent
            while sent:
                buffer = out.popleft()
                if sent < len(buffer):
                    out.appendleft(memoryview(buffer)[sent:])
                    break
                sent -= len(buffer)
        if bool(out) is not self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._socket.fileno(), self._write)
            else:
                self._loop.remove_writer(self._socket.fileno())

    def _answer(self, command: bytes) -> None:
        # A peer that does not read gets no PONG: a flood of PINGs must not grow what waits for it.
        if not self._writing and not self._broken:
            self._put(command)
            self._flush_soon()

    # ---- reading -----------------------------------------------------------------------------------------------

    def _readable(self) -> bool:
        """Read once; return whether anything came."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._end(f"the channel broke: {error.strerror or error}")
            return False
        if not data:
            self._end(f"the {self._peer.name} closed its channel")
            return False
        try:
            frames = self._reader.feed(data)
        except Violation as violation:
            self.violated = True
            self._end(f"the {self._peer.name} broke the protocol: {violation}")
            return False
        if frames:
            self._on_frames(frames)
        return True

    def _end(self, reason: str) -> None:
        if self._closed or self._ending:
            return
        self._ending = True
        self._loop.remove_reader(self._socket.fileno())
        self._on_closed(reason)
        self.close()
