"""The kernel's end of a connection, to a driver or a client: a strict ZMTP 3 peer on asyncio (see ``protocol.zmtp``).

What must stay true:

- One ``recv`` per turn of the loop, of at most :data:`READ_BYTES`: a flooding peer cannot own the loop.
- The bytes held for an unfinished message never exceed what one message may have.
- Frames are handed over in batches, one call per read, because the call is the cost.
- What could not be written is kept, in order, up to the write limit; beyond it ``send`` refuses.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from msgspec import Struct

from byenatos_sdk.protocol.frames import MAX_BODY
from byenatos_sdk.protocol.zmtp import Reader, Violation, frame_head, opening

__all__ = ["CLIENT", "DRIVER", "Channel", "ChannelFull", "Peer"]

READ_BYTES = 64 << 10
_IOV_LIMIT = 512


class Peer(Struct, frozen=True):
    """What is at the other end: how it is called, the socket type that it is shown, and what it may send.

    ``frame_limits`` are bytes, one for each frame of a message; ``write_limit`` is how many may wait to be read by it.
    """

    name: str
    socket_type: bytes
    frame_limits: tuple[int, ...]
    write_limit: int


DRIVER = Peer("driver", b"PAIR", (1 << 20,), 64 << 20)
CLIENT = Peer("client", b"ROUTER", (1 << 20, MAX_BODY), 16 << 20)


class ChannelFull(Exception):
    """The peer has stopped reading: more than the write limit is waiting for it."""


class Channel:
    """One connection to one driver process or one client.

    ``on_frames`` gets the frames of each read, whole messages only; ``on_closed`` is called once, with the reason, when
    the peer closed or is cut off for breaking the protocol (then ``violated`` is true, and a last message can still be
    sent and flushed). After ``close`` neither is called again.
    """

    __slots__ = (
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
        self._closed = False
        self.violated = False
        connected.setblocking(False)
        self._loop.add_reader(connected.fileno(), self._readable)
        self._out: list[bytes | memoryview] = [opening(peer.socket_type)]
        self.flush()

    @property
    def buffered(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._buffered

    @property
    def held(self) -> int:
        """Bytes kept of a message that has not come to its end."""
        return self._reader.held

    def send(self, frame: bytes, *, hold: bool = False) -> None:
        """Queue one message; it leaves with the next flush, at the latest at the end of this turn of the loop.

        With ``hold`` it is the caller who will flush, as soon as it has nothing more to send: that saves a turn.

        Raises:
            ChannelFull: the peer does not read and the write limit is reached; nothing was queued.
        """
        if self._closed:
            return
        size = len(frame)
        if self._buffered + size > self._peer.write_limit:
            raise ChannelFull
        out = self._out
        out.append(frame_head(size))
        out.append(frame)
        self._buffered += size
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

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def _write(self) -> None:
        out = self._out
        while out:
            try:
                sent = self._socket.sendmsg(out if len(out) <= _IOV_LIMIT else out[:_IOV_LIMIT])
            except BlockingIOError:
                self._wait_writable()
                return
            except OSError as error:
                self._end(f"the channel broke: {error.strerror or error}")
                return
            _remove(out, sent)
        self._buffered = 0
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket.fileno())

    def _wait_writable(self) -> None:
        self._buffered = sum(map(len, self._out))
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket.fileno(), self._write)

    def _answer(self, command: bytes) -> None:
        # A peer that does not read gets no PONG: a flood of PINGs must not grow what waits for it.
        if not self._writing:
            self._out.append(command)
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


def _remove(buffers: list[bytes | memoryview], sent: int) -> None:
    """Take the first ``sent`` bytes out of ``buffers``."""
    if sent == sum(map(len, buffers)):
        buffers.clear()
        return
    done = 0
    for buffer in buffers:
        if sent < len(buffer):
            break
        sent -= len(buffer)
        done += 1
    del buffers[:done]
    if sent:
        buffers[0] = memoryview(buffers[0])[sent:]
