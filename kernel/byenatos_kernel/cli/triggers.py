"""``byenatos triggers``: what swaps without being asked, where it stands, and what it would do."""

import time

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import moment, say, show_json, show_table
from byenatos_sdk.protocol.control import TriggerInfo

__all__ = ["triggers"]


def triggers(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the triggers of policies/swap.toml: state, last reading, bound, when they fired, what they would do."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.triggers()
    if as_json:
        show_json(found)
        return
    if not found:
        say("there are no triggers; policies/swap.toml says how they are written")
        return
    show_table(
        ("trigger", "kind", "state", "reading", "bound", "fired", "next", "would"),
        (
            (
                one.name,
                one.kind,
                f"{one.state}{' (dry run)' if one.dry_run else ''}",
                f"{one.measure} {_number(one.reading)}" if one.measure else "-",
                _bound(one),
                moment(one.fired_at) if one.fired_at else "-",
                moment(one.next_at) if one.next_at > time.time() else "-",
                f"{one.would}: {one.problem}" if one.problem else one.would,
            )
            for one in found
        ),
    )
    if any(one.state == "off" for one in found):
        say('they are off: "auto_optimization": true in config.json (llm_driver_config) lets them swap')


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _bound(trigger: TriggerInfo) -> str:
    if trigger.above is None and trigger.below is None:
        return "-"
    bound = f"> {trigger.above:g}" if trigger.above is not None else f"< {trigger.below:g}"
    return bound if trigger.clear is None else f"{bound}, again at {trigger.clear:g}"
