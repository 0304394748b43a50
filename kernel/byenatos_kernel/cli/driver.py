"""``byenatos driver``: what plugins there are, what they are worth, and the operator's word on them.

``keygen``, ``sign`` and ``verify`` need no kernel, and no plugin's code is ever run here. A running kernel notices what
these commands write within a second.
"""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import complain, say, show_json, show_table
from byenatos_kernel.shipped import shipped
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import PluginInfo
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import Value

__all__ = ["find_folder", "keygen", "list_drivers", "sign", "verify"]

Subject = Annotated[str, typer.Argument(metavar="ID|FOLDER", help="A plugin's id, or a path with a / in it.")]


class Signed(Value, frozen=True):
    """What ``sign`` did."""

    id: str
    key: str
    publisher: str
    signature: str


def list_drivers(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the plugins of the running kernel: who signed them, and why one is refused."""
    from byenatos_sdk.client import Client

    with Client(home_of(context)) as client:
        found = client.status().plugins
    if as_json:
        show_json(found)
        return
    show_table(
        ("driver", "version", "publisher", "key", "digest", "state", "detail"),
        (
            (one.id, one.version or "-", "UNSIGNED" if one.unsigned else one.publisher or "-", one.key or "-",
             one.digest[:16] or "-", one.state, _detail(one))
            for one in found
        ),
    )  # fmt: skip


def keygen(
    publisher: Annotated[str, typer.Argument(help="Your name as a publisher: lower-case letters, digits, . _ -")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.key", help="Default: ./PUBLISHER.key")
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=36_500, help="How long signatures are to be trusted.")
    ] = 730,
    as_json: JsonOption = False,
) -> None:
    """Make a publisher's key: a private half to sign with (mode 0600), and a .pub beside it to give away."""
    from byenatos_sdk.signing import make_keys

    path = output or Path(f"{publisher}.key")
    expires = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
    try:
        public = make_keys(path, publisher, expires).public
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be written: {error.strerror or error}") from None
    if as_json:
        show_json({"publisher": publisher, "id": public.id, "key": str(path), "expires": expires.isoformat()})
        return
    say(f"key {public.id} of {publisher}, until {expires.isoformat()}")
    say(f"  {path}  keep it to yourself: whoever has it can sign in your name")
    say(f"  {path.with_suffix('.pub')}  give it to those who are to trust you: byenatos driver trust FILE.pub")


def sign(
    context: typer.Context,
    subject: Subject,
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE.key", help="Sign as a publisher, into the folder. Default: as the operator."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a plugin folder as it is now: as its publisher (--key), or as the operator who has looked at it."""
    from byenatos_kernel.operator_key import operator_keys, sign_folder, sign_for_home
    from byenatos_sdk.signing import SIGNATURE, read_keys

    home = home_of(context)
    folder = find_folder(home, subject)
    try:
        if key is None:
            keys = operator_keys(home)
            path = sign_for_home(home, folder, keys)
        else:
            keys = read_keys(key)
            if keys.public.expires < dt.datetime.now(dt.UTC).date():
                raise InvalidRequest(
                    f"{key}: expected a key that can be trusted, found one that expired on {keys.public.expires}; make "
                    "another (byenatos driver keygen) and give its .pub to those who trust you"
                )
            path = folder / SIGNATURE
            path.write_bytes(sign_folder(folder, keys)[1])
    except OSError as error:
        raise InvalidRequest(f"{error.filename or folder}: {error.strerror or error}") from None
    if as_json:
        show_json(Signed(folder.name, keys.public.id, keys.public.publisher, str(path)))
    else:
        say(f"{folder.name}: signed by {keys.public.publisher} with the key {keys.public.id}: {path}")


def verify(context: typer.Context, subject: Subject, *, as_json: JsonOption = False) -> None:
    """Say whether a plugin may run and who signed it, or why not; the exit code is 1 if it may not."""
    from byenatos_kernel.plugin_memory import highest_in
    from byenatos_kernel.verification import read_policy
    from byenatos_kernel.verification import verify as verify_folder

    home = home_of(context)
    verdict = verify_folder(find_folder(home, subject), read_policy(home, highest_in(home.database))).verdict
    if as_json:
        show_json(verdict)
    elif verdict.reason:
        complain(f"{verdict.id} is refused: {verdict.reason}")
    else:
        by = f"UNSIGNED ({verdict.unsigned})" if verdict.unsigned else f"signed by {verdict.publisher} ({verdict.key})"
        say(f"{verdict.id} {verdict.version} may run: {by}, digest {verdict.digest}")
    if verdict.reason:
        raise typer.Exit(1)


def find_folder(home: Home, subject: str) -> Path:
    """Return the folder that an argument means; raises ``NotFound`` if there is none."""
    if "/" in subject or subject in {".", ".."}:
        folder = Path(subject).resolve()
        if not folder.is_dir():
            raise NotFound(f"{subject}: expected a plugin folder, found none")
        return folder
    for parent in (shipped("plugins"), home.plugins):
        if (parent / subject / "plugin.toml").exists():
            return parent / subject
    known = sorted(path.parent.name for one in (shipped("plugins"), home.plugins) for path in one.glob("*/plugin.toml"))
    raise NotFound(f"no plugin {subject!r}; there is {', '.join(known) or 'none'} (a folder is written with a /)")


def _detail(one: PluginInfo) -> str:
    return one.reason or one.held or one.unsigned or one.summary
