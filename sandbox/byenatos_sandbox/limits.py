"""The resource limits of one sandbox, applied by the sandboxed process to itself.

Hard and soft limit are set together (the stack's apart), so that code inside cannot raise them again unless it is root.

``RLIMIT_NPROC`` is left out on purpose: the kernel counts it per user over *all* of the user's processes and threads,
not per sandbox, and does not apply it to root. A bound that stops a fork bomb would also make an honest driver fail
because the operator has a browser open. ``RLIMIT_AS`` is left out because mapped model files count towards it.
"""

import resource

from msgspec import Struct

__all__ = ["Limits"]

_MIB = 1 << 20
_STACK = 8 * _MIB


class Limits(Struct, frozen=True):
    """Bounds of one process: its private memory (0: no bound), its descriptors, the size of each file it writes."""

    memory_mib: int
    open_files: int
    file_size_mib: int

    def apply(self) -> None:
        """Bind the calling process, for good.

        Raises:
            OSError: if the system refuses a limit.
        """
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_NOFILE, self.open_files)
        _lower(resource.RLIMIT_FSIZE, self.file_size_mib * _MIB)
        if self.memory_mib:
            _lower(resource.RLIMIT_DATA, self.memory_mib * _MIB)
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (_at_most(_STACK, hard), hard))


def _lower(which: int, value: int) -> None:
    bound = _at_most(value, resource.getrlimit(which)[1])
    resource.setrlimit(which, (bound, bound))


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
