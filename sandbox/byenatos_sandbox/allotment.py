"""How much a process may take of the machine: what its grant says of one comes to bounds of one and of all together.

A template and the instances that are forked from it are counted as a whole: the group's bounds hold all of them.
"""

import os

from msgspec import Struct

from byenatos_sandbox.cgroup import Bounds
from byenatos_sandbox.grant import Grant
from byenatos_sandbox.limits import Limits

__all__ = ["Allotment"]

_SHARE_OF_MACHINE = 0.75
_FOR_A_FORK = 4  # descriptors while one is made
_ROOM_MIB = 16 << 10
"""Address space beyond memory and files: what threads reserve, and not more page tables than 32 MiB."""


class Allotment(Struct, frozen=True):
    """What a grant allots to a process that maps ``files_mib`` of granted files; ``forks``: it is a template."""

    grant: Grant
    files_mib: int
    forks: bool = False

    @property
    def limits(self) -> Limits:
        """The limits that the process sets itself."""
        grant = self.grant
        # device drivers map far more than they use
        bounded = grant.memory_mib and not grant.devices
        space = grant.memory_mib + grant.arena_mib + self.files_mib + _ROOM_MIB if bounded else 0
        tasks = grant.tasks * grant.instances
        open_files = grant.open_files + (grant.instances + _FOR_A_FORK if self.forks else 0)  # one for each instance
        return Limits(grant.memory_mib, open_files, grant.file_size_mib, tasks, space)

    @property
    def bounds(self) -> Bounds:
        """The bounds of the group that the process and all its instances are in."""
        grant = self.grant
        memory = grant.memory_mib and grant.memory_mib + grant.scratch_mib + grant.arena_mib + self.files_mib
        together = min(memory * grant.instances, max(memory, _share_of_machine_mib()))
        return Bounds(together, grant.tasks * grant.instances, grant.processors * grant.instances)


def _share_of_machine_mib() -> int:
    """The most memory that instances get together, if that is more than one of them gets."""
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _SHARE_OF_MACHINE) >> 20
