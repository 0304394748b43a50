"""Namespaces: a process's own view of users, mounts, processes, the network, IPC, the host's name and cgroups.

All are made by one ``clone``. The new process is not a child of the one that clones but of *its* parent
(``CLONE_PARENT``): a template clones, and whoever started the template is the one who sees the exit, gets SIGCHLD, and
whose death is the sandbox's. The first process of a process namespace is its process 1: with it dies everything inside,
and of the signals that come from inside, or that it has no handler for, it takes no notice; SIGKILL and SIGSTOP from
outside reach it.

Python's ``os.fork`` cannot do this, and ``unshare`` cannot make the calling process process 1. So the clone is made by
hand, as ``fork`` would: the interpreter's hooks before and after, and the thread id that the C library keeps in memory,
which the system writes anew (``CLONE_CHILD_SETTID``).

A user namespace comes first or last. An ordinary user needs it to make the others; root makes them as root, because
only root can open what lies in root's folders, then becomes an ordinary user for good and enters a user namespace too.

Source: ``clone(2)``, ``user_namespaces(7)``, ``pid_namespaces(7)``.
"""

import ctypes
import os
import signal
from collections.abc import Iterable
from typing import Final

from byenatos_sandbox.linux import MACHINE, system_call

__all__ = ["INSIDE", "NAMESPACES", "become", "clone", "forbid_nesting", "map_user", "unshare"]

NAMESPACES: Final = {
    "user-namespace": 0x10000000,
    "mount-namespace": 0x00020000,
    "pid-namespace": 0x20000000,
    "network-namespace": 0x40000000,
    "ipc-namespace": 0x08000000,
    "uts-namespace": 0x04000000,
    "cgroup-namespace": 0x02000000,
}
"""By name, with the flag of ``clone`` that makes one."""

INSIDE: Final = 1000
"""The number that the one user and the one group of a user namespace have inside it."""

_PARENT, _PARENT_SETTID, _CHILD_CLEARTID, _CHILD_SETTID = 0x00008000, 0x00100000, 0x00200000, 0x01000000
_GET_TID_ADDRESS = 40


def clone(names: Iterable[str], noted_at: int) -> int:
    """Fork this single-threaded process into new namespaces, as a child of its parent.

    Returns 0 in the new process, and its process id, as seen from here, in this one; the system has written that to the
    address ``noted_at`` by then.

    Raises:
        OSError: the system refuses.
    """
    flags = _flags(names) | _PARENT | _PARENT_SETTID | signal.SIGCHLD
    kept = ctypes.c_void_p()
    if ctypes.CDLL(None).prctl(_GET_TID_ADDRESS, ctypes.byref(kept), 0, 0, 0) == 0 and kept.value:
        flags |= _CHILD_SETTID | _CHILD_CLEARTID
    address = kept.value or 0
    rest = (address, 0) if MACHINE == "x86_64" else (0, address)
    ctypes.pythonapi.PyOS_BeforeFork()
    try:
        pid = system_call("clone", flags, 0, noted_at, *rest, holding=True)
    except OSError:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        raise
    if pid:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


def unshare(names: Iterable[str]) -> None:
    """Move this process into new namespaces; a new process namespace is for its children only.

    Raises:
        OSError: the system refuses.
    """
    system_call("unshare", _flags(names))


def _flags(names: Iterable[str]) -> int:
    flags = 0
    for name in names:
        flags |= NAMESPACES[name]
    return flags


def map_user(proc: int, user: int, group: int) -> None:
    """Give the user namespace that this process has just entered its one user and its one group.

    ``user`` and ``group`` are what this process was outside; ``proc`` is an open ``/proc``.

    Raises:
        OSError: the system refuses, as some do only now, by policy.
    """
    _write(proc, "self/setgroups", "deny")
    _write(proc, "self/uid_map", f"{INSIDE} {user} 1")
    _write(proc, "self/gid_map", f"{INSIDE} {group} 1")


def become(user: int) -> None:
    """Turn root into ``user``, a number that nobody else has, for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def forbid_nesting(proc: int) -> None:
    """Let nobody make user namespaces inside this one.

    Raises:
        OSError: the system refuses.
    """
    _write(proc, "sys/user/max_user_namespaces", "0")


def _write(proc: int, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
