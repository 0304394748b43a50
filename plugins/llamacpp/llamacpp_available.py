"""How much memory this process may still take: by its limits, its control group, and what the machine has free."""

import ctypes
import resource
from pathlib import Path
from typing import NamedTuple

from byenatos_sdk.protocol.errors import Unavailable
from llamacpp_memory import MemoryNeed

__all__ = ["Bound", "bounds", "check_memory"]

_UNLIMITED = 1 << 62
_PAGE = resource.getpagesize()


class Bound(NamedTuple):
    """What is left of one kind of memory, in bytes. ``mapped``: whether mapped weights count."""

    name: str
    left: int
    mapped: bool


def check_memory(name: str, need: MemoryNeed, found: list[Bound]) -> None:
    """Refuse a model that does not fit, rather than die of it.

    Raises:
        Unavailable: with all figures, and what to do.
    """
    for bound in found:
        wanted = need.private + (need.weights if bound.mapped else 0)
        if wanted > bound.left:
            raise Unavailable(
                f"{name}: expected {_mib(wanted)} of memory (weights {_mib(need.weights)}"
                f"{'' if bound.mapped else ', not counted here'}; context {_mib(need.kv)}, computing "
                f"{_mib(need.compute + need.output)}, vocabulary {_mib(need.vocabulary)}), found "
                f"{_mib(max(bound.left, 0))} left ({bound.name}); choose a smaller n_ctx, fewer parallel, or "
                f"cache_type_k and cache_type_v = 'q8_0'"
            )


def bounds() -> list[Bound]:
    """Return what bounds this process. In a sandbox there is no ``/proc``: there its limits are what was granted."""
    found = []
    data, total = _own_pages()
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if 0 <= limit < _UNLIMITED:
        found.append(Bound("the limit of private memory, RLIMIT_DATA", limit - data, mapped=False))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= limit < _UNLIMITED:
        found.append(Bound("the limit of address space, RLIMIT_AS", limit - total, mapped=True))
    group = _group()
    if group is not None:
        found.append(Bound("its control group", group, mapped=False))
    found.append(_machine())
    return found


def _own_pages() -> tuple[int, int]:
    """Return the bytes of private data and of address space that this process has."""
    try:
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[5]) * _PAGE, int(fields[0]) * _PAGE
    except (OSError, ValueError, IndexError):
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return resident, resident


def _group() -> int | None:
    """Return what the control group (version 2) leaves: its limit less what cannot be dropped."""
    try:
        path = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folder = Path("/sys/fs/cgroup") / path.lstrip("/")
        limit = (folder / "memory.max").read_text().strip()
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return None if limit == "max" else int(limit) - int(statistics["anon"])
    except (OSError, ValueError, KeyError):
        return None


def _machine() -> Bound:
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return Bound("available on this machine", int(fields["MemAvailable"].split()[0]) << 10, mapped=True)
    except (OSError, ValueError, KeyError):
        return Bound("of this machine in all", _total(), mapped=True)


class _Sysinfo(ctypes.Structure):
    _fields_ = (
        ("uptime", ctypes.c_long),
        ("loads", ctypes.c_ulong * 3),
        ("totalram", ctypes.c_ulong),
        ("rest", ctypes.c_char * 256),
    )


def _total() -> int:
    """Return the machine's memory: the one figure that needs no file."""
    found = _Sysinfo()
    return int(found.totalram) if ctypes.CDLL(None).sysinfo(ctypes.byref(found)) == 0 else _UNLIMITED


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
