"""``byenatos keys``: the keys by which applications are known where HTTP is spoken."""

import hashlib
import json
import secrets
from typing import Annotated, Literal

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import say, show_json
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["make"]

PREFIX = "byn-"
RANDOM_BYTES = 32


def make(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call the application: lower-case letters, digits, - and _.")],
    *,
    role: Annotated[Literal["user", "admin"], typer.Option(help="admin may also manage the kernel.")] = "user",
    slot: Annotated[
        list[str] | None, typer.Option("--slot", metavar="SLOT", help="A slot or model that it may name; default: all.")
    ] = None,
    per_minute: Annotated[
        int, typer.Option("--per-minute", min=0, max=100_000, help="How many requests in a minute; 0: any number.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a key, show it this once, and print the table that lets it in. Nothing is written and nothing changed."""
    from byenatos_kernel.access import Access, ClientRules, check_access

    home = home_of(context)
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    client = ClientRules(name, digest, tuple(slot or ()), role, per_minute)
    if wrong := check_access(Access(clients=(client,))):
        raise InvalidRequest(wrong)
    table = ["[[clients]]", f"name = {_text(name)}", f"sha256 = {_text(digest)}"]
    if client.slots:
        table.append(f"slots = [{', '.join(_text(one) for one in client.slots)}]")
    if role != "user":
        table.append(f"role = {_text(role)}")
    if per_minute:
        table.append(f"per_minute = {per_minute}")
    if as_json:
        show_json({"name": name, "key": key, "sha256": digest, "table": "\n".join(table)})
        return
    say(f"The key of {name}, which is shown this once:\n\n  {key}\n")
    say(f"It counts as soon as this stands in {home.access}:\n")
    say("\n".join(table))


def _text(value: str) -> str:
    """Write a TOML string: JSON's escapes are among TOML's, once everything else is ASCII."""
    return json.dumps(value)
