"""Connected streams from the broker, asked for on the descriptor that the driver inherited."""

import array
import asyncio
import functools
import select
import socket
import threading
import time
from contextlib import suppress

from byenatos_sdk.protocol.errors import Unavailable

__all__ = ["DIAL_S", "EGRESS", "KEPT_ALIVE_S", "MOST_CONNECTIONS", "SOCKET", "EgressUnavailable", "dial", "dial_async"]

EGRESS = 4
"""The descriptor on which a driver finds its port of the broker; its channel to the kernel is 3."""

SOCKET = "/run/egress.sock"
"""The unix socket at which a driver with an egress socket finds the broker."""

DIAL_S = 10.0
MOST_CONNECTIONS = 48
KEPT_ALIVE_S = 120.0
_LONGEST_REASON = 300


class EgressUnavailable(Unavailable):
    """The broker hands out no stream. The message says why; a plugin without ``[[egress]]`` never gets one."""


def dial(timeout_s: float = DIAL_S) -> socket.socket:
    """Return a connected stream to the broker. May be called from any thread.

    Raises:
        EgressUnavailable: this process has no port, or the broker has no room or does not answer.
    """
    port = _port()
    with _lock:
        _drop_late_answers(port)
        try:
            port.send(b"?", socket.MSG_DONTWAIT)
            answer, stream = _answer(port, timeout_s)
        except OSError as error:
            raise EgressUnavailable(f"the egress broker cannot be asked: {error.strerror or error}") from None
    if stream is not None:
        return stream
    if not answer:
        raise EgressUnavailable(f"the egress broker does not answer within {timeout_s:g} s")
    raise EgressUnavailable(f"the egress broker hands out no stream: {answer[1:].decode(errors='replace')}")


async def dial_async(timeout_s: float = DIAL_S) -> socket.socket:
    """Return a connected stream without holding the event loop up; see :func:`dial`."""
    dialling = asyncio.ensure_future(asyncio.to_thread(dial, timeout_s))
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        dialling.add_done_callback(_close_unwanted)
        raise


# ---- dialling ----------------------------------------------------------------------------------------------------

_lock = threading.Lock()


@functools.cache
def _port() -> socket.socket:
    try:
        found = socket.socket(fileno=EGRESS)
    except OSError:
        raise EgressUnavailable(
            "this driver has no way out: its plugin.toml has no [[egress]], or the operator granted none of it"
        ) from None
    if (found.family, found.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        found.detach()
        raise EgressUnavailable(f"expected the broker's port at descriptor {EGRESS}, found something else")
    return found


def _receive(port: socket.socket) -> tuple[bytes, socket.socket | None]:
    answer, ancillary, _, _ = port.recvmsg(_LONGEST_REASON, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            rights = array.array("i")
            rights.frombytes(data[:4])
            return answer, socket.socket(fileno=rights[0])
    return answer, None


def _answer(port: socket.socket, timeout_s: float) -> tuple[bytes, socket.socket | None]:
    """Wait for an answer. Streams are alike, so that whose question it answers does not matter."""
    poll = select.poll()
    poll.register(port, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        with suppress(BlockingIOError):
            answer, stream = _receive(port)
            if not answer:
                raise ConnectionResetError("the kernel closed the port")
            return answer, stream
    return b"", None


def _drop_late_answers(port: socket.socket) -> None:
    """A question that nobody waited for may have been answered since."""
    with suppress(BlockingIOError):
        while True:
            answer, stream = _receive(port)
            if stream is not None:
                stream.close()
            if not answer:
                return


def _close_unwanted(dialling: "asyncio.Future[socket.socket]") -> None:
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result().close()
