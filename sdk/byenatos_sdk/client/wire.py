"""A connection to the kernel that was handed over, already made, to a process that may make none itself (a front).

ZeroMQ's wire is spoken without libzmq, by the same strict peer as everywhere else (``protocol.zmtp``).
"""

import socket
from collections import deque
from itertools import islice

from byenatos_sdk.client.core import Frames
from byenatos_sdk.protocol.zmtp import Reader, Violation, first_head, frame_head, opening

__all__ = ["WireLink"]

FRAME_LIMIT = 64 << 20
"""Bytes of the longest frame of events that a kernel sends."""

READ_BYTES = 256 << 10
_BUFFERS = 512


class WireLink:
    """What ``link.Link`` is for a socket of libzmq's. Its descriptor is level-triggered; its end is seen by reading."""

    edge_triggered = False
    """Every send is a call of the system: what is sent in one turn of the loop goes together."""

    __slots__ = ("_emptied", "_frames", "_gone", "_out", "_reader", "_socket", "endpoint")

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.endpoint = "the connection that was handed over"
        self._socket = connected
        self._frames: deque[bytes] = deque()
        self._out: deque[bytes | memoryview] = deque([opening(b"DEALER")])
        self._reader = Reader((FRAME_LIMIT,), self._out.append)
        self._gone = False
        self._emptied = False

    def fileno(self) -> int:
        """Return the descriptor that is readable when something may have come."""
        return self._socket.fileno()

    def monitor_fileno(self) -> None:
        """Return no descriptor: the end of the connection is read from it."""
        return

    def receive(self) -> bytes | None:
        """Take the next frame from the kernel; ``None`` when there is none now.

        A socket that gave less than was asked for is empty: it is not asked again before ``None`` was returned.
        """
        while not self._frames and not self._gone:
            if self._emptied:
                self._emptied = False
                return None
            try:
                data = self._socket.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                data = b""
            if not data:
                self._gone = True
                break
            self._emptied = len(data) < READ_BYTES
            try:
                self._frames.extend(self._reader.feed(data))
            except Violation:
                self._gone = True
        return self._frames.popleft() if self._frames else None

    def send(self, outgoing: deque[Frames]) -> bool:
        """Send and take out what the socket accepts; ``False`` if something is left."""
        out = self._out
        while outgoing or out:
            while outgoing and len(out) < _BUFFERS:
                header, body = outgoing.popleft()
                out.append(first_head(len(header)) + header + frame_head(len(body)))
                if body:
                    out.append(body)
            try:
                sent = self._socket.sendmsg(list(islice(out, _BUFFERS)))
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._gone = True
                out.clear()
                return True
            while out and sent >= len(out[0]):
                sent -= len(out.popleft())
            if sent:
                out[0] = memoryview(out[0])[sent:]
        return True

    @property
    def unsent(self) -> bool:
        """Whether something that was taken out has not left yet."""
        return bool(self._out)

    def gone(self) -> bool:
        """Whether the connection has ended and everything that came was taken."""
        return self._gone and not self._frames

    def close(self, linger_ms: int = 0) -> None:  # noqa: ARG002 - the kernel of the system delivers what it has taken
        """Close the connection; a second call does nothing."""
        self._socket.close()
