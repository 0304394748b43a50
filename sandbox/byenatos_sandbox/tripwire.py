"""Calls that the system tells to the launching process, which decides what becomes of them.

A call waits until somebody answers it. A *fatal* one is never answered: the process is killed instead, so that whatever
another thread writes over the arguments meanwhile, nothing comes of it. A call of ``socket`` is answered with a
descriptor of the launching process's choice, or with an error; the system never carries it out. Its arguments are
numbers, told as they were when the filter looked at them.

Source: ``seccomp_unotify(2)``.
"""

import errno
import fcntl
import os
import select
import struct
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from byenatos_sandbox.linux import MACHINE
from byenatos_sandbox.syscalls import NUMBERS

__all__ = ["Call", "Listener"]

_RECEIVE, _ANSWER, _HAND = 0xC0502100, 0xC0182101, 0x40182103
_NOTIFICATION: Final = struct.Struct("<QIIiIQ6Q")
_HANDED: Final = struct.Struct("<Q4I")
_ANSWERED: Final = struct.Struct("<QqiI")
_AND_ANSWER = 2  # SECCOMP_ADDFD_FLAG_SEND of Linux 5.14
_NAMES: Mapping[int, str] = {number: name for name, number in NUMBERS.get(MACHINE, {}).items()}


class Call(Struct, frozen=True):
    """One call: its ``id`` for the answer, the ``thread`` that made it, what it is, and its six arguments."""

    id: int
    thread: int
    name: str
    arguments: tuple[int, ...]

    def describe(self) -> str:
        """Say it in words."""
        return f"{self.name}({', '.join(f'{argument:#x}' for argument in self.arguments[:3])})"


class Listener:
    """The descriptor on which one filter tells. Once closed, it reaches no other descriptor of its number."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._descriptor

    def close(self) -> None:
        """Close it: calls that wait then fail with ``ENOSYS``; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_hung_up(self) -> bool:
        """Whether nobody is left who could call."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return all(flags & select.POLLHUP for _, flags in poll.poll(0))

    def receive(self) -> Call:
        """Take what there is to be told.

        Raises:
            OSError: the caller is gone or was interrupted, or this is no listener.
        """
        told = bytearray(_NOTIFICATION.size)
        self._control(_RECEIVE, told)
        cookie, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(told)
        return Call(cookie, thread, _NAMES.get(number, f"system call {number}"), tuple(arguments))

    def hand(self, call: Call, descriptor: int, *, close_on_exec: bool) -> None:
        """Answer ``call`` with a copy of ``descriptor``.

        Raises:
            OSError: the caller is gone, has no room for it, or the system is older than Linux 5.14.
        """
        flags = os.O_CLOEXEC if close_on_exec else 0
        self._control(_HAND, bytearray(_HANDED.pack(call.id, _AND_ANSWER, descriptor, 0, flags)))

    def refuse(self, call: Call, error: int) -> None:
        """Have ``call`` fail with ``error``.

        Raises:
            OSError: the caller is gone.
        """
        self._control(_ANSWER, bytearray(_ANSWERED.pack(call.id, 0, -error, 0)))

    def _control(self, request: int, data: bytearray) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "the listener is closed")
        fcntl.ioctl(self._descriptor, request, data)
