"""Whom the operator trusts: publishers' keys, what is revoked, and which older versions may come back.

::

    policies/trust/acme.pub          a publisher's key (``byenatos_sdk.signing.keys``)
    policies/trust/revoked.toml      [keys] and [plugins]: key ids and digests, each with the reason
    policies/trust/downgrades.toml   [allowed]: plugin ids, each with the versions that may run though newer ones ran

They are read from the folder that ships with the kernel and from the home's. A key that cannot be read is left out and
noted; a list that cannot be read stops every verification, because what it revokes is not known.
"""

import datetime as dt
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, PermissionDenied
from byenatos_sdk.signing import Envelope, PublicKey, Untrusted, check_signature, parse_public_key

__all__ = ["DOWNGRADES", "REVOKED", "Downgrades", "Revoked", "Trust", "read_trust", "write_list"]

REVOKED = "revoked.toml"
DOWNGRADES = "downgrades.toml"
MAX_LIST = 1 << 20
MAX_KEYS = 1000
_MAX_KEY_FILE = 4096
_KEY = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Revoked(Struct, frozen=True, forbid_unknown_fields=True):
    """``revoked.toml``: why a key or one state of a plugin is not trusted any more."""

    keys: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)


class Downgrades(Struct, frozen=True, forbid_unknown_fields=True):
    """``downgrades.toml``: by plugin id, the versions that may run though newer ones ran."""

    allowed: dict[str, list[str]] = field(default_factory=dict)


_List = TypeVar("_List", Revoked, Downgrades)


SOON = dt.timedelta(days=30)
"""How long before a key expires its operator hears of it."""


class Trust(Struct, frozen=True):
    """Everything that the operator said about trust, at one moment. ``notes`` are sentences for the operator."""

    keys: dict[str, PublicKey]
    revoked: Revoked = Revoked()
    downgrades: Downgrades = Downgrades()
    notes: tuple[str, ...] = ()

    def check(self, envelope: Envelope, today: dt.date) -> PublicKey:
        """Return the key that signed an envelope.

        Raises:
            PermissionDenied: the key is revoked.
            Untrusted: the key is unknown or expired, or did not sign it; the message says which.
        """
        key = self.keys.get(envelope.key)
        reason = self.revoked.keys.get(envelope.key)
        if reason is not None:
            raise PermissionDenied(f"it is signed with the key {envelope.key}, which is revoked: {reason}")
        if key is None:
            raise Untrusted(
                f"it is signed with the key {envelope.key!r:.40}, which is unknown here; if you trust its publisher: "
                "byenatos driver trust KEY.pub"
            )
        check_signature(envelope, key)
        if key.expires < today:
            raise Untrusted(
                f"it is signed with the key {key.id} of {key.publisher}, which expired on {key.expires.isoformat()}; "
                "ask the publisher for a newer signature"
            )
        return key

    def expiring(self, today: dt.date) -> list[str]:
        """Name the keys that expire soon: from that day on nothing that they signed starts."""
        return [
            f"the key {key.id} of {key.publisher} expires on {key.expires.isoformat()}: what it signed is refused from "
            "then on; ask its publisher for a signature with a newer one"
            for key in self.keys.values()
            if today <= key.expires < today + SOON and key.id not in self.revoked.keys
        ]


def read_trust(folders: Iterable[Path]) -> Trust:
    """Read what stands in ``folders``; a folder that is not there says nothing.

    Raises:
        InvalidRequest: a list cannot be read; the message names the file and what is wrong with it.
    """
    keys: dict[str, PublicKey] = {}
    notes: list[str] = []
    revoked, downgrades = Revoked(), Downgrades()
    for folder in folders:
        more = _read_list(folder / REVOKED, Revoked)
        revoked = Revoked({**revoked.keys, **more.keys}, {**revoked.plugins, **more.plugins})
        downgrades = Downgrades({**downgrades.allowed, **_read_list(folder / DOWNGRADES, Downgrades).allowed})
        for path in _key_files(folder):
            try:
                key = parse_public_key(_read(path, _MAX_KEY_FILE), str(path))
            except (ByenatosError, OSError) as error:
                notes.append(f"a key is not trusted: {error}")
                continue
            keys.setdefault(key.id, key)
    for name in revoked.keys:
        if not _KEY.fullmatch(name):
            raise InvalidRequest(f"{REVOKED}: keys: expected ids of 16 hexadecimal digits, found {name!r:.100}")
    for name in revoked.plugins:
        if not _DIGEST.fullmatch(name):
            raise InvalidRequest(f"{REVOKED}: plugins: expected digests of 64 hexadecimal digits, found {name!r:.100}")
    return Trust(keys, revoked, downgrades, tuple(notes))


def write_list(path: Path, table: Revoked | Downgrades) -> None:
    """Write a list in place of the one that is there."""
    lines = ["# Written by `byenatos driver`; you may change it.", ""]
    for section, entries in msgspec.to_builtins(table).items():
        lines.append(f"[{section}]")
        lines += [f"{_toml(key)} = {_toml(value)}" for key, value in sorted(entries.items())]
        lines.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
        file.flush()
        os.fsync(descriptor)
    Path(new).replace(path)


def _key_files(folder: Path) -> list[Path]:
    try:
        names = sorted(one.name for one in folder.iterdir() if one.suffix == ".pub" and not one.name.startswith("."))
    except OSError:
        return []
    if len(names) > MAX_KEYS:
        raise InvalidRequest(f"{folder}: expected at most {MAX_KEYS} keys, found {len(names)}")
    return [folder / name for name in names]


def _read_list(path: Path, kind: type[_List]) -> _List:
    try:
        data = _read(path, MAX_LIST)
    except FileNotFoundError:
        return kind()
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        return msgspec.convert(tomllib.loads(data.decode()), kind)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: {error}; correct it, nothing is verified until then") from None


def _read(path: Path, limit: int) -> bytes:
    """Read a file that decides about trust: nobody else may be able to write it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"{path}: expected a plain file")
        if found.st_mode & stat.S_IWOTH or found.st_uid not in {0, os.geteuid()}:
            raise InvalidRequest(f"{path}: expected a file that only its owner, you or root, may write: chmod o-w it")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidRequest(f"{path}: expected at most {limit} bytes, found more")
    return data


def _toml(value: object) -> str:
    """Write a text or a list of texts as TOML; JSON's escapes are TOML's."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
