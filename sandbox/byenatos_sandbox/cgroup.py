"""Control groups: memory, tasks and CPU time of one sandbox bounded as a whole, where this user may make groups.

Version 2 needs a group that was delegated to this user (a systemd unit with ``Delegate=memory pids cpu``); version 1 is
left to root. The launching process makes the group, sets its bounds and opens its list of members; the sandboxed
process, which has inherited that descriptor, enters it by itself while it applies its other layers, because entering
can take milliseconds that the launching process does not have. The group is removed after the process.

Memory counts what the group's processes touch first, mapped files too, so a bound must leave room for the granted
files.

Source: ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

import os
import re
from functools import cache
from itertools import count
from pathlib import Path

from msgspec import Struct

__all__ = ["Bounds", "Group", "make", "missing", "sweep"]

_MIB = 1 << 20
_PERIOD_US = 100_000
_NAME = re.compile(r"byenatos-(\d+)-\d+")
_VERSION_1 = ("memory", "pids", "cpu")
_numbers = count(1)


class Bounds(Struct, frozen=True):
    """Bounds of a group: memory in MiB (0: none), processes and threads, processors (0: all)."""

    memory_mib: int
    tasks: int
    processors: float = 0.0


class Group:
    """A group of one sandbox. ``members`` are the open lists that a process enters by writing ``0``."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self.members = [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in folders]

    def release(self) -> None:
        """Close the lists, which the sandboxed process has by now."""
        for member in self.members:
            os.close(member)
        self.members = []

    def remove(self) -> bool:
        """Remove the group once its processes are gone; says whether it is, which may take another call or two."""
        self.release()
        self._folders = [folder for folder in self._folders if not _remove(folder)]
        return not self._folders


def make(bounds: Bounds) -> Group | None:
    """Make a group with ``bounds``; nothing where this user may not.

    Raises:
        OSError: the system refuses a bound; no group is left then.
    """
    parents = _parents()
    if not parents:
        return None
    name = f"byenatos-{os.getpid()}-{next(_numbers)}"
    made: list[Path] = []
    try:
        for controller, parent in parents.items():
            folder = parent / name
            folder.mkdir(exist_ok=False)
            made.append(folder)
            for key, value in _settings(controller, bounds).items():
                (folder / key).write_text(value)
        return Group(made)
    except OSError:
        for folder in made:
            _remove(folder)
        raise


def missing() -> str:
    """Say why no groups can be made here; empty if they can."""
    if _parents():
        return ""
    return (
        "no control group is delegated to this user: memory and tasks are bounded per process only; "
        "run the kernel in a systemd unit with `Delegate=memory pids cpu` (`systemd-run --user --scope -p "
        "Delegate=yes byenatos up`)"
    )


def sweep() -> None:
    """Remove the groups that kernels which were killed left behind."""
    for parent in _parents().values():
        for folder in parent.glob("byenatos-*"):
            found = _NAME.fullmatch(folder.name)
            if found is not None and not Path("/proc", found[1]).exists():
                _remove(folder)


@cache
def _parents() -> dict[str, Path]:
    """Where groups can be made: ``all`` for version 2, one folder per controller for version 1; nothing if nowhere."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    if "" in paths:
        for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            if _delegated(Path(base + paths[""])):
                return {"all": Path(base + paths[""])}
    found = {name: Path("/sys/fs/cgroup", name) for name in _VERSION_1}
    if all(os.access(folder / "cgroup.procs", os.W_OK) and os.access(folder, os.W_OK) for folder in found.values()):
        return found
    return {}


def _delegated(folder: Path) -> bool:
    """Whether groups with bounds can be made in ``folder``, having moved its processes, us, out of the way.

    A group of version 2 has processes or bounded groups in it, not both.
    """
    try:
        offered = set((folder / "cgroup.controllers").read_text().split())
        if not {"memory", "pids"} <= offered or not os.access(folder / "cgroup.procs", os.W_OK):
            return False
        passed_on = set((folder / "cgroup.subtree_control").read_text().split())
        wanted = {"memory", "pids", "cpu"} & offered
        if not wanted <= passed_on:
            ours = folder / "byenatos-kernel"
            ours.mkdir(exist_ok=True)
            for pid in (folder / "cgroup.procs").read_text().split():
                (ours / "cgroup.procs").write_text(pid)
            (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(wanted)))
    except OSError:
        return False
    return True


def _settings(controller: str, bounds: Bounds) -> dict[str, str]:
    memory = bounds.memory_mib * _MIB
    quota = int(bounds.processors * _PERIOD_US)
    if controller == "all":
        settings = {"pids.max": str(bounds.tasks), "memory.oom.group": "1"}
        if memory:
            settings |= {"memory.max": str(memory), "memory.swap.max": "0"}
        if quota:
            settings["cpu.max"] = f"{quota} {_PERIOD_US}"
        return settings
    if controller == "pids":
        return {"pids.max": str(bounds.tasks)}
    if controller == "memory":
        return {"memory.limit_in_bytes": str(memory)} if memory else {}
    return {"cpu.cfs_quota_us": str(quota)} if quota else {}


def _remove(folder: Path) -> bool:
    """Remove a group; one whose last process has just been reaped may be busy for a moment more."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
