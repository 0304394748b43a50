"""Fatal calls, told by the system to the launching process: it learns the name and kills.

The call waits until somebody answers. Nobody answers: the process is killed instead, so that whatever another thread
writes over the arguments meanwhile, nothing comes of them.

Source: ``seccomp_unotify(2)``.
"""

import fcntl
import select
import struct
from collections.abc import Mapping
from typing import Final

from byenatos_sandbox.linux import MACHINE
from byenatos_sandbox.syscalls import NUMBERS

__all__ = ["fatal_call", "is_hung_up"]

_RECEIVE = 0xC0502100
_NOTIFICATION: Final = struct.Struct("<QIIiIQ6Q")
_NAMES: Mapping[int, str] = {number: name for name, number in NUMBERS.get(MACHINE, {}).items()}


def is_hung_up(listener: int) -> bool:
    """Whether nobody is left who could call."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return all(flags & select.POLLHUP for _, flags in poll.poll(0))


def fatal_call(listener: int) -> str:
    """Take what a listener has to tell and return it in words.

    Raises:
        OSError: the caller is gone, or the listener is not one.
    """
    told = bytearray(_NOTIFICATION.size)
    fcntl.ioctl(listener, _RECEIVE, told)
    _, _, _, number, _, _, *arguments = _NOTIFICATION.unpack(told)
    shown = ", ".join(f"{argument:#x}" for argument in arguments[:3])
    return f"{_NAMES.get(number, f'system call {number}')}({shown})"
