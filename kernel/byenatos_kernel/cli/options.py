"""The options that many commands share, each declared once."""

from typing import Annotated, Any, TypeAlias

import typer

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.messages import SwapStrategy

__all__ = [
    "JsonOption",
    "MaxTokensOption",
    "SessionOption",
    "StrategyOption",
    "TemperatureOption",
    "home_of",
    "wait_option",
]

_MOST_WAIT_S = 86_400

JsonOption: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="Print JSON: the protocol's structs; fields that have their default are left out."),
]
SessionOption: TypeAlias = Annotated[
    str | None, typer.Option("--session", metavar="ID", help="Continue this session, or begin it.")
]
MaxTokensOption: TypeAlias = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="The longest answer, in tokens.")
]
TemperatureOption: TypeAlias = Annotated[
    float | None, typer.Option("--temperature", min=0.0, max=2.0, help="0 picks the likeliest token every time.")
]
StrategyOption: TypeAlias = Annotated[
    SwapStrategy,
    typer.Option(
        "--strategy",
        "-s",
        help="graceful: running answers end where they are; immediate: they move; session_aware: each conversation "
        "moves between its own turns; background: prepare with low priority, switch once the slot is idle.",
    ),
]


def home_of(context: typer.Context) -> Home:
    """Return the home that ``--home`` named."""
    home = context.find_root().obj
    assert isinstance(home, Home)
    return home


def wait_option(help: str) -> Any:
    """Return the option ``--wait`` of a command that waits for a kernel."""
    return typer.Option("--wait", metavar="SECONDS", min=0.1, max=_MOST_WAIT_S, help=help)
