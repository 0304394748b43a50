"""``byenatos ps``: the driver processes, how each is isolated, and what it takes."""

from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import megabytes, one_line, printable, say, show_json, show_table
from byenatos_sdk.protocol.control import InstanceInfo
from byenatos_sdk.protocol.errors import NotFound

__all__ = ["HELP", "Entry", "ps"]

_SHARE = "Pss:"
_RESIDENT = "VmRSS:"
_THREADS = "Threads:"


class Entry(Struct, frozen=True):
    """One process. ``memory_bytes`` is its proportional share (PSS), or, unless ``exact``, all that is resident."""

    instance: InstanceInfo
    isolation: str
    memory_bytes: int
    exact: bool
    threads: int


HELP = (
    "List the driver processes: how each is isolated, its memory and threads.\n\n"
    'ISOLATION is "full", or names the layers that this process is without; behind WITHOUT stand kinds of isolation '
    "that it does not have at all. `byenatos doctor` says what to do about it.\n\n"
    "MEMORY is the process's share of what it has in memory; with ~ all of it, what others share included, because "
    "only root may look closer.\n\n"
    "Of one MODEL what its processes printed last is shown too: errors of a driver's code, for example, each with its "
    "traceback. What one printed that has died stands in the kernel's log."
)

Model = Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model, or this driver.")]


def ps(context: typer.Context, model: Model = None, *, as_json: JsonOption = False) -> None:
    """Print the instances of the running kernel with what the system says of their processes."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        status = client.status()
    found = [_look_at(one) for one in status.instances if model in {None, one.model, one.driver}]
    if model is not None and not found:
        there = ", ".join(one.model for one in status.instances) or "none"
        raise NotFound(f"no process of {model!r}; there are those of {there}")
    if as_json:
        show_json(found)
        return
    show_table(
        ("epoch", "driver/model", "pid", "state", "template", "memory", "threads", "isolation"),
        (
            (str(one.instance.epoch), f"{one.instance.driver}/{one.instance.model}", str(one.instance.pid),
             one.instance.state.value, one.instance.template, _memory(one), str(one.threads or "-"), one.isolation)
            for one in found
        ),
    )  # fmt: skip
    for one in found:
        for kind, got in one.instance.open.items():
            say(one_line(f"note: {one.instance.driver}/{one.instance.model}: {kind} is open: {got}"))
    for one in found if model is not None else ():
        printed = one.instance.last_output or ("nothing",)
        say()
        say(f"{one.instance.driver}/{one.instance.model} (epoch {one.instance.epoch}) printed:")
        for line in printed:
            say(f"  | {printable(line)}")
    for warning in status.warnings:
        if "uncontained" in warning:
            say(one_line(f"note: {warning}"))


def _look_at(instance: InstanceInfo) -> Entry:
    from byenatos_sandbox import isolation_level

    serves = instance.state.value in {"ready", "degraded"}
    level = isolation_level(instance.layers, instance.open) if serves else "-"
    share = _read(instance.pid, "smaps_rollup")
    status = _read(instance.pid, "status")
    exact = _SHARE in share
    kilobytes = share.get(_SHARE) or status.get(_RESIDENT) or "0"
    return Entry(instance, level, int(kilobytes) * 1024, exact, int(status.get(_THREADS, "0")))


def _read(pid: int, name: str) -> dict[str, str]:
    """Return the first word after each key of a file about a process; nothing if it is gone or not for us to see."""
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text("ascii", "replace").splitlines() if pid else []
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {one[0]: one[1] for one in words if len(one) > 1}


def _memory(entry: Entry) -> str:
    if not entry.memory_bytes:
        return "-"
    return megabytes(entry.memory_bytes) if entry.exact else f"~{megabytes(entry.memory_bytes)}"
