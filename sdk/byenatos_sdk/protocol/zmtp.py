"""ZMTP 3, the wire of ZeroMQ, without I/O: what a strict peer says first, and the frames in what it hears.

Kernel and runtime speak to each other, and the kernel to its clients, over plain unix sockets in this protocol; the
other end may be stock libzmq at any time. They do without libzmq themselves for two reasons:

- It is not safe against a hostile peer: it counts whole messages against its high-water mark and whole frames against
  its size limit, so a message whose MORE flag is never cleared grows the receiver without bound (1.1 GB in 4 s).
- Its I/O thread stands between the descriptor and the event loop: more wake-ups of threads in each direction, and
  on a virtual machine each of them is dear.

RFC 23: a greeting of 64 bytes, the NULL mechanism, one READY command, then frames of ``flags(1) length(1 or 8) body``,
flags being MORE 1, LONG 2, COMMAND 4. A :class:`Reader` takes messages of a known number of frames only, bounds each
frame, and raises :class:`Violation` at anything else. It never holds more than one unfinished message.

One trap of libzmq: it takes a message that arrives together with READY for a mistake and hangs up. Whoever speaks first
waits for the other's READY (:attr:`Reader.shaken`).
"""

import struct
from collections.abc import Callable

__all__ = ["COMMAND_LIMIT", "Reader", "Violation", "first_head", "frame_head", "opening"]

COMMAND_LIMIT = 4096
"""Bytes of the longest command that is read."""

_GREETING = b"\xff" + bytes(7) + b"\x01" + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
_MORE, _LONG, _COMMAND = 1, 2, 4
_LENGTH = struct.Struct(">Q")
_HEADS = tuple(bytes((0, size)) for size in range(256))


class Violation(ValueError):
    """The peer broke the protocol; end the connection, for what follows cannot be understood."""


def opening(socket_type: bytes) -> bytes:
    """Return greeting and READY of a peer that presents itself as ``socket_type`` (such as ``b"PAIR"``)."""
    ready = b"\x05READY\x0bSocket-Type" + len(socket_type).to_bytes(4, "big") + socket_type
    return _GREETING + bytes((_COMMAND, len(ready))) + ready


def frame_head(size: int) -> bytes:
    """Return what precedes the body of a message of one frame, or of its last, of ``size`` bytes."""
    return _HEADS[size] if size < 256 else b"\x02" + _LENGTH.pack(size)


def first_head(size: int) -> bytes:
    """Return what precedes the body of a frame of ``size`` bytes after which the message goes on."""
    return bytes((_MORE, size)) if size < 256 else b"\x03" + _LENGTH.pack(size)


class Reader:
    """What one peer says, from its greeting on.

    ``frame_limits`` are the most bytes of each frame of a message, and so say how many it has. ``answer`` is called
    with what a command asks to be sent back.
    """

    __slots__ = ("_answer", "_begun", "_expected", "_need", "_rest", "shaken")

    def __init__(self, frame_limits: tuple[int, ...], answer: Callable[[bytes], None]) -> None:
        last = len(frame_limits) - 1
        self._answer = answer
        self._expected = [
            (_MORE if part < last else 0, _MORE | _LONG if part < last else _LONG, limit)
            for part, limit in enumerate(frame_limits)
        ]
        self.shaken = False
        """Whether the peer's READY has come."""
        self._rest = bytearray()
        self._begun: list[bytes] = []
        self._need = 0

    @property
    def held(self) -> int:
        """Bytes kept of a message that has not come to its end."""
        return len(self._rest) + sum(map(len, self._begun))

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes in and return the frames of the messages that are whole by now, in order.

        Raises:
            Violation: the peer broke the protocol. Messages that came whole in the same bytes are lost.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
            self._rest = bytearray()
        if not self.shaken:
            data = self._shake(data)
        frames, self._begun = self._begun, []
        position, end = 0, len(data)
        expected = self._expected
        parts = len(expected)
        part = len(frames)
        need = 2
        while end - position >= 2:
            flags = data[position]
            short, long, limit = expected[part]
            if flags == short:  # what streams and requests mostly consist of
                start = position + 2
                stop = start + data[position + 1]
            elif flags in {long, _COMMAND, _COMMAND | _LONG}:
                if flags == _COMMAND:
                    start, size = position + 2, data[position + 1]
                elif end - position < 9:
                    need = 9
                    break
                else:
                    start, size = position + 9, _LENGTH.unpack_from(data, position + 1)[0]
                most = COMMAND_LIMIT if flags & _COMMAND else limit
                if size > most:
                    raise Violation(f"expected frames of at most {most} bytes, found one of {size}")
                stop = start + size
            else:
                whole = "a single frame" if parts == 1 else f"{parts} frames"
                raise Violation(f"expected messages of {whole}, found flags {flags:#x} at frame {part + 1}")
            if stop > end:
                need = stop - position
                break
            if flags & _COMMAND:
                self._command(data[start:stop])
            else:
                frames.append(data[start:stop])
                part = part + 1 if part + 1 < parts else 0
            position = stop
        if position < end:
            self._keep(data[position:], need)
        if part:
            self._begun = frames[-part:]
            del frames[-part:]
        return frames

    def _keep(self, data: bytes, need: int) -> None:
        """Hold an unfinished end until ``need`` bytes of it are there."""
        self._rest += data
        self._need = need

    def _shake(self, data: bytes) -> bytes:
        """Wait for greeting and READY, which come first and once; return what follows them."""
        need = _opening_size(data)
        if len(data) < need:
            if data:
                self._keep(data, need)
            return b""
        self.shaken = True
        return data[need:]

    def _command(self, body: bytes) -> None:
        if body.startswith(b"\x04PING"):
            pong = b"\x04PONG" + body[7:23]
            self._answer(bytes((_COMMAND, len(pong))) + pong)


def _opening_size(data: bytes) -> int:
    """Check greeting and READY as far as they are there, and return how many bytes they take, as far as can be told."""
    end, start = len(data), len(_GREETING)
    if end < start:
        return start
    if data[0] != 0xFF or not data[9] & 1 or data[10] < 3 or data[12:32].rstrip(b"\0") != b"NULL":
        raise Violation(f"expected a ZMTP 3 greeting with the NULL mechanism, found {data[:12].hex()}")
    if end < start + 2:
        return start + 2
    flags = data[start]
    if flags not in {_COMMAND, _COMMAND | _LONG}:
        raise Violation("expected READY before the first message")
    body = start + (9 if flags & _LONG else 2)
    if end < body:
        return body
    size: int = _LENGTH.unpack_from(data, start + 1)[0] if flags & _LONG else data[start + 1]
    if size > COMMAND_LIMIT:
        raise Violation(f"expected a READY of at most {COMMAND_LIMIT} bytes, found one of {size}")
    if end >= body + size and not data.startswith(b"\x05READY", body):
        raise Violation("expected the READY command")
    return body + size
