"""``byenatos swap`` and ``byenatos swaps``: exchange the model of a slot and watch it, or read what was exchanged."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from byenatos_kernel.cli.events import describe_swap
from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import is_terminal, moment, printable, say, show_json, show_json_line, show_table
from byenatos_sdk.protocol.messages import SwapEvent, SwapStrategy

if TYPE_CHECKING:
    from rich.status import Status

    from byenatos_sdk.client import Client

Until: TypeAlias = Literal["switched", "retired"]

__all__ = ["Until", "show_swap", "swap", "swaps"]


def swap(
    context: typer.Context,
    slot: str,
    model: Annotated[str | None, typer.Argument(help="The model to bind it to.")] = None,
    *,
    back: Annotated[
        bool, typer.Option("--back", help="Roll SLOT's last swap back: its old model is still kept.")
    ] = False,
    strategy: Annotated[
        SwapStrategy,
        typer.Option("--strategy", "-s", help="graceful: running answers end where they are; immediate: they move."),
    ] = "graceful",
    until: Annotated[
        Until, typer.Option("--until", help="Return when new requests go to MODEL, or when the old model is gone.")
    ] = "switched",
    as_json: JsonOption = False,
) -> None:
    """Bind SLOT to MODEL while it is in use; with --json a line of JSON for each step."""
    from byenatos_sdk.client import Client

    if (model is None) is not back:
        raise typer.BadParameter("expected SLOT and MODEL, or SLOT and --back")
    with Client(home_of(context)) as client:
        if model is None:
            _show_back(client.swap_back(slot), as_json=as_json)
        elif as_json:
            client.swap(slot, model, strategy=strategy, until=until, on_event=show_json_line)
        else:
            show_swap(client, slot, model, strategy, until)


def show_swap(client: "Client", slot: str, model: str, strategy: SwapStrategy, until: Until) -> SwapEvent:
    """Swap, print each step with its time, and return the last one.

    Raises:
        ByenatosError: if the swap failed; the slot is bound as before.
    """
    with _spinner() as spinner:

        def show(step: SwapEvent) -> None:
            say(printable(f"{step.elapsed_s * 1000:9.1f} ms  {describe_swap(step)}"))
            if spinner is not None:
                spinner.update(f"{slot}: {step.source or 'nothing'} → {model}")

        return client.swap(slot, model, strategy=strategy, until=until, on_event=show)


def _show_back(step: SwapEvent, *, as_json: bool) -> None:
    if as_json:
        show_json_line(step)
    else:
        say(printable(f"{step.slot}: {step.target} → {step.source}, {describe_swap(step)}"))


def swaps(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List past and running swaps with the last step of each."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.swaps()
    if as_json:
        show_json(found)
        return
    show_table(
        ("swap", "at", "slot", "from", "to", "strategy", "took", "state"),
        (
            (str(one.id), moment(one.at), one.slot, one.source or "-", one.target, one.strategy,
             f"{one.elapsed_s:.3f} s", describe_swap(one))
            for one in found
        ),
    )  # fmt: skip


def _spinner() -> "AbstractContextManager[Status | None]":
    if not is_terminal():
        return nullcontext()
    from rich.console import Console

    return Console().status("swapping")
