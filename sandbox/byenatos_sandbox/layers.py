"""The layers of isolation that depend on the machine: which there are, what each gives, what this machine offers.

A layer that is missing is never skipped in silence: :func:`missing` says why it is, :func:`~byenatos_sandbox.launch`
applies the others, and each process knows what it got (``Process.layers``) and what is open for it (``Process.open``).
"""

import os
import signal
import sys
from collections.abc import Collection, Iterable
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from byenatos_sandbox import cgroup, landlock, seccomp
from byenatos_sandbox.lack import Lack
from byenatos_sandbox.namespaces import NAMESPACES

__all__ = ["KINDS", "LAYERS", "Layer", "hopeless", "lacks", "missing"]

KINDS: Final = ("filesystem", "network", "system-calls", "processes", "resources")
"""The kinds of isolation, as an operator thinks of them; ``trial.py`` finds out whether each is there."""


class Layer(Struct, frozen=True):
    """A layer in words: what it is called, the ``kinds`` of isolation it works for, and what is lost without it.

    ``gives`` are the kinds that it gives even when it is the only layer.
    """

    words: str
    kinds: tuple[str, ...]
    loss: str
    gives: tuple[str, ...] = ()


LAYERS: Final = {
    "user-namespace": Layer(
        "user namespace",
        KINDS,
        "a driver belongs to the kernel's own user or to another real one, and, unless the kernel runs as root, none "
        "of the other namespaces can be made",
    ),
    "mount-namespace": Layer(
        "private root",
        ("filesystem", "resources"),
        "which paths exist can be asked, and the scratch folder is a part of the disk, without a bound",
        ("filesystem", "resources"),
    ),
    "pid-namespace": Layer(
        "process namespace",
        ("processes",),
        "a driver is among the processes of the machine, and what it forks may outlive it",
    ),
    "network-namespace": Layer(
        "network namespace",
        ("network",),
        "the machine's network is there, for whoever finds a way around the filter",
        ("network",),
    ),
    "ipc-namespace": Layer(
        "IPC namespace", ("processes",), "System V memory and message queues are shared with other programs"
    ),
    "uts-namespace": Layer("host name namespace", ("processes",), "a driver knows what the machine is called"),
    "cgroup-namespace": Layer("cgroup namespace", ("processes",), "a driver sees which unit the kernel runs in"),
    "landlock": Layer(
        "Landlock",
        ("filesystem", "network", "processes"),
        "files are protected by the private root alone",
        ("filesystem",),
    ),
    "seccomp": Layer(
        "system call filter",
        ("system-calls", "network", "processes"),
        "all of the system's kernel can be attacked, its rarely used and badly tested calls too",
        ("system-calls", "network"),
    ),
    "cgroup": Layer(
        "control group", ("resources",), "memory and CPU time are bounded for each process and not for what it shares"
    ),
}
"""By name, in the order in which they are applied."""

_LARGEST = 64 << 10
_SURVEY = "from byenatos_sandbox.survey import main; main()"


@cache
def lacks() -> dict[str, Lack]:
    """Return the layers that this machine does not have, each with the reason and what to do about it.

    Takes the time of starting an interpreter, once: namespaces are tried in a process of their own.
    """
    found = _survey()
    if landlock.abi() < 1:
        found["landlock"] = landlock.LACK
    if not seccomp.available():
        found["seccomp"] = Lack(
            "this kernel does not filter system calls, or not on this architecture, or a container forbids it",
            "use Linux 4.14 or newer with CONFIG_SECCOMP_FILTER on x86_64 or aarch64, outside of the container",
        )
    if lack := cgroup.missing():
        found["cgroup"] = lack
    return {name: found[name] for name in LAYERS if name in found}


def missing() -> dict[str, str]:
    """Return :func:`lacks` in sentences."""
    return {name: str(lack) for name, lack in lacks().items()}


def hopeless(required: Iterable[str], absent: Collection[str]) -> dict[str, str]:
    """Return the ``required`` kinds that nothing can give where the layers ``absent`` are missing, with the reason.

    A kind that is not named here may still turn out not to be there, which is found out in each process; ``processes``
    always is, because a user of its own gives it as well.
    """
    found = {}
    for kind in sorted(required):
        givers = [name for name, layer in LAYERS.items() if kind in layer.gives]
        if givers and all(name in absent for name in givers):
            found[kind] = f"there is no {' and no '.join(LAYERS[name].words for name in givers)}"
    return found


def _survey() -> dict[str, Lack]:
    """Ask a process of its own which namespaces can be made."""
    ours, its = os.pipe()
    with os.fdopen(ours, "rb") as answers:
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-B", "-c", _SURVEY],
                {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, its, 1),
                ],
                setsigdef=[signal.SIGCHLD],
            )
        except OSError as error:
            os.close(its)
            return _unknown(str(error))
        os.close(its)
        data = answers.read(_LARGEST)
    os.waitpid(pid, 0)
    try:
        return msgspec.json.decode(data, type=dict[str, Lack])
    except msgspec.DecodeError:
        return _unknown("the process that tried has failed")


def _unknown(why: str) -> dict[str, Lack]:
    return dict.fromkeys(NAMESPACES, Lack(f"this cannot be found out: {why}", "run byenatos doctor again"))
