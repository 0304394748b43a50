"""The resource limits of one sandbox, applied by the sandboxed process to itself.

Hard and soft limit are set together, so that code inside cannot raise them again unless it is root.

``RLIMIT_NPROC`` is set only in a user namespace, or for a user that nobody else is: the system counts it per user and
user namespace, and does not apply it to root. Counted over *all* of the operator's processes, a bound that stops a
thread bomb would also make an honest driver fail because a browser is open. ``RLIMIT_AS`` is wide, because mapped model
files count towards it and threads reserve more than they use: it bounds the tables of pages, which nothing else counts.
"""

import resource

from msgspec import Struct

__all__ = ["Limits"]

_MIB = 1 << 20
_STACK = 8 * _MIB
_LOCKED = 8 * _MIB
_SIGNALS = 64


class Limits(Struct, frozen=True):
    """Bounds of one process: private memory, descriptors, the size of a file it writes, threads, address space.

    0 is no bound, for memory and address space.
    """

    memory_mib: int
    open_files: int
    file_size_mib: int
    tasks: int
    address_space_mib: int = 0

    def apply(self, *, tasks: bool) -> None:
        """Bind the calling process, for good; ``tasks`` says whether threads can be counted for it alone.

        Raises:
            OSError: if the system refuses a limit.
        """
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_FSIZE, self.file_size_mib * _MIB)
        if self.memory_mib:
            _lower(resource.RLIMIT_DATA, self.memory_mib * _MIB)
        if self.address_space_mib:
            _lower(resource.RLIMIT_AS, self.address_space_mib * _MIB)
        for which in (resource.RLIMIT_MSGQUEUE, resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO):
            _lower(which, 0)
        _lower(resource.RLIMIT_MEMLOCK, _LOCKED)
        if tasks:
            _lower(resource.RLIMIT_NPROC, self.tasks)
            _lower(resource.RLIMIT_SIGPENDING, _SIGNALS)
        _lower(resource.RLIMIT_STACK, _STACK)

    def bound_descriptors(self) -> None:
        """Bound the calling process's descriptors, for good: apart and last, for a root takes more than a driver.

        Raises:
            OSError: if the system refuses.
        """
        _lower(resource.RLIMIT_NOFILE, self.open_files)


def _lower(which: int, value: int) -> None:
    bound = _at_most(value, resource.getrlimit(which)[1])
    resource.setrlimit(which, (bound, bound))


def _at_most(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
