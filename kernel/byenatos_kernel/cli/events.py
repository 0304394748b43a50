"""``byenatos events``: follow what happens in the kernel, a sentence per event."""

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import moment, one_line, say, show_json_line
from byenatos_sdk.protocol.control import (
    DriverFailed,
    DriverRestarting,
    Event,
    InstanceChanged,
    ModelChanged,
    SwapAdvanced,
    TriggerFired,
)
from byenatos_sdk.protocol.messages import SwapEvent

__all__ = ["describe_swap", "describe_trigger", "events"]


def events(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Follow events until Ctrl-C; with --json a line of JSON for each."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        for event in client.events():
            if as_json:
                show_json_line(event)
            else:
                say(f"{moment(event.at)}  {one_line(_describe(event))}")


def describe_swap(step: SwapEvent) -> str:
    """Say in one line what a step of a swap is."""
    streams = f", {step.moved_streams} moved" if step.moved_streams else ""
    streams += f", {step.draining_streams} draining" if step.draining_streams else ""
    mode = ", sequential" if step.mode == "sequential" else ""
    return f"{step.state.value}{mode}{streams}{f': {step.detail}' if step.detail else ''}"


def describe_trigger(event: TriggerFired) -> str:
    """Say in one line what a trigger does, and why."""
    way = "back to" if event.returning else "to"
    does = "would swap" if event.dry_run else "could not swap" if event.problem else "swaps"
    why = f": {event.measure} is {event.reading:g}" if event.reading is not None else ""
    why += f", bound {event.bound:g}" if why and event.bound is not None else ""
    problem = f": {event.problem}" if event.problem else why
    return f"trigger {event.trigger} {does} {event.slot} {way} {event.model}{problem}"


def _describe(event: Event) -> str:
    match event:
        case InstanceChanged(instance=one):
            detail = f": {one.detail}" if one.detail else ""
            return (
                f"instance {one.epoch} of {one.model} (driver {one.driver}, pid {one.pid}): {one.state.value}{detail}"
            )
        case DriverFailed():
            said = f"; it said last: {event.last_output[-1]}" if event.last_output else ""
            return f"instance {event.epoch} of {event.model} (driver {event.driver}) failed: {event.reason}{said}"
        case DriverRestarting():
            return f"{event.model} starts again in {event.delay_s:.1f} s, after {event.crashes} crashes"
        case ModelChanged(model=one):
            return f"model {one.id}: {one.state}{f': {one.reason}' if one.reason else ''}"
        case SwapAdvanced(swap=step):
            return f"swap {step.id} of {step.slot}, {step.source or 'nothing'} → {step.target}: {describe_swap(step)}"
        case TriggerFired():
            return describe_trigger(event)
