"""Parts of the layers that came with later kernels: a layer without one is on, and weaker.

Unlike a layer, no part is needed for a kind of isolation, because another layer does the same; together they are why no
single hole opens a sandbox. One is there for speed: where it is missing, there are no sandboxed templates.
"""

import socket
from functools import cache
from typing import Final

from msgspec import Struct

from byenatos_sandbox import landlock
from byenatos_sandbox.channel import PASS_RIGHTS
from byenatos_sandbox.descriptors import PASS_PIDFD
from byenatos_sandbox.lack import Lack
from byenatos_sandbox.linux import prctl

__all__ = ["PARTS", "SENDERS", "Part", "missing_parts"]

SENDERS: Final = "known-senders"
"""The part without which a process that a sandboxed template forked cannot be told from another one."""

_PR_GET_MDWE = 66
_OPTIONS: Final = {PASS_RIGHTS: "SO_PASSRIGHTS", PASS_PIDFD: "SO_PASSPIDFD"}


class Part(Struct, frozen=True):
    """A part in words: what it is called, the ``kinds`` of isolation it works for, since when, what is lost without."""

    words: str
    kinds: tuple[str, ...]
    since: str
    loss: str


PARTS: Final = {
    "landlock-tcp": Part("Landlock: TCP", ("network",), "6.7", "TCP is denied by the system call filter alone"),
    "landlock-ioctl": Part(
        "Landlock: device commands", ("filesystem",), "6.10", "ioctl on devices is denied by the filter alone"
    ),
    "landlock-scope": Part(
        "Landlock: signals and abstract sockets",
        ("processes", "network"),
        "6.12",
        "signals and abstract sockets are denied by namespaces and the filter alone",
    ),
    "memory-deny-write-execute": Part(
        "no memory written and executed", ("system-calls",), "6.3", "the system call filter alone denies it"
    ),
    "refuse-descriptors": Part(
        "channel refuses descriptors",
        ("resources",),
        "6.16",
        "a driver can make the kernel close files for it, which can take the kernel's time",
    ),
    SENDERS: Part(
        "sandboxed templates",
        (),
        "6.5",
        "each process of a driver imports its libraries and loads its model by itself, and shares nothing",
    ),
}
"""By name, each below its layer; the numbers are versions of Linux."""

_LANDLOCK_ABI: Final = {"landlock-tcp": 4, "landlock-ioctl": 5, "landlock-scope": 6}


@cache
def missing_parts() -> dict[str, Lack]:
    """Return the parts that this machine does not have, each with the reason and what to do about it."""
    version = landlock.abi()
    found = {
        name: f"this kernel has version {version} of Landlock, and {needed} is needed"
        for name, needed in _LANDLOCK_ABI.items()
        if 0 < version < needed
    }
    try:
        prctl(_PR_GET_MDWE)
    except OSError as error:
        found["memory-deny-write-execute"] = str(error)
    for name, option, value in (("refuse-descriptors", PASS_RIGHTS, 0), (SENDERS, PASS_PIDFD, 1)):
        if why := _refused(option, value):
            found[name] = why
    lacks = {name: Lack(why, f"use Linux {PARTS[name].since} or newer") for name, why in found.items()}
    if version == 0:
        lacks |= dict.fromkeys(_LANDLOCK_ABI, landlock.LACK)
    return lacks


def _refused(option: int, value: int) -> str:
    """Say why an option of a unix socket cannot be set; empty if it can."""
    with socket.socket(socket.AF_UNIX) as receiver:
        try:
            receiver.setsockopt(socket.SOL_SOCKET, option, value)
        except OSError as error:
            return f"{_OPTIONS[option]}: {error.strerror}"
    return ""
