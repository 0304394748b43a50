"""``byenatos demo``: show the main job on real models, and prove that it happened.

A model answers; while it gives a long answer its slot is swapped to another model, which goes on with the sentence.
Every claim is checked against what the kernel streamed and stored; the exit code is 0 only if all of them hold.
"""

import time
from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.power import running_kernel, start_detached, stop
from byenatos_kernel.cli.rehearsal import Rehearsal, Report
from byenatos_kernel.cli.screen import complain, say, show_json, show_table
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["demo"]

_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 15.0


def demo(
    context: typer.Context,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave a kernel running that was started for this.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Swap two real models under a running answer and show what happened (pull smollm2 and gemma-3-270m first)."""
    home = home_of(context)
    begin = time.monotonic()
    found = running_kernel(home)
    status = found or start_detached(home, wait_s=_START_WITHIN_S)
    rehearsal = Rehearsal(home, silent=as_json)
    rehearsal.took(
        "kernel already running" if found else "kernel started", time.monotonic() - begin, f"pid {status.pid}"
    )
    try:
        rehearsal.play()
    except ByenatosError as error:
        rehearsal.check("nothing failed on the way", holds=False, found=error.message)
    finally:
        if found is None and not keep:
            begin = time.monotonic()
            stop(home, wait_s=_STOP_WITHIN_S)
            rehearsal.took("kernel stopped", time.monotonic() - begin)
    report = rehearsal.report()
    if as_json:
        show_json(report)
    else:
        _show_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _show_report(report: Report) -> None:
    say("\n── what each step took")
    show_table(("step", "time", "detail"), ((one.name, f"{one.took_s:.3f} s", one.detail) for one in report.steps))
    say(f"\n── {sum(one.ok for one in report.checks)} of {len(report.checks)} checks hold")
    for one in report.checks:
        if not one.ok:
            complain(f"not so: {one.name}; found {one.found}")
