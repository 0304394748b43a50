"""The layers of isolation that depend on the machine: which there are, and what this machine offers.

A layer that is missing is never skipped in silence: :func:`missing` says why it is, :func:`~byenatos_sandbox.launch`
applies the others, and each process knows what it got (``Process.layers``).
"""

from functools import cache
from typing import Final

from byenatos_sandbox import landlock, seccomp

__all__ = ["LAYERS", "missing"]

LAYERS: Final = ("landlock", "seccomp")
"""By name, in the order in which they are applied."""


@cache
def missing() -> dict[str, str]:
    """Return the layers that this machine does not have, each with what to do about it."""
    found: dict[str, str] = {}
    if landlock.abi() < 1:
        found["landlock"] = (
            "this kernel has no Landlock, or it is switched off: files are not isolated; "
            "use Linux 5.13 or newer with `landlock` among the names in /sys/kernel/security/lsm"
        )
    if not seccomp.available():
        found["seccomp"] = (
            "this kernel does not filter system calls, or not on this machine's architecture: "
            "the network is not isolated; use Linux 4.14 or newer with CONFIG_SECCOMP_FILTER on x86_64 or aarch64"
        )
    return found
