"""A look from outside at a process that says it has locked itself in: what the system says of it, not what it says.

Source: ``proc_pid_status(5)``.
"""

from collections.abc import Iterable
from pathlib import Path

__all__ = ["contradictions", "process_of", "thread_count"]

_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")


def thread_count(pid: int) -> int:
    """How many threads a process has; 0 if it is gone."""
    return int(_status(pid).get("Threads", "0"))


def process_of(thread: int) -> int:
    """The process that a thread belongs to; 0 if it is gone."""
    return int(_status(thread).get("Tgid", "0"))


def contradictions(pid: int, layers: Iterable[str], *, first: bool = True) -> list[str]:
    """Return what is wrong about a locked-in process, in words; nothing if all is as it must be.

    ``pid`` must not have been reaped, so that the number is its own; ``layers`` are those that it was told to apply.
    ``first`` says whether it is to be process 1 of its namespace, or was forked by that one.
    """
    wanted = set(layers)
    status = _status(pid)
    if not status:
        return ["it cannot be looked at in /proc: it is gone, or /proc is mounted with hidepid"]
    wrong = [f"it has capabilities ({name})" for name in _CAPABILITIES if int(status.get(name, "0"), 16)]
    if status.get("NoNewPrivs") != "1":
        wrong.append("it may gain privileges")
    if status.get("Threads") != "1":
        wrong.append(f"it has {status.get('Threads')} threads")
    if "seccomp" in wanted and status.get("Seccomp") != "2":
        wrong.append("its system calls are not filtered")
    inside = status.get("NSpid", "").split()[1:]
    if "pid-namespace" in wanted and (len(inside) != 1 or (inside == ["1"]) is not first):
        wrong.append("it is not alone in a process namespace")
    if "mount-namespace" in wanted and "0" in status.get("Uid", "0").split():
        wrong.append("it is root")
    return wrong


def _status(pid: int) -> dict[str, str]:
    try:
        # its name is its own to choose, and need be no text
        lines = Path(f"/proc/{pid}/status").read_bytes().decode(errors="replace").split("\n")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
