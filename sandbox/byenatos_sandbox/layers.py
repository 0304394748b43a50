"""The layers of isolation that depend on the machine: which there are, and what this machine offers.

A layer that is missing is never skipped in silence: :func:`missing` says why it is, :func:`~byenatos_sandbox.launch`
applies the others, and each process knows what it got (``Process.layers``) and what is open for it (``Process.open``).
"""

import os
import signal
import sys
from functools import cache
from typing import Final

import msgspec

from byenatos_sandbox import cgroup, landlock, seccomp
from byenatos_sandbox.namespaces import NAMESPACES

__all__ = ["LAYERS", "missing"]

LAYERS: Final = (*NAMESPACES, "landlock", "seccomp", "cgroup")
"""By name, in the order in which they are applied."""

_LARGEST = 64 << 10
_SURVEY = "from byenatos_sandbox.survey import main; main()"


@cache
def missing() -> dict[str, str]:
    """Return the layers that this machine does not have, each with what to do about it.

    Takes the time of starting an interpreter, once: namespaces are tried in a process of their own.
    """
    found = _survey()
    if landlock.abi() < 1:
        found["landlock"] = (
            "this kernel has no Landlock, or it is switched off: files are protected by the private root only; "
            "use Linux 5.13 or newer with `landlock` among the names in /sys/kernel/security/lsm"
        )
    if not seccomp.available():
        found["seccomp"] = (
            "this kernel does not filter system calls, or not on this machine's architecture; "
            "use Linux 4.14 or newer with CONFIG_SECCOMP_FILTER on x86_64 or aarch64"
        )
    if why := cgroup.missing():
        found["cgroup"] = why
    return found


def _survey() -> dict[str, str]:
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
            return dict.fromkeys(NAMESPACES, f"this cannot be found out: {error}")
        os.close(its)
        data = answers.read(_LARGEST)
    os.waitpid(pid, 0)
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except msgspec.DecodeError:
        return dict.fromkeys(NAMESPACES, "this cannot be found out: the process that tried has failed")
