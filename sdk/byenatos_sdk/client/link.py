"""The client's socket: a DEALER that knows whether its kernel is there and when it goes away.

A DEALER hides its peer: it connects to nothing without a word, queues for ever, and after a crash connects again to
whoever binds the address next, although the new kernel has never heard of the streams that ran. So:

- Before connecting, a plain ``AF_UNIX`` connect asks whether anybody listens: a missing or stale socket file is seen at
  once (``ENOENT``, ``ECONNREFUSED``) and costs no timeout.
- The socket's monitor reports the end of the connection, which the operating system announces also after ``kill -9``.
  What had already arrived is read before it is believed (``EVENT_DISCONNECTED`` is sent after the last message was
  queued). The pid in the home's lock file would tell the same, but not across pid namespaces.
- The reconnect interval is an hour, so that in effect there is none. libzmq has an interval of "never", but then it
  throws away what had arrived and was not yet read: the last answers of a kernel that stopped in good order.
- ZMTP heartbeats, answered by the kernel's I/O thread whatever its loop does, find a stopped process or a machine that
  is gone.

Sends never block: :meth:`Link.send` says ``False`` when 1,000 messages are queued, and keeps the rest for when
:meth:`Link.fileno` is readable again. That descriptor is edge-triggered and *any* call on the socket may swallow its
edge: after every send, and after every wake-up, read until :meth:`Link.receive` returns ``None``.
"""

import math
import socket
from collections import deque
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from byenatos_sdk.client.core import Frames, KernelNotRunning
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import PermissionDenied

__all__ = ["HEARTBEAT_TIMEOUT_MS", "LINGER_MS", "Link"]

HEARTBEAT_TIMEOUT_MS = 30_000
"""A kernel whose process does not answer a ZMTP ping for this long is gone."""

LINGER_MS = 1000
"""How long closing waits for a kernel that does not read."""

_HIGH_WATER_MARK = 1000
_LONGEST_WAIT_S = 0.5
_NEVER_MS = 3_600_000
_ENDS = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
# Plain numbers: joining two enum flags costs as much as a receive.
_AT_ONCE = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class Link:
    """One connected socket to the kernel of one home.

    Raises:
        KernelNotRunning: if nobody listens there.
        PermissionDenied: if the socket belongs to somebody else.
    """

    unsent = False
    """What is taken out leaves by itself: libzmq has a thread for that."""

    edge_triggered = True
    """Whether a send may swallow the news that something has come, and costs no call of the system."""

    __slots__ = ("_context", "_gone", "_monitor", "_poller", "_socket", "endpoint")

    def __init__(self, home: Home) -> None:
        self.endpoint = home.endpoint
        _ask(home.socket, home.endpoint)
        self._gone = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set_hwm(_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _NEVER_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, max(1, HEARTBEAT_TIMEOUT_MS // 3))
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._monitor = self._socket.get_monitor_socket(_ENDS)
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._socket.connect(home.endpoint)

    def fileno(self) -> int:
        """Return the descriptor that is readable when something may have come or may be sent again."""
        return self._socket.FD

    def monitor_fileno(self) -> int:
        """Return the descriptor that is readable when :meth:`gone` may have changed."""
        return self._monitor.FD

    def wait(self, timeout_s: float | None, *, to_send: bool = False) -> None:
        """Block until something may be read, may be sent (if ``to_send``) or has ended, or the time has passed.

        May return early. It never waits longer than half a second: a Ctrl-C that comes just before the system call does
        not interrupt it, and would be noticed only when the kernel next speaks.
        """
        self._poller.register(self._socket, zmq.POLLIN | zmq.POLLOUT if to_send else zmq.POLLIN)
        longest_s = _LONGEST_WAIT_S if timeout_s is None else min(timeout_s, _LONGEST_WAIT_S)
        self._poller.poll(max(0, math.ceil(longest_s * 1000)))

    def receive(self) -> bytes | None:
        """Take the next frame from the kernel; ``None`` when there is none now."""
        try:
            return self._socket.recv(_AT_ONCE)
        except zmq.Again:
            return None

    def send(self, outgoing: deque[Frames]) -> bool:
        """Send and take out what the socket accepts; ``False`` if something is left."""
        while outgoing:
            header, body = outgoing[0]
            try:
                self._socket.send(header, _MORE)
                self._socket.send(body, _AT_ONCE)
            except zmq.Again:
                return False
            outgoing.popleft()
        return True

    def gone(self) -> bool:
        """Whether the connection has ended; ask again when :meth:`monitor_fileno` is readable."""
        while not self._gone:
            try:
                message = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._gone = bool(parse_monitor_message(message)["event"] & _ENDS)
        return self._gone

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close the socket and wait at most ``linger_ms`` until what was sent is out; a second call does nothing."""
        if self._context.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close(linger=0 if self._gone else linger_ms)
        self._context.term()


def _ask(path: Path, endpoint: str) -> None:
    """Raise unless somebody listens at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return  # its queue of connections is full: somebody listens
        except PermissionError as error:
            raise PermissionDenied(
                f"{path}: expected a socket of this user, found another user's; use its home"
            ) from error
        except OSError as error:
            raise KernelNotRunning(
                f"no kernel answers at {endpoint} ({error.strerror}); start one with `byenatos up`"
            ) from error
