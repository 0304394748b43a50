"""``byenatos secrets``: the keys that the operator named in access.toml, and whether they can be used."""

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import show_json, show_table

__all__ = ["list_secrets"]


def list_secrets(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the keys by name; what they are, only the broker knows."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.secrets()
    if as_json:
        show_json(found)
        return
    show_table(("secret", "source", "usable"), ((one.name, one.source, one.problem or "yes") for one in found))
