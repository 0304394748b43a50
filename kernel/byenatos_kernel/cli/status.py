"""``byenatos status`` and ``byenatos slots``: the kernel at a glance."""

from collections.abc import Iterable

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import megabytes, one_line, say, show_json, show_table
from byenatos_sdk.protocol.control import FrontInfo, KernelStatus, PluginInfo, SlotInfo

__all__ = ["show_fronts", "show_slots", "slots", "status"]


def status(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Show the kernel, its slots, driver processes, fronts and plugins."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.status()
    if as_json:
        show_json(found)
    else:
        _show_status(found)


def slots(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the slots: what each is bound to, who waits, what stands in for it, and what it can go back to."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.slots()
    if as_json:
        show_json(found)
    else:
        show_slots(found)


def show_slots(found: Iterable[SlotInfo]) -> None:
    """Print slots as a table."""
    show_table(
        ("slot", "model", "state", "streams", "waiting", "detail"),
        (
            (slot.name, slot.model or "-", slot.state, str(slot.streams), str(slot.waiting), _detail(slot))
            for slot in found
        ),
    )


def show_fronts(found: Iterable[FrontInfo]) -> None:
    """Print fronts as a table."""
    show_table(
        ("front", "address", "workers", "detail"),
        (
            (one.id, one.address, str(one.ready) if one.ready == one.workers else f"{one.ready} of {one.workers}",
             one.problem)
            for one in found
        ),
    )  # fmt: skip


def _detail(slot: SlotInfo) -> str:
    """Say what else there is to know of a slot."""
    notes = [slot.detail] if slot.detail else []
    if slot.swap is not None:
        notes.append(f"swap {slot.swap.id} to {slot.swap.target} is {slot.swap.state.value}")
    if slot.kept:
        notes.append(f"{slot.kept} is kept: `byenatos swap {slot.name} --back`")
    if slot.elsewhere:
        notes.append(f"{slot.elsewhere} {'sessions are' if slot.elsewhere > 1 else 'session is'} answered elsewhere")
    return "; ".join(notes)


def _show_status(found: KernelStatus) -> None:
    say(f"kernel {found.version}, pid {found.pid}, up {_duration(found.uptime_s)}, home {found.home}")
    say(f"  {found.endpoint}")
    say(
        f"  {megabytes(found.rss_bytes)} of memory, {found.cpu_s:.1f} s of CPU, {found.clients} clients, "
        f"{found.streams} streams, {found.requests} requests, {found.deltas} deltas"
    )
    for warning in found.warnings:
        say(f"  note: {one_line(warning)}")
    say()
    show_slots(found.slots)
    if found.instances:
        say()
        show_table(
            ("epoch", "model", "driver", "state", "pid", "streams", "restarts", "detail"),
            (
                (str(one.epoch), one.model, one.driver, one.state.value, str(one.pid), str(one.streams),
                 str(one.restarts), one.detail)
                for one in found.instances
            ),
        )  # fmt: skip
    if found.fronts:
        say()
        show_fronts(found.fronts)
    if found.plugins:
        say()
        show_table(
            ("plugin", "version", "state", "summary"),
            ((one.id, one.version, one.state, one.reason or _summary(one)) for one in found.plugins),
        )


def _summary(plugin: PluginInfo) -> str:
    return f"UNSIGNED: {plugin.summary}" if plugin.unsigned else plugin.summary


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
