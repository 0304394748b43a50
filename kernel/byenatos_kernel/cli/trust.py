"""``byenatos driver trust|revoke|allow-downgrade`` and ``byenatos init``: whom and what the operator trusts."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import say, show_json
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest

if TYPE_CHECKING:
    from byenatos_kernel.trust import Downgrades, Revoked

__all__ = ["allow_downgrade", "init", "revoke", "trust"]

_KEY = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def init(
    context: typer.Context,
    *,
    resign: Annotated[
        bool, typer.Option("--resign", help="Sign the shipped plugins as they are now: after an upgrade you meant.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a home with the operator's key and sign the plugins that ship with it; harmless to repeat."""
    from byenatos_kernel.config import write_first_config
    from byenatos_kernel.operator_key import initialise, is_new, operator_keys, sign_shipped

    home = home_of(context)
    try:
        home.create()
        write_first_config(home.config)
        new = is_new(home)
        if new:
            keys, signed = initialise(home)
        else:
            keys = operator_keys(home)
            signed = sign_shipped(home, keys) if resign else []
    except OSError as error:
        raise InvalidRequest(f"{home.path} cannot be used as a home: {error}") from None
    if as_json:
        show_json({"home": str(home.path), "key": keys.public.id, "new": new, "signed": signed})
        return
    say(f"{home.path}: the operator's key is {keys.public.id}{', made now' if new else ''}")
    say(f"  signed: {', '.join(signed)}" if signed else "  nothing was signed; --resign signs the shipped plugins anew")


def trust(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.pub", help="A publisher's public key.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Trust a publisher: what is signed with this key may run from now on, with what access.toml grants."""
    from byenatos_sdk.signing import format_public_key, read_public_key

    home = home_of(context)
    key = read_public_key(file)
    path = home.trust / f"{key.publisher}-{key.id}.pub"
    try:
        home.create()
        path.write_text(format_public_key(key), "utf-8")
        path.chmod(0o644)
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be written: {error.strerror or error}") from None
    if as_json:
        show_json({"publisher": key.publisher, "id": key.id, "expires": key.expires.isoformat(), "file": str(path)})
    else:
        say(f"trusted: {key.publisher}, key {key.id}, until {key.expires.isoformat()}; take it back: rm {path}")


def revoke(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="KEY|DIGEST", help="A key's id (16 digits) or a plugin's digest (64).")
    ],
    reason: Annotated[str, typer.Argument(help="Why; it is shown wherever something is refused for it.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Trust a key, or one state of a plugin, no more. What runs is not stopped: swap or unload it."""
    import msgspec

    from byenatos_kernel.trust import REVOKED, read_trust

    home = home_of(context)
    revoked = read_trust([home.trust]).revoked
    if _KEY.fullmatch(what):
        revoked = msgspec.structs.replace(revoked, keys={**revoked.keys, what: reason})
    elif _DIGEST.fullmatch(what):
        revoked = msgspec.structs.replace(revoked, plugins={**revoked.plugins, what: reason})
    else:
        raise InvalidRequest(
            f"expected a key's id of 16 hexadecimal digits or a digest of 64, found {what!r:.80}; "
            "byenatos driver list --json shows both"
        )
    _write(home, home.trust / REVOKED, revoked)
    if as_json:
        show_json({"revoked": what, "reason": reason, "file": str(home.trust / REVOKED)})
    else:
        say(f"revoked: {what}; take it back in {home.trust / REVOKED}")


def allow_downgrade(
    context: typer.Context,
    driver: Annotated[str, typer.Argument(metavar="ID", help="The plugin.")],
    version: Annotated[str, typer.Argument(help="The version that may run though newer ones ran.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Let an older version of a plugin run again."""
    from byenatos_kernel.trust import DOWNGRADES, Downgrades, read_trust
    from byenatos_kernel.verification import is_older

    is_older(version, version)
    home = home_of(context)
    allowed = read_trust([home.trust]).downgrades.allowed
    versions = sorted({*allowed.get(driver, ()), version})
    _write(home, home.trust / DOWNGRADES, Downgrades({**allowed, driver: versions}))
    if as_json:
        show_json({"driver": driver, "allowed": versions, "file": str(home.trust / DOWNGRADES)})
    else:
        say(f"{driver}: version {version} may run; take it back in {home.trust / DOWNGRADES}")


def _write(home: Home, path: Path, table: "Downgrades | Revoked") -> None:
    from byenatos_kernel.trust import write_list

    try:
        home.create()
        write_list(path, table)
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be written: {error.strerror or error}") from None
