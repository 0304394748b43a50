"""The few Linux calls that Python has no function for, by ctypes. Each raises ``OSError`` with what it was doing."""

import ctypes
import errno
import os
import platform
from typing import Final

from byenatos_sandbox.syscalls import NUMBERS

__all__ = ["MACHINE", "prctl", "system_call"]

MACHINE: Final = platform.machine()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_holding = ctypes.PyDLL(None, use_errno=True)
_holding.syscall.restype = ctypes.c_long


def system_call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None, holding: bool = False) -> int:
    """Make a system call by its name and return its result; ``holding`` keeps the interpreter's lock meanwhile.

    Raises:
        OSError: it failed; ``ENOSYS`` also for a name or a machine that is not in the tables.
    """
    number = NUMBERS.get(MACHINE, {}).get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: {os.strerror(errno.ENOSYS)} on {MACHINE}")
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    call = _holding.syscall if holding else _libc.syscall
    return _checked(call(ctypes.c_long(number), *given), name)


def prctl(option: int, value: int = 0) -> int:
    """Call ``prctl`` with its further arguments 0."""
    given = [ctypes.c_ulong(one) for one in (value, 0, 0, 0)]
    return _checked(_libc.prctl(option, *given), f"prctl({option}, {value})")


def _checked(result: int, what: str) -> int:
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
