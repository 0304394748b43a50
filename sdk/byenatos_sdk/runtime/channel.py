"""The driver's end of its channel to the kernel: a stock libzmq PAIR on an inherited listening descriptor.

The kernel has connected to the listening socket before this process began and has removed its name, so nobody else can:
``ZMQ_USE_FD`` makes libzmq accept from the descriptor instead of making a socket of its own, which a sandbox forbids.

A libzmq socket may be used from several threads only under a lock. The loop sends and receives, the heartbeat sends, an
engine's thread may send.
"""

import threading

import zmq

__all__ = ["Channel"]

SEND_HIGH_WATER = 256
"""Frames that may wait in libzmq for a kernel that does not read; with frames of at most 128 KiB, 32 MiB."""

# Plain numbers: an operation on an enum flag costs as much as a receive.
_AT_ONCE = int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)

_LOST = (
    zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class Channel:
    """Frames to and from the kernel. :meth:`send`, :meth:`receive` and :meth:`active` may be called from any thread."""

    __slots__ = ("_context", "_lock", "_monitor", "_socket", "fd", "monitor_fd")

    def __init__(self, fd: int) -> None:
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER)
        self._socket.setsockopt(zmq.USE_FD, fd)
        self._monitor = self._socket.get_monitor_socket(_LOST)
        self._socket.bind("ipc://byenatos")  # libzmq wants a name and never uses it: the socket is the descriptor's
        self._lock = threading.Lock()
        self.fd = int(self._socket.getsockopt(zmq.FD))
        self.monitor_fd = int(self._monitor.getsockopt(zmq.FD))

    def send(self, frame: bytes) -> bool:
        """Send one frame; return ``False``, having done nothing, when the channel is full or has no peer yet."""
        with self._lock:
            try:
                self._socket.send(frame, _AT_ONCE)
            except zmq.Again:
                return False
        return True

    def receive(self, most: int) -> list[bytes]:
        """Take what has arrived, at most ``most`` frames; fewer mean that nothing is left."""
        frames: list[bytes] = []
        receive = self._socket.recv
        with self._lock:
            if not self._events() & _READABLE:  # EAGAIN as an exception costs twice as much
                return frames
            try:
                for _ in range(most):
                    frames.append(receive(_AT_ONCE))  # noqa: PERF401 - what arrived before EAGAIN must be kept
            except zmq.Again:
                pass
        return frames

    def active(self) -> bool:
        """Whether a frame can be read or written now; if not, the descriptor will say when."""
        with self._lock:
            return self._events() != 0

    def _events(self) -> int:
        return int(self._socket.getsockopt(_EVENTS))

    def lost(self) -> bool:
        """Whether the kernel has closed its end; ask when :attr:`monitor_fd` is readable."""
        return bool(self._monitor.poll(0))

    def close(self, linger_ms: int) -> None:
        """Close, giving what was sent ``linger_ms`` milliseconds to leave."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=linger_ms)
        self._context.term()
