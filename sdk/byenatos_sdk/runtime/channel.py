"""The driver's end of its channel to the kernel: a ZMTP peer on an inherited listening descriptor.

The kernel has connected to the listening socket before this process began and has removed its name, so nobody else can;
the one connection is accepted and the listener closed. ZeroMQ's wire is spoken without libzmq (see ``protocol.zmtp``):
whoever sends writes to the socket itself, be it the loop, the heartbeat's thread or an engine's, and no thread in
between has to be woken for it.

What the socket takes in part is kept and goes out first; until then it takes nothing more. What is sent to a kernel
that is gone is dropped: the loop hears of its end by reading.
"""

import socket
import threading

from byenatos_sdk.protocol.frames import MAX_BODY
from byenatos_sdk.protocol.zmtp import Reader, frame_head, opening

__all__ = ["Channel"]

OPENING_S = 30.0
"""How long to wait for the kernel's connection and its opening words, which are there already unless it is broken."""

READ_BYTES = 256 << 10
FRAME_LIMIT = 2 * MAX_BODY
"""Bytes of the longest frame from the kernel: a request, and what its answer has already."""


class Channel:
    """Frames to and from the kernel. Hold :attr:`lock` while calling :meth:`send` or :meth:`resume`, from any thread.

    :meth:`receive` belongs to the event loop, and is called once before waiting for the socket: something may have come
    with the opening.
    """

    __slots__ = ("_early", "_reader", "_rest", "_socket", "lock", "lost")

    def __init__(self, fd: int) -> None:
        """Accept the connection and shake hands.

        Raises:
            OSError: nobody connected, or who did has left.
            Violation: who connected speaks no ZMTP.
        """
        with socket.socket(fileno=fd) as listening:
            listening.settimeout(OPENING_S)
            self._socket, _ = listening.accept()
        self._reader = Reader((FRAME_LIMIT,), self._answer)
        self._rest = memoryview(b"")
        self._early: list[bytes] = []
        self.lock = threading.Lock()
        self.lost = False
        """Whether the kernel has closed its end."""
        self._socket.settimeout(OPENING_S)
        self._socket.sendall(opening(b"PAIR"))
        while not self._reader.shaken:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("the kernel closed the channel before it had said anything")
            self._early += self._reader.feed(data)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the socket's descriptor, for the event loop."""
        return self._socket.fileno()

    def send(self, frame: bytes) -> bool:
        """Send one frame; return ``False``, having done nothing, when the socket is full."""
        if self._rest and not self.resume():
            return False
        data = frame_head(len(frame)) + frame
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            return False
        except OSError:
            return True  # nobody is there to miss it
        if sent < len(data):
            self._rest = memoryview(data)[sent:]
        return True

    def resume(self) -> bool:
        """Send the rest of a frame that was taken in part; return whether there is room for more."""
        if self._rest:
            try:
                sent = self._socket.send(self._rest)
            except BlockingIOError:
                return False
            except OSError:
                sent = len(self._rest)
            self._rest = self._rest[sent:]
        return not self._rest

    def receive(self) -> list[bytes]:
        """Take what has arrived; nothing if the kernel is gone, which :attr:`lost` tells from then on.

        Raises:
            Violation: what arrived is no ZMTP.
        """
        if self._early:
            early, self._early = self._early, []
            return early
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.lost = True
            return []
        return self._reader.feed(data)

    def close(self) -> None:
        """Close the connection; what the socket has taken still arrives."""
        self._socket.close()

    def _answer(self, command: bytes) -> None:
        with self.lock:
            if not self._rest:
                self._rest = memoryview(command)
                self.resume()
