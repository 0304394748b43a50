"""How much memory may still be taken: what the machine has available, and what the control groups around us leave.

A group's limit counts what its processes touched first, the pages of files too; of those the system drops what it
needs to, so only the rest is taken: what has no file behind it, and what is shared as if it had one.

Source: ``Documentation/filesystems/proc.rst`` (MemAvailable), ``Documentation/admin-guide/cgroup-v2.rst`` and
``cgroup-v1/memory.rst``.
"""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_bytes"]

_UNLIMITED = 1 << 60


def free_bytes(root: Path = Path("/")) -> int:
    """Return how many bytes may still be taken, by the machine and by every control group that this process is in.

    ``root`` is the folder in which ``proc`` and ``sys`` lie. What cannot be read bounds nothing.
    """
    return max(0, min((_available(root), *(_left(folder) for folder in _groups(root)))))


def _available(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, LookupError):
        return _UNLIMITED


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that count our memory, from ours up to the topmost that can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts = {"sys/fs/cgroup", "sys/fs/cgroup/unified"}
        elif "memory" in controllers.split(","):
            mounts = {f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/memory"}
        else:
            continue
        for mount in mounts:
            top = root / mount
            ours = top / path.lstrip("/")
            yield from (folder for folder in (ours, *ours.parents) if folder.is_relative_to(top))


def _left(folder: Path) -> int:
    """Return what a group leaves; one of either version."""
    for limit, usage, files, shared in (
        ("memory.max", "memory.current", "file", "shmem"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"),
    ):
        try:
            most = (folder / limit).read_text("ascii").strip()
            if most == "max":
                return _UNLIMITED
            used = int((folder / usage).read_text("ascii"))
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
            return int(most) - used + max(0, int(statistics[files]) - int(statistics[shared]))
        except (OSError, ValueError, LookupError):
            continue
    return _UNLIMITED
