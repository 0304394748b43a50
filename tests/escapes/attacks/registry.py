"""The one list of attacks: what each is called, where it belongs, what stops it, and what it takes to work outside.

An attack is a function that gets the *prey* (what it is after: files, sockets and processes that the tests made
outside), returns what it got if it worked and raises ``OSError``, or dies, if it did not. Its name says what it does.
"""

import contextlib
import ctypes
import os
import platform
import signal
from collections.abc import Callable
from typing import NamedTuple

from byenatos_sandbox.spec import FILES
from byenatos_sandbox.syscalls import NUMBERS

__all__ = [
    "ATTACKS",
    "KINDS_OF_STOPPERS",
    "Attack",
    "Prey",
    "Stopped",
    "answer_for_ever",
    "attack",
    "call",
    "check",
    "granted",
    "libc",
]

Prey = dict[str, object]

KINDS_OF_STOPPERS = {
    "private root": "a root file system of its own: what is not in it cannot be named",
    "landlock": "files that no rule names cannot be opened, no TCP, no signals to the outside",
    "seccomp": "system calls that an honest driver does not make are refused or fatal",
    "namespaces": "processes, network, IPC, users and names of its own",
    "process": "what every sandbox gets: no capabilities, no new privileges, closed descriptors, clean environment, "
    "not dumpable, no memory both written and executed, killed with its group",
    "limits": "resource limits of the process",
    "cgroup": "resource limits of the sandbox as a whole",
    "channel": "the kernel's end of the channel, which is strict and bounded",
    "one-shot template": "a template that is used once shares nothing with anybody",
}
"""What may stand after ``stopped_by``. Each one named there is enough by itself."""


class Attack(NamedTuple):
    """One attack.

    ``stopped_by`` names what stops it, each by itself. ``needs`` says why it may fail outside as well, ``lasting`` that
    it has worked if something of it still answers after its process was ended, ``flooding`` that its channel is what it
    attacks, so that it has worked if the kernel's end of it takes everything.
    """

    name: str
    category: str
    stopped_by: tuple[str, ...]
    needs: str
    lasting: bool
    flooding: bool
    function: Callable[[Prey], object]


ATTACKS: dict[str, Attack] = {}


class Stopped(OSError):
    """The attack was made and got nothing that counts."""


def attack(
    *stopped_by: str, needs: str = "", lasting: bool = False, flooding: bool = False
) -> Callable[[Callable[[Prey], object]], Callable[[Prey], object]]:
    """Add a function to the list; its module is its category."""

    def add(function: Callable[[Prey], object]) -> Callable[[Prey], object]:
        name = function.__name__
        if unknown := set(stopped_by) - set(KINDS_OF_STOPPERS):
            raise ValueError(f"{name}: expected some of {', '.join(KINDS_OF_STOPPERS)}, found {', '.join(unknown)}")
        if name in ATTACKS:
            raise ValueError(f"{name}: two attacks of one name")
        category = function.__module__.rpartition(".")[2].replace("_", " ")
        ATTACKS[name] = Attack(name, category, stopped_by, needs, lasting, flooding, function)
        return function

    return add


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def libc() -> ctypes.CDLL:
    return _libc


def check(result: int) -> int:
    """Raise ``OSError`` for a C function that returned -1."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def granted(prey: Prey) -> int:
    """The granted file, opened to read: by its name, or what is open of it where it has none."""
    try:
        return os.open(str(prey["granted"]), os.O_RDONLY)
    except OSError:
        return os.dup(FILES)


def call(which: str | int, *arguments: object) -> int:
    """Make a system call by its name or number, with no help from the C library."""
    number = NUMBERS[platform.machine()].get(which, -1) if isinstance(which, str) else which
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return check(_libc.syscall(ctypes.c_long(number), *given))


_LONGEST_S = 20
"""After which what an attack left behind ends by itself, should a test have failed to end it."""


def answer_for_ever(wire: int) -> None:
    """Say whoever asks that this process is still there."""
    signal.alarm(_LONGEST_S)
    with contextlib.suppress(OSError):
        while os.read(wire, 1):
            os.write(wire, b"!")
    os._exit(0)
