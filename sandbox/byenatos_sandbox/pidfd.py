"""What a pidfd tells about the end of a process, a child of this one or not.

Source: ``PIDFD_GET_INFO`` of ``linux/pidfd.h``; how a process ended since Linux 6.15.
"""

import fcntl
import os
import struct
from contextlib import suppress

__all__ = ["reap"]

_SIZE = 64
_GET_INFO = 3 << 30 | _SIZE << 16 | 0xFF << 8 | 11
_EXIT = 1 << 3
_STATUS_AT = 60


def _exit_of(pidfd: int) -> tuple[int | None, int | None]:
    """How a dead process that was reaped ended: its status or its signal; neither where the system does not tell."""
    info = bytearray(_SIZE)
    struct.pack_into("<Q", info, 0, _EXIT)
    with suppress(OSError):
        fcntl.ioctl(pidfd, _GET_INFO, info)
        if struct.unpack_from("<Q", info)[0] & _EXIT:
            code = os.waitstatus_to_exitcode(struct.unpack_from("<i", info, _STATUS_AT)[0])
            return (None, -code) if code < 0 else (code, None)
    return None, None


def reap(pidfd: int) -> tuple[int | None, int | None]:
    """Take the exit of a dead child, or ask how one ended that somebody else has reaped: its status or its signal."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return _exit_of(pidfd)
    assert found is not None
    return (found.si_status, None) if found.si_code == os.CLD_EXITED else (None, found.si_status)
