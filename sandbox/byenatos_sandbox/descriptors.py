"""Descriptors in messages (``SCM_RIGHTS``) over a SEQPACKET socket, and the closing of all that is not wanted."""

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Sequence

from byenatos_sandbox.linux import system_call

__all__ = ["close_all_but", "place", "receive", "receive_introduction", "send"]

_MOST = 253  # SCM_MAX_FD
_LAST = (1 << 31) - 1
_CREDENTIALS = struct.Struct("3i")


def send(connection: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one message with ``descriptors``.

    Raises:
        OSError: it cannot be sent.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([data], rights)


def receive(connection: socket.socket, size: int = 64 << 10) -> tuple[bytes, list[int]]:
    """Receive one message of at most ``size`` bytes and its descriptors; no bytes if the other end is closed."""
    data, ancillary, _, _ = connection.recvmsg(size, socket.CMSG_SPACE(_MOST * 4), socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(rights[: len(rights) - len(rights) % found.itemsize])
    return data, list(found)


def receive_introduction(connection: socket.socket, words: bytes) -> int:
    """Receive one message of exactly ``words`` and return who sent it, as the system says (``SO_PASSCRED`` is on).

    Raises:
        OSError: nothing is there, or something else.
    """
    data, ancillary, _, _ = connection.recvmsg(len(words) + 1, socket.CMSG_SPACE(_CREDENTIALS.size))
    for level, kind, credentials in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and data == words:
            return int(_CREDENTIALS.unpack(credentials[: _CREDENTIALS.size])[0])
    raise OSError(errno.EPROTO, f"expected {words!r} with credentials, found {data!r}")


def place(wanted: dict[int, int]) -> None:
    """Move descriptors: for each, its new number and its present one; what stood there before is closed."""
    above = max([*wanted, *wanted.values()]) + 1  # no further: there may be a low limit
    aside = {number: _duplicate(present, above) for number, present in wanted.items()}
    for number, present in aside.items():
        os.dup2(present, number, inheritable=False)
        os.close(present)


def _duplicate(descriptor: int, least: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor that is not among ``kept``."""
    start = 0
    for number in sorted(set(kept)):
        if number > start:
            system_call("close_range", start, number - 1, 0)
        start = number + 1
    system_call("close_range", start, _LAST, 0)
