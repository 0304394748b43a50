"""Capabilities: none are left, and none can come back.

They matter when the kernel runs as root: root without capabilities is an ordinary user whose number happens to be 0.

Source: ``capabilities(7)``.
"""

import errno
import struct

from byenatos_sandbox.linux import prctl, system_call

__all__ = ["drop"]

_BOUNDING_DROP, _SET_SECUREBITS, _AMBIENT, _AMBIENT_CLEAR_ALL = 24, 28, 47, 4
_VERSION_3 = 0x20080522
_SECUREBITS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80
"""Root is nothing special, neither for exec nor for a change of user; nothing is kept or raised; all of it locked."""


def drop() -> None:
    """Empty all five sets of the calling thread, for good. Call it after setting no_new_privs.

    Raises:
        OSError: the system refuses to empty the sets that count.
    """
    prctl(_AMBIENT, _AMBIENT_CLEAR_ALL)
    capability = 0
    while _allowed(_BOUNDING_DROP, capability):
        capability += 1
    _allowed(_SET_SECUREBITS, _SECUREBITS)
    system_call("capset", struct.pack("Ii", _VERSION_3, 0), bytes(24))


def _allowed(option: int, value: int) -> bool:
    """Do what takes CAP_SETPCAP; without it nothing is lost, because under no_new_privs nothing comes of these sets."""
    try:
        prctl(option, value)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EINVAL}:  # EINVAL: past the last capability that this system has
            return False
        raise
    return True
