"""The store: verified plugins by their digest, to read only. Drivers run from here and from nowhere else.

::

    <store>/<digest>/statement.json    its SHA-256 is the digest
    <store>/<digest>/plugin.sig        the envelope, if somebody signed it
    <store>/<digest>/files/…           the plugin folder, mode 0444 and 0555

What is stored are the bytes that were verified, not the folder that they were read from: nothing can change between the
check and the use. A version is written beside the others and renamed into place when it is whole, so that a crash
leaves nothing that looks like one. Whoever loads a version reads each byte once and compares it with the statement
whose hash is the address: no key is needed for that, and what was changed in the store is found.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.signing import (
    MAX_BYTES,
    SIGNATURE,
    File,
    Statement,
    Untrusted,
    damage,
    decode_statement,
    read_tree,
)
from byenatos_sdk.signing.statement import MAX_STATEMENT
from byenatos_sdk.signing.tree import read_file

__all__ = ["Store"]

_STATEMENT = "statement.json"
_FILES = "files"
_UNFINISHED = ".new-"


class Store:
    """The versions of all plugins below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, digest: str) -> Path:
        """Where the files of a version lie."""
        return self.folder / digest / _FILES

    def load(self, digest: str) -> dict[str, bytes]:
        """Read a version and make sure that it is what was verified.

        Raises:
            Untrusted: it is missing, or a file was changed; the message names it.
        """
        place = self.folder / digest
        with _named(place):
            statement = _statement(place)
            files = read_tree(place / _FILES)
            wrong = damage(statement, files)
            if wrong is not None:
                raise Untrusted(wrong)
        return {name: file.data for name, file in files.items()}

    def glance(self, digest: str, name: str) -> tuple[bytes, Statement]:
        """Read one file at the top of a version, and its statement; raises ``Untrusted`` as :meth:`load` does."""
        place = self.folder / digest
        with _named(place):
            statement = _statement(place)
            with _opened(place / _FILES) as folder:
                file = read_file(folder, name, MAX_BYTES)
            listed = [subject for subject in statement.subject if subject.name == name]
            if not listed or hashlib.blake2b(file.data).hexdigest() != listed[0].digest.blake2b:
                raise Untrusted(f"{name}: expected the content that is signed, found another")
        return file.data, statement

    def ingest(self, payload: bytes, envelope: bytes | None, files: Mapping[str, File]) -> str:
        """Keep what was verified, and return its digest; a copy that was damaged since is replaced.

        Raises:
            OSError: it cannot be written; nothing is left of the attempt.
        """
        digest = hashlib.sha256(payload).hexdigest()
        place = self.folder / digest
        try:
            self.load(digest)
        except Untrusted:
            pass
        else:
            return digest
        self.folder.mkdir(mode=0o700, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
        try:
            written = {f"{_FILES}/{name}": file.data for name, file in files.items() if name != SIGNATURE}
            written[_STATEMENT] = payload
            if envelope is not None:
                written[SIGNATURE] = envelope
            _write(new, written)
            if place.exists() or place.is_symlink():
                _remove(place)
            new.rename(place)
        except BaseException:
            _remove(new)
            raise
        place.chmod(0o555)
        _sync(self.folder)
        return digest

    def sweep(self, keep: Collection[str]) -> list[str]:
        """Remove every version that is not in ``keep``, and what a crash left; return their digests."""
        removed = []
        for entry in sorted(one.name for one in self.folder.iterdir()) if self.folder.is_dir() else []:
            if entry not in keep:
                _remove(self.folder / entry)
                if not entry.startswith(_UNFINISHED):
                    removed.append(entry)
        return removed


def _statement(place: Path) -> Statement:
    """Read the statement of a version, which must be the one that its address says."""
    with _opened(place) as folder:
        payload = read_file(folder, _STATEMENT, MAX_STATEMENT).data
    if hashlib.sha256(payload).hexdigest() != place.name:
        raise Untrusted(f"{_STATEMENT}: expected the statement of this address, found another")
    return decode_statement(payload)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Say of whatever is wrong in which version it is."""
    try:
        yield
    except (InvalidRequest, Untrusted) as error:
        raise Untrusted(f"{place}: {error.message}") from None
    except OSError as error:
        raise Untrusted(f"{place}: cannot be read: {error.filename or ''} {error.strerror or error}") from None


def _write(root: Path, files: Mapping[str, bytes]) -> None:
    folders = {root}
    for name, data in files.items():
        path = root / name
        for parent in path.relative_to(root).parents:
            folders.add(root / parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    for folder in sorted(folders, reverse=True):
        _sync(folder)
        if folder != root:  # a folder that cannot be written cannot be renamed by an ordinary user
            folder.chmod(0o555)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    """Remove a version, whose folders are to read only, or whatever stands in its place."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(place):
        Path(folder).chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)
