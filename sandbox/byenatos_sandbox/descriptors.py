"""Descriptors in messages (``SCM_RIGHTS``) over a SEQPACKET socket, and the closing of all that is not wanted."""

import array
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence

from byenatos_sandbox.channel import refuse_descriptors
from byenatos_sandbox.linux import system_call

__all__ = [
    "PASS_PIDFD",
    "ask_who_sends",
    "close_all",
    "close_all_but",
    "place",
    "receive",
    "receive_introduction",
    "send",
    "take_none",
]

_MOST = 253  # SCM_MAX_FD
PASS_PIDFD, _PIDFD = 76, 4  # SO_PASSPIDFD, SCM_PIDFD of Linux 6.5, for which Python has no names yet
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


def ask_who_sends(connection: socket.socket) -> None:
    """Have the system say of each message which process sent it, by a descriptor that stays right.

    Raises:
        OSError: it cannot, before Linux 6.5.
    """
    refuse_descriptors(connection)
    connection.setsockopt(socket.SOL_SOCKET, PASS_PIDFD, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def take_none(connection: socket.socket) -> None:
    """Have messages come without who sent them again, and without descriptors."""
    connection.setsockopt(socket.SOL_SOCKET, PASS_PIDFD, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)


def receive_introduction(connection: socket.socket, words: bytes) -> tuple[int, int]:
    """Receive one message of exactly ``words`` and return who sent it: its process id, and its pidfd to be closed.

    Raises:
        OSError: nothing is there, or something else, or the sender is gone.
    """
    room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_MOST * 4)
    data, ancillary, _, _ = connection.recvmsg(len(words) + 1, room, socket.MSG_CMSG_CLOEXEC)
    pid, pidfd = 0, -1
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
        elif (level, kind) == (socket.SOL_SOCKET, _PIDFD):
            pidfd = int.from_bytes(content[:4], sys.byteorder, signed=True)
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            close_all(array.array("i", content[: len(content) - len(content) % 4]))
    if data == words and pid > 0 and pidfd >= 0:
        return pid, pidfd
    close_all([pidfd] if pidfd >= 0 else [])
    raise OSError(errno.EPROTO, f"expected {words!r} from a process that lives, found {data!r}")


def close_all(descriptors: Iterable[int]) -> None:
    """Close each of ``descriptors``."""
    for descriptor in descriptors:
        os.close(descriptor)


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
