"""``byenatos swap`` and ``byenatos swaps``: exchange the model of a slot and watch it, or read what was exchanged."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from byenatos_kernel.cli.events import describe_swap
from byenatos_kernel.cli.options import JsonOption, StrategyOption, home_of
from byenatos_kernel.cli.screen import (
    is_terminal,
    megabytes,
    moment,
    one_line,
    say,
    show_json,
    show_json_line,
    show_table,
)
from byenatos_sdk.protocol.errors import NotFound
from byenatos_sdk.protocol.messages import MOST_KEPT_S, SessionMove, SwapEvent, SwapRequest

if TYPE_CHECKING:
    from rich.status import Status

    from byenatos_sdk.client import Client

Until: TypeAlias = Literal["switched", "retired"]

__all__ = ["cancel", "show", "show_swap", "swap", "swaps"]

_LEVELS = ("kv", "tokens", "text", "drain")


def swap(
    context: typer.Context,
    slot: Annotated[str, typer.Argument(metavar="SLOT", help="Which slot; `byenatos slots` lists them.")],
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="The model to bind it to.")] = None,
    *,
    back: Annotated[
        bool, typer.Option("--back", help="Go back to the model before, while `byenatos slots` says it is kept.")
    ] = False,
    strategy: StrategyOption = "graceful",
    until: Annotated[
        Until,
        typer.Option(
            "--until", help="Return when new requests go to MODEL, or when the old model is kept no more and gone."
        ),
    ] = "switched",
    force: Annotated[
        bool, typer.Option("--force", help="Swap even if conversations of SLOT are more than MODEL can take.")
    ] = False,
    keep_old: Annotated[
        float | None,
        typer.Option(
            "--keep-old",
            metavar="SECONDS",
            min=0,
            max=MOST_KEPT_S,
            help="How long the old model is kept to go back to. Default: keep_old_s in policies/swap.toml.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bind SLOT to MODEL while it is in use; with --json a line of JSON for each step.

    `byenatos swaps` lists what was swapped, says how one went, and gives one up that has not switched yet.
    """
    from byenatos_sdk.client import Client

    if (model is None) is not back:
        raise typer.BadParameter("expected SLOT and MODEL, or SLOT and --back")
    with Client(home_of(context)) as client:
        if model is None:
            _show_back(client.swap_back(slot), as_json=as_json)
            return
        order = SwapRequest(slot, model, strategy, until=until, force=force, keep_old_s=keep_old)
        if as_json:
            _carry_out(client, order, show_json_line)
        else:
            show_swap(client, order)


def show_swap(client: "Client", order: SwapRequest) -> SwapEvent:
    """Swap, print each step with its time and each conversation that moved, and return the last step.

    Raises:
        ByenatosError: if the swap failed; the slot is bound as before.
    """
    told: list[SessionMove] = []
    said = ""
    with _spinner() as spinner:

        def show_step(step: SwapEvent) -> None:
            nonlocal said
            line = describe_swap(step)
            if line != said:  # else it only tells of more conversations
                say(one_line(f"{step.elapsed_s * 1000:9.1f} ms  {line}"))
            said = line
            for move in step.sessions[len(told) :]:
                told.append(move)
                say(one_line(f"{'':14}{_describe_move(move)}"))
            if spinner is not None:
                spinner.update(f"{order.slot}: {step.source or 'nothing'} → {order.model}")

        last = _carry_out(client, order, show_step)
    say(one_line(_summary(last)))
    return last


def _carry_out(client: "Client", order: SwapRequest, on_event: Callable[[SwapEvent], None]) -> SwapEvent:
    return client.swap(
        order.slot,
        order.model,
        strategy=order.strategy,
        until=order.until,
        force=order.force,
        keep_old_s=order.keep_old_s,
        on_event=on_event,
    )


def _show_back(step: SwapEvent, *, as_json: bool) -> None:
    if as_json:
        show_json_line(step)
    else:
        say(one_line(f"{step.slot}: {step.target} → {step.source}, {describe_swap(step)}"))


def swaps(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List past and running swaps, each with its cause, its last step, what moved and how."""
    from byenatos_sdk.client import Client

    if context.invoked_subcommand is not None:
        return
    with Client(home_of(context)) as client:
        found = client.swaps()
    if as_json:
        show_json(found)
        return
    show_table(
        ("swap", "at", "slot", "from", "to", "cause", "strategy", "took", "moved", "state"),
        (
            (str(one.id), moment(one.at), one.slot, one.source or "-", one.target, one.cause, one.strategy,
             f"{one.elapsed_s:.3f} s", _levels(one), describe_swap(one))
            for one in found
        ),
    )  # fmt: skip


def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="SWAP", help="Its number in `byenatos swaps`.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one swap: every conversation that moved, at which level, and what that cost."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = next((one for one in client.swaps() if one.id == number), None)
    if found is None:
        raise NotFound(f"no swap {number}; `byenatos swaps` lists those that the kernel remembers")
    if as_json:
        show_json(found)
        return
    say(one_line(f"swap {found.id} at {moment(found.at)}, cause {found.cause}, {found.strategy}: {_summary(found)}"))
    for move in found.sessions:
        say(one_line(f"  {_describe_move(move)}"))


def cancel(
    context: typer.Context,
    slot: Annotated[str, typer.Argument(metavar="SLOT", help="The slot that is being swapped.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Give up the swap of SLOT that has not switched yet, such as one that waits for the slot to be idle."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        given_up = client.cancel_swap(slot)
    if as_json:
        show_json(given_up)
    else:
        say(one_line(_summary(given_up)))


def _summary(last: SwapEvent) -> str:
    """Say in one line what a swap came to."""
    moved = _levels(last)
    pause_s = max((move.pause_s for move in last.sessions), default=0.0)
    return (
        f"{last.slot}: {last.source or 'nothing'} → {last.target}, {describe_swap(last)}, after {last.elapsed_s:.3f} s"
        + (f"; {moved}" if moved else "")
        + (f"; longest pause {pause_s * 1000:.0f} ms" if pause_s else "")
    )


def _levels(step: SwapEvent) -> str:
    """Count the conversations that a swap moved, by level."""
    counts = {level: sum(move.level == level for move in step.sessions) for level in _LEVELS}
    return ", ".join(f"{count} {level}" for level, count in counts.items() if count)


def _describe_move(move: SessionMove) -> str:
    what = f"session {move.session}" if move.session else "a request"
    size = f", {move.positions} positions" if move.positions else ""
    size += f", {megabytes(move.bytes)}" if move.bytes else ""
    pause = f", pause {move.pause_s * 1000:.1f} ms" if move.pause_s else ""
    return f"{what}: {move.level}{size}{pause}{f': {move.detail}' if move.detail else ''}"


def _spinner() -> "AbstractContextManager[Status | None]":
    if not is_terminal():
        return nullcontext()
    from rich.console import Console

    return Console().status("swapping")
