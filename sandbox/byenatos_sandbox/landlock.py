"""Landlock: which files a process may open, and nothing else of the file system; no TCP; no signals to the outside.

Every right that the running kernel knows is handled, so that what no rule names is denied, rights of later kernels as
far as their numbers are known here. What Landlock does not cover at all (``chmod``, ``chown``, ``utime``, extended
attributes, ``stat``) is seccomp's to deny.

Source: ``linux/landlock.h`` and ``Documentation/userspace-api/landlock.rst``.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable
from enum import IntFlag

from msgspec import Struct

from byenatos_sandbox.lack import Lack
from byenatos_sandbox.linux import system_call

__all__ = ["LACK", "READ", "READ_DEVICE", "READ_WRITE", "USE_DEVICE", "Access", "Rule", "abi", "restrict"]

LACK = Lack(
    "this kernel has no Landlock (Linux 5.13 and newer do), or it is switched off",
    "add `landlock` to the boot parameter lsm= (now: cat /sys/kernel/security/lsm)",
)
"""What is said where there is no Landlock."""

_VERSION, _PATH_BENEATH, _NET_PORT = 1, 1, 2
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Access(IntFlag):
    """``LANDLOCK_ACCESS_FS_*``."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15
    RESOLVE_UNIX = 1 << 16


_LATER = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5, Access.RESOLVE_UNIX: 9}
_SINCE = {int(access): _LATER.get(access, 1) for access in Access}
_OF_FILES = int(Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV)
_TCP, _TCP_AND_UDP, _CONNECT_TCP = 0b11, 0b1111, 0b10
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

READ = int(Access.READ_FILE | Access.READ_DIR)
READ_DEVICE = int(Access.READ_FILE | Access.WRITE_FILE)
USE_DEVICE = int(READ_DEVICE | Access.IOCTL_DEV)
READ_WRITE = int(
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
    | Access.REFER
)


class Rule(Struct, frozen=True):
    """What is allowed at and, for a folder, beneath ``path``; ``access`` are flags of ``Access``."""

    path: str
    access: int


def abi() -> int:
    """Return the version of Landlock that the running kernel speaks; 0 if it has none or it is switched off."""
    try:
        return system_call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def restrict(rules: Iterable[Rule], connect: Iterable[int] | None = None) -> None:
    """Bind the calling thread, and all that it starts, to ``rules``, for good; paths that lead nowhere are left out.

    Without ``connect`` there is no network. With it, TCP connections to these ports can be made, as far as Landlock
    knows of TCP (Linux 6.7), and UDP is left alone: names are looked up by it.

    Call it in a process with one thread that has set no_new_privs.

    Raises:
        OSError: the kernel has no Landlock or refuses; nothing is restricted then.
    """
    version = abi()
    handled = sum(access for access, since in _SINCE.items() if since <= version)
    network = 0 if version < 4 else _TCP if version < 10 or connect is not None else _TCP_AND_UDP
    scoped = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = system_call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for rule in rules:
            _add(ruleset, rule, handled)
        for port in set(connect or ()) if network else ():
            system_call("landlock_add_rule", ruleset, _NET_PORT, struct.pack("<QQ", _CONNECT_TCP, port), 0)
        system_call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _add(ruleset: int, rule: Rule, handled: int) -> None:
    try:
        place = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return
        raise
    try:
        access = rule.access & handled
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_FILES
        system_call("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("<Qi", access, place), 0)
    finally:
        os.close(place)
