"""The kernel's end of a driver channel: a strict ZMTP 3 peer on asyncio, instead of libzmq.

libzmq is not safe against a hostile peer: it counts whole messages against its high-water mark and whole frames
against its size limit, so a message whose MORE flag is never cleared grows the receiver without bound (1.1 GB in 4 s).
This peer takes single-part messages only, bounds each, and answers anything else by closing the connection. It is
also twice as fast for one round trip, since no I/O thread stands between the descriptor and the event loop.

What must stay true:

- One ``recv`` per turn of the loop, of at most :data:`READ_BYTES`: a flooding driver cannot own the loop.
- The bytes held for an unfinished frame never exceed one frame limit.
- Frames are handed over in batches, one call per read, because the call is the cost.
- What could not be written is kept, in order, up to :data:`WRITE_LIMIT`; beyond it ``send`` refuses.

ZMTP 3.0, RFC 23: greeting of 64 bytes, NULL mechanism, one READY command, then frames of
``flags(1) length(1 or 8) body``, flags being MORE 1, LONG 2, COMMAND 4.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

__all__ = ["Channel", "ChannelFull"]

READ_BYTES = 64 << 10
WRITE_LIMIT = 64 << 20
_GREETING = b"\xff" + bytes(7) + b"\x01" + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PAIR"
_LONG, _COMMAND = 2, 4
_LENGTH = struct.Struct(">Q")
_COMMAND_LIMIT = 4096
_IOV_LIMIT = 512


class ChannelFull(Exception):
    """The driver has stopped reading: more than the write limit is waiting for it."""


class _Violation(Exception):
    """The peer broke the protocol."""


class Channel:
    """One connection to one driver process.

    ``on_frames`` gets the frames of each read; ``on_closed`` is called once, with the reason, when the peer closed or
    was cut off for breaking the protocol (then ``violated`` is true). After ``close`` neither is called again.
    """

    __slots__ = (
        "_buffered",
        "_closed",
        "_flush_due",
        "_greeted",
        "_have",
        "_limit",
        "_loop",
        "_need",
        "_on_closed",
        "_on_frames",
        "_out",
        "_rest",
        "_shaken",
        "_socket",
        "_writing",
        "violated",
    )

    def __init__(
        self,
        connected: socket.socket,
        on_frames: Callable[[list[bytes]], None],
        on_closed: Callable[[str], None],
        *,
        frame_limit: int = 1 << 20,
    ) -> None:
        self._socket = connected
        self._on_frames = on_frames
        self._on_closed = on_closed
        self._limit = frame_limit
        self._loop = asyncio.get_running_loop()
        self._rest: list[bytes] = []
        self._have = 0
        self._need = len(_GREETING)
        self._greeted = False
        self._shaken = False
        self._out: list[bytes | memoryview] = []
        self._buffered = 0
        self._flush_due = False
        self._writing = False
        self._closed = False
        self.violated = False
        connected.setblocking(False)
        self._loop.add_reader(connected.fileno(), self._readable)
        self._out += [_GREETING, bytes((_COMMAND, len(_READY))), _READY]
        self.flush()

    @property
    def buffered(self) -> int:
        """Bytes that wait for the driver to read."""
        return self._buffered

    def send(self, frame: bytes, *, hold: bool = False) -> None:
        """Queue one message; it leaves with the next flush, at the latest at the end of this turn of the loop.

        With ``hold`` it is the caller who will flush, as soon as it has nothing more to send: that saves a turn.

        Raises:
            ChannelFull: the driver does not read and the write limit is reached; nothing was queued.
        """
        if self._closed:
            return
        size = len(frame)
        if self._buffered + size > WRITE_LIMIT:
            raise ChannelFull
        self._out.append(bytes((0, size)) if size < 256 else b"\x02" + _LENGTH.pack(size))
        self._out.append(frame)
        self._buffered += size
        if not hold:
            self._flush_soon()

    def flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        self._flush_due = False
        if self._writing or self._closed:
            return
        self._write()

    def close(self) -> None:
        """Close the connection; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._out.clear()
        self._rest.clear()

    def drain_input(self) -> None:
        """Take in what a dead driver had still written, until its end of the stream or one frame limit."""
        budget = self._limit // READ_BYTES + 2
        while not self._closed and budget:
            before = self._have
            budget -= 1
            if not self._readable() and self._have == before:
                return

    # ---- writing -----------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def _write(self) -> None:
        out = self._out
        while out:
            try:
                sent = self._socket.sendmsg(out[:_IOV_LIMIT])
            except BlockingIOError:
                self._wait_writable()
                return
            except OSError as error:
                self._end(f"the channel broke: {error.strerror or error}")
                return
            done = 0
            for buffer in out:
                if sent < len(buffer):
                    break
                sent -= len(buffer)
                done += 1
            del out[:done]
            if sent:
                out[0] = memoryview(out[0])[sent:]
        self._buffered = 0
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket.fileno())

    def _wait_writable(self) -> None:
        self._buffered = sum(map(len, self._out))
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket.fileno(), self._write)

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
            self._end("the driver closed its channel")
            return False
        if self._rest:
            self._rest.append(data)
            self._have += len(data)
            if self._have < self._need:
                return True
            data = b"".join(self._rest)
            self._rest.clear()
        try:
            frames = self._parse(data)
        except _Violation as violation:
            self.violated = True
            self._end(f"the driver broke the protocol: {violation}")
            return False
        if frames:
            self._on_frames(frames)
        return True

    def _parse(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        position, end = 0, len(data)
        if not self._greeted:
            if end < len(_GREETING):
                return self._keep(data, 0, len(_GREETING), frames)
            self._check_greeting(data)
            self._greeted = True
            position = len(_GREETING)
        while end - position >= 2:
            flags = data[position]
            if not flags and self._shaken:  # a short message: what a stream mostly consists of, so it comes first
                stop = position + 2 + data[position + 1]
                if stop > end:
                    return self._keep(data, position, stop - position, frames)
                frames.append(data[position + 2 : stop])
                position = stop
                continue
            if flags in {0, _COMMAND}:
                start = position + 2
                size = data[position + 1]
            elif flags in {_LONG, _LONG | _COMMAND}:
                start = position + 9
                if start > end:
                    return self._keep(data, position, 9, frames)
                size = _LENGTH.unpack_from(data, position + 1)[0]
                limit = _COMMAND_LIMIT if flags & _COMMAND else self._limit
                if size > limit:
                    raise _Violation(f"expected frames of at most {limit} bytes, found one of {size}")
            else:
                raise _Violation(f"expected a single frame, found flags {flags:#x} (multipart is refused)")
            stop = start + size
            if stop > end:
                return self._keep(data, position, stop - position, frames)
            if flags & _COMMAND:
                self._command(data[start:stop])
            elif not self._shaken:
                raise _Violation("expected READY before the first message")
            else:
                frames.append(data[start:stop])
            position = stop
        return self._keep(data, position, 2, frames)

    def _keep(self, data: bytes, position: int, need: int, frames: list[bytes]) -> list[bytes]:
        """Hold the unfinished end of ``data`` until ``need`` bytes of it are there; return ``frames``."""
        if position < len(data):
            self._rest.append(data[position:])
        self._have = len(data) - position
        self._need = need
        return frames

    @staticmethod
    def _check_greeting(data: bytes) -> None:
        if data[0] != 0xFF or not data[9] & 1 or data[10] < 3 or data[12:32].rstrip(b"\0") != b"NULL":
            raise _Violation(f"expected a ZMTP 3 greeting with the NULL mechanism, found {data[:12].hex()}")

    def _command(self, body: bytes) -> None:
        if not self._shaken:
            if not body.startswith(b"\x05READY"):
                raise _Violation("expected the READY command")
            self._shaken = True
        elif body.startswith(b"\x04PING") and not self._writing:
            # A peer that does not read gets no PONG: a flood of PINGs must not grow what waits for it.
            pong = b"\x04PONG" + body[7:23]
            self._out += [bytes((_COMMAND, len(pong))), pong]
            self._flush_soon()

    def _end(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self._on_closed(reason)
