"""The few Linux calls that Python has no function for, by ctypes. Each raises ``OSError`` with what it was doing."""

import ctypes
import os
import platform
from typing import Final

from byenatos_sandbox.syscalls import NUMBERS

__all__ = ["MACHINE", "prctl", "system_call"]

MACHINE: Final = platform.machine()
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def system_call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call by its name and return its result.

    Raises:
        OSError: it failed; ``ENOSYS`` also for a name or a machine that is not in the tables.
    """
    number = NUMBERS.get(MACHINE, {}).get(name)
    if number is None:
        raise OSError(38, f"{name}: {os.strerror(38)} on {MACHINE}")
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *given)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    """Call ``prctl`` with what is not given being 0."""
    given = [ctypes.c_ulong(one) for one in (value, third, 0, 0)]
    result: int = _libc.prctl(option, *given)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}): {os.strerror(error)}")
    return result
