"""Model files as the kernel holds them: opened once, hashed once, handed to drivers as descriptors.

A driver is given the very file that was judged and hashed, however its name is used meanwhile; it never sees the name.
A digest is computed in a thread and remembered in the database by what identifies a file's content: device, inode,
size, and the times of its last modification and change. BLAKE2b, because it takes a third of SHA-256's time without
OpenSSL, which the kernel leaves out. The content is never parsed here.

A model may need further files, adapters say. It is the operator who names them, in ``model_config``: neither a plugin
nor a request can. They are opened and hashed like the model's own and go wherever that goes.
"""

import asyncio
import hashlib
import os
import sqlite3
import stat
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from byenatos_kernel.database import Database
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, Unavailable

__all__ = ["Digests", "ModelFile", "further_paths"]

DIGEST_BYTES = 32
MOST_KEPT = 10_000
MOST_FURTHER = 16
_PIECE = 1 << 20

Identity = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, times of modification and change in nanoseconds."""


class ModelFile:
    """An open model file. It is closed when nobody refers to it any more.

    ``digest`` is the BLAKE2b-256 of its content, in hex, once :meth:`Digests.fill` has found it. ``further`` are the
    files that belong to it.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest = ""
        self.further: tuple[ModelFile, ...] = ()
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        weakref.finalize(self, os.close, self.descriptor)
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            raise OSError(f"expected a regular file at {path}, found something else")
        self.identity = self._identify()

    @property
    def intact(self) -> bool:
        """Whether nobody has written to it, or to what belongs to it, since it was opened."""
        # who links, renames or deletes it changes only the last
        return self._identify()[:4] == self.identity[:4] and all(file.intact for file in self.further)

    @property
    def opened(self) -> dict[str, int]:
        """Descriptors by path, of all of it."""
        return {str(file.path): file.descriptor for file in (self, *self.further)}

    def _identify(self) -> Identity:
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Digests:
    """The digests of model files, kept in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(self, file: ModelFile) -> None:
        """Set ``file.digest``, from what is remembered or by reading the whole file.

        Raises:
            OSError: it cannot be read.
            Unavailable: it changed meanwhile.
        """
        with suppress(ByenatosError):  # a database that cannot be used now costs the time of reading once more
            file.digest = await self._database.run(lambda connection: _find(connection, file.identity))
        if file.digest:
            return
        digest = await asyncio.get_running_loop().run_in_executor(None, _hash, file.descriptor)
        if not file.intact:
            raise Unavailable(f"{file.path} was changed while it was read; it is looked at again")
        file.digest = digest
        with suppress(ByenatosError):
            await self._database.run(lambda connection: _remember(connection, file.identity, digest))

    async def add_further(self, file: ModelFile, named: Iterable[tuple[str, Path]]) -> None:
        """Open and hash the files that ``named`` settings name, and add them to ``file``.

        Raises:
            InvalidRequest: one cannot be opened or read, or is no regular file; the message names setting and file.
            Unavailable: one changed meanwhile.
        """
        found = []
        for key, path in named:
            try:
                further = ModelFile(path)
                await self.fill(further)
            except OSError as error:
                raise InvalidRequest(f"{key}: {path}: cannot be opened: {error.strerror or error}") from None
            found.append(further)
        file.further = tuple(found)


def further_paths(keys: Sequence[str], settings: dict[str, Any], folder: Path) -> tuple[tuple[str, Path], ...]:
    """Return the files that ``settings`` name by ``keys``, each with its key and once.

    A name without a folder is that of a file in ``folder``. What is no name is left to the driver to refuse.

    Raises:
        InvalidRequest: there are too many, or one has a name that cannot be sent.
    """
    found: dict[Path, str] = {}
    for key in keys:
        value = settings.get(key)
        for one in value if isinstance(value, list) else [value]:
            name = one.get("file") if isinstance(one, dict) else one
            if isinstance(name, str) and name:
                if "\0" in name:
                    raise InvalidRequest(f"{key}: expected the name of a file, found {name!r}")
                found.setdefault(folder / name, key)
    if len(found) > MOST_FURTHER:
        raise InvalidRequest(f"{', '.join(keys)}: expected at most {MOST_FURTHER} files, found {len(found)}")
    return tuple((key, path) for path, key in found.items())


def _hash(descriptor: int) -> str:
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    piece = memoryview(bytearray(_PIECE))
    offset = 0
    while count := os.preadv(descriptor, [piece], offset):
        found.update(piece[:count])
        offset += count
    return found.hexdigest()


def _find(connection: sqlite3.Connection, identity: Identity) -> str:
    row = connection.execute(
        "SELECT digest FROM digests WHERE device=? AND inode=? AND size=? AND modified=? AND changed=?", _keys(identity)
    ).fetchone()
    return row[0] if row is not None else ""


def _remember(connection: sqlite3.Connection, identity: Identity, digest: str) -> None:
    connection.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", (*_keys(identity), digest))
    newer = "SELECT rowid FROM digests ORDER BY rowid DESC LIMIT 1 OFFSET ?"
    connection.execute(f"DELETE FROM digests WHERE rowid <= ({newer})", (MOST_KEPT,))  # noqa: S608 - both are constants


def _keys(identity: Identity) -> tuple[str, ...]:
    """As text: a device or an inode may be larger than SQLite's integers."""
    return tuple(map(str, identity))
