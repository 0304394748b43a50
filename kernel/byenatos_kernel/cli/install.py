"""``byenatos driver install`` and ``remove``: put a plugin folder in its place, with its packages, or take it away.

A folder that is copied into ``<home>/plugins`` by hand is installed as well, unless it needs packages. This command
looks at it first, fetches the packages, and puts it into its place in one step, so that a running kernel never sees
half of it.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from byenatos_kernel.cli.driver import Subject, find_folder
from byenatos_kernel.cli.options import JsonOption, home_of
from byenatos_kernel.cli.screen import say, show_json
from byenatos_kernel.shipped import shipped
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, PermissionDenied
from byenatos_sdk.signing import File

__all__ = ["install", "remove"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def install(
    context: typer.Context,
    subject: Subject,
    *,
    find_links: Annotated[
        Path | None,
        typer.Option("--find-links", metavar="FOLDER", help="Take its packages from here, not from an index."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a plugin folder, install the packages that it asks for, and put it into the home."""
    from byenatos_kernel.environments import LOCK, build_environment
    from byenatos_kernel.plugin_memory import highest_in
    from byenatos_kernel.verification import read_policy, verify

    home = home_of(context)
    folder = find_folder(home, subject)
    try:
        home.create()
        policy = read_policy(home, highest_in(home.database))
        found = verify(folder, msgspec.structs.replace(policy, packages=False))
        verdict = found.verdict
        if verdict.reason:
            raise PermissionDenied(f"{verdict.id} is refused: {verdict.reason}")
        if LOCK in found.files:
            pip = ("--no-index", "--find-links", str(find_links.resolve())) if find_links is not None else ()
            build_environment(home, found.files[LOCK].data, pip=pip)
        if folder.parent in {home.plugins, shipped("plugins")}:
            os.utime(folder)  # a running kernel looks again
            place = folder
        else:
            place = _put(home, verdict.id, found.files)
    except OSError as error:
        raise InvalidRequest(f"{error.filename or folder}: {error.strerror or error}") from None
    if as_json:
        show_json({"id": verdict.id, "version": verdict.version, "digest": verdict.digest, "folder": str(place)})
    else:
        say(f"{verdict.id} {verdict.version} is installed: {place}")


def remove(
    context: typer.Context,
    driver: Annotated[str, typer.Argument(metavar="ID", help="The plugin.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a plugin away; what serves a slot goes on until it is swapped."""
    home = home_of(context)
    place = home.plugins / driver
    if "/" in driver or driver in {"", ".", ".."} or not place.is_dir():
        if driver and (shipped("plugins") / driver / "plugin.toml").exists():
            raise PermissionDenied(
                f"{driver} ships with ByenatOS and stays; `byenatos driver revoke DIGEST` with its digest from "
                "`byenatos driver list` keeps it from running"
            )
        known = ", ".join(sorted(path.parent.name for path in home.plugins.glob("*/plugin.toml"))) or "none"
        raise NotFound(f"no plugin {driver!r} in {home.plugins}; there is {known}")
    try:
        aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=home.plugins))
        place.rename(aside / driver)
        shutil.rmtree(aside)
        (home.signatures / f"{driver}.sig").unlink(missing_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{error.filename or place}: {error.strerror or error}") from None
    if as_json:
        show_json({"removed": driver})
    else:
        say(f"{driver} is removed")


def _put(home: Home, driver: str, files: Mapping[str, File]) -> Path:
    """Write the bytes that were verified as a folder, in one step in place of the one that is there."""
    new = Path(tempfile.mkdtemp(prefix=".installed-", dir=home.plugins))
    try:
        folder = new / driver
        folder.mkdir()
        for name, file in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
            path.chmod(0o755 if file.executable else 0o644)
        place = home.plugins / driver
        if place.exists():
            _exchange(folder, place)
        else:
            folder.rename(place)
        return place
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places at once (``renameat2``, Linux 3.15)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))
