"""Control groups: memory, tasks and CPU time of one sandbox bounded as a whole, where this user may make groups.

Version 2 needs a group that was delegated to this user (a systemd unit with ``Delegate=memory pids cpu``); version 1 is
left to root. The launching process only says what it wants (:class:`Group`): the template makes the group, and the new
process goes in by itself or is put in while it is at its other layers, because that can take milliseconds that the
launching process does not have. The launching process removes the group at the end; if it is killed itself, a
*janitor* does, a shell that waits for that and for nothing else. Templates outlive it for a moment and may still make
one, so the janitor ends only when there has been none for a second. A group's name says who launched it by process id
and start time: the next kernel may have the same id, as in a container it always has.

Memory counts what the group's processes touch first, mapped files too, so a bound must leave room for the granted
files.

Source: ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

import os
import re
import signal
from functools import cache
from itertools import count
from pathlib import Path

from msgspec import Struct

from byenatos_sandbox.lack import Lack

__all__ = ["Bounds", "Group", "missing", "name_group", "sweep"]

_MIB = 1 << 20
_PERIOD_US = 100_000
_NAME = re.compile(r"byenatos-(\d+)-(\d+)-\d+")
_STARTED = 19  # the field of /proc/PID/stat, counted from after the command
_VERSION_1 = ("memory", "pids", "cpu")
_ASIDE = "byenatos-kernel"
_JANITOR = """
read _
empty=0
for _ in $(seq 200); do
    empty=$((empty + 1))
    for folder in {folders}; do
        test -d "$folder" && {{ rmdir "$folder"; empty=0; }}
    done
    test "$empty" -lt 10 || exit
    sleep 0.05
done
"""
_numbers = count(1)


class Bounds(Struct, frozen=True):
    """Bounds of a group: memory in MiB (0: none), processes and threads, processors (0: all)."""

    memory_mib: int
    tasks: int
    processors: float = 0.0


class Group(Struct, frozen=True):
    """A group of one sandbox: its folders, one for each controller, with what is to be written into their files.

    ``entered`` says that a process goes in by itself. It can where groups are of version 1, and is not held up: who is
    put in by another process waits until the system's kernel has seen all processors pause, 10 ms and more. Version 2
    would not let it, because its namespace begins beside the group.
    """

    folders: dict[str, dict[str, str]]
    entered: bool = False

    def make(self) -> None:
        """Make it.

        Raises:
            OSError: the system refuses.
        """
        for folder, settings in self.folders.items():
            Path(folder).mkdir()
            for key, value in settings.items():
                Path(folder, key).write_text(value)

    def take_in(self, pid: int) -> None:
        """Put a process into it.

        Raises:
            OSError: the process is gone, or the system refuses.
        """
        for folder in self.folders:
            Path(folder, "cgroup.procs").write_text(str(pid))

    def enter(self) -> None:
        """Go in, as a process of one thread.

        Raises:
            OSError: the system refuses.
        """
        for folder in self.folders:
            tasks = os.open(f"{folder}/tasks", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(tasks, b"0")
            finally:
                os.close(tasks)

    def remove(self) -> bool:
        """Remove it once its processes are gone; says whether it is, which may take another call or two."""
        left = [folder for folder in self.folders if not _remove(Path(folder))]
        return not left


def name_group(bounds: Bounds) -> Group | None:
    """Say where a group with ``bounds`` is to be made; nothing where this user may not."""
    parents = _parents()
    if not parents:
        return None
    _hire_janitor()
    name = f"{_prefix()}{next(_numbers)}"
    folders = {str(parent / name): _settings(controller, bounds) for controller, parent in parents.items()}
    return Group(folders, entered="all" not in parents)


@cache
def _hire_janitor() -> int:
    """Start the shell that removes this process's groups should it be killed; return what it listens to."""
    ours, its = os.pipe()
    folders = " ".join(f"{_quoted(f'{parent}/{_prefix()}')}*" for parent in _parents().values())
    os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _JANITOR.format(folders=folders)],
        {"PATH": "/usr/bin:/bin"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, ours, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGCHLD],
    )
    os.close(ours)
    return its


def _prefix() -> str:
    """What the names of this process's groups begin with."""
    return f"byenatos-{os.getpid()}-{_start_of(os.getpid())}-"


def _start_of(pid: int) -> str:
    """When a process was started, in the system's ticks; nothing if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    return stat.rpartition(b")")[2].split()[_STARTED].decode()


def _quoted(text: str) -> str:
    """As one word of the shell (``shlex`` would cost the kernel memory)."""
    return "'" + text.replace("'", "'\\''") + "'"


def missing() -> Lack | None:
    """Say why no groups can be made here; nothing if they can."""
    if _parents():
        return None
    manager = " --user" if os.geteuid() else ""  # root's own is the system's
    return Lack(
        "no control group is delegated to this user", f"systemd-run{manager} --scope -p Delegate=yes byenatos up"
    )


def sweep() -> None:
    """Remove the groups that kernels which were killed left behind."""
    for parent in _parents().values():
        for folder in parent.glob("byenatos-*"):
            found = _NAME.fullmatch(folder.name)
            if found is not None and _start_of(int(found[1])) != found[2]:
                _remove(folder)


@cache
def _parents() -> dict[str, Path]:
    """Where groups can be made: ``all`` for version 2, one folder per controller for version 1; nothing if nowhere."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    if "" in paths:
        for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            if (group := _delegated_group(Path(base + paths[""]))) is not None:
                return {"all": group}
    found = {name: Path("/sys/fs/cgroup", name) for name in _VERSION_1}
    if all(os.access(folder / "cgroup.procs", os.W_OK) and os.access(folder, os.W_OK) for folder in found.values()):
        return found
    return {}


def _delegated_group(folder: Path) -> Path | None:
    """The delegated group that this process, which is in ``folder``, may use; nothing if there is none.

    Whoever starts us may have been moved out of the way by an earlier one of us, and would go down one more each time.
    """
    candidates = (folder.parent, folder) if folder.name == _ASIDE else (folder,)
    return next(filter(_delegated, candidates), None)


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
            ours = folder / _ASIDE
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
