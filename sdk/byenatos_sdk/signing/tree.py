"""Read a plugin folder: every byte once, and nothing but plain files.

What is returned is what is verified, stored and run; no path is looked at twice. Each folder is opened relative to the
one above it and each file relative to its folder, none through a link, so that nobody can lead the reader elsewhere
while it reads. Refused by name: links, pipes, sockets, devices, names that are no UTF-8, files with a set-uid, set-gid
or sticky bit, more than :data:`MAX_FILES` files or :data:`MAX_BYTES` bytes, and bytecode: Python would run it in place
of the source that people read. ``__pycache__`` folders, which Python makes beside any source, are passed over: they are
neither read nor stored, so nothing in them can ever run.
"""

import operator
import os
import re
import stat
from pathlib import Path

from msgspec import Struct

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["MAX_BYTES", "MAX_FILES", "MAX_NAME", "File", "name_fault", "read_file", "read_tree"]

MAX_FILES = 2000
MAX_BYTES = 64 << 20
MAX_NAME = 512
MAX_DEPTH = 32
_PASSED_OVER = "__pycache__"
_BYTECODE = (".pyc", ".pyo")
_PLAIN = re.compile(
    r"(?!(?:.*/)?__pycache__(?:/|\Z))(?!.*\.py[co]\Z)(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*"
)
"""A path that needs no further look: most are like that."""
_NOT_PERMISSIONS = 0o177000
"""What a file is, and its set-uid, set-gid and sticky bits."""
_entry_name = operator.attrgetter("name")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class File(Struct, frozen=True, gc=False):
    """A file as it was read; ``writable`` by others than its owner."""

    data: bytes
    executable: bool = False
    writable: bool = False


def name_fault(name: str) -> str | None:
    """Say what is wrong with a file's path below the folder, if anything is."""
    if len(name) <= MAX_NAME and _PLAIN.fullmatch(name):
        return None
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is no UTF-8"
    if len(encoded) > MAX_NAME:
        return "it is too long"
    if "\0" in name or "\\" in name:
        return "it holds a NUL or a backslash"
    if any(part in {"", ".", "..", _PASSED_OVER} for part in name.split("/")):
        return "it has an empty part, '.', '..' or __pycache__ in it"
    if name.endswith(_BYTECODE):
        return "it is bytecode, which would run in place of its source"
    return None


def read_tree(folder: Path) -> dict[str, File]:
    """Read every file below ``folder``, by its path with ``/`` between the parts.

    Raises:
        InvalidRequest: naming the file that is not as it must be.
        OSError: the folder or a file cannot be read.
    """
    files: dict[str, File] = {}
    descriptor = os.open(folder, _FOLDER)
    try:
        _read_folder(descriptor, "", files, [MAX_BYTES])
    finally:
        os.close(descriptor)
    return files


def read_file(folder: int, name: str, limit: int, shown: str = "") -> File:
    """Read the plain file ``name`` in the open ``folder``, at most ``limit`` bytes.

    Raises:
        InvalidRequest: it is not plain, too large, or has a set-uid, set-gid or sticky bit.
        OSError: it cannot be read.
    """
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        mode, size = found.st_mode, found.st_size
        if mode & _NOT_PERMISSIONS != stat.S_IFREG:
            raise InvalidRequest(f"{shown or name}: {_mode_fault(mode)}")
        data = os.read(descriptor, min(size, limit) + 1)
        if len(data) != size:  # a short read, or it is being written
            parts = [data]
            while data and sum(map(len, parts)) <= limit:
                data = os.read(descriptor, 1 << 20)
                parts.append(data)
            data = b"".join(parts)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise InvalidRequest(f"{shown or name}: expected at most {limit} bytes, found more")
    return File(data, mode & 0o111 != 0, mode & 0o022 != 0)


def _read_folder(descriptor: int, prefix: str, files: dict[str, File], left: list[int]) -> None:
    with os.scandir(descriptor) as listing:
        entries = sorted(listing, key=_entry_name)
    for entry in entries:
        own = entry.name
        name = shown = prefix + own
        plain = _PLAIN.fullmatch(own) is not None and len(name) <= MAX_NAME
        if not plain:
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        is_file = entry.is_file(follow_symlinks=False)
        if not is_file and entry.is_dir(follow_symlinks=False):
            if own == _PASSED_OVER:
                continue
            if name.count("/") >= MAX_DEPTH:
                raise InvalidRequest(f"{shown}: expected at most {MAX_DEPTH} folders in one another, found more")
            inner = os.open(own, _FOLDER, dir_fd=descriptor)
            try:
                _read_folder(inner, f"{name}/", files, left)
            finally:
                os.close(inner)
            continue
        if not is_file:
            kind = _kind(entry.stat(follow_symlinks=False).st_mode)
            raise InvalidRequest(f"{shown}: expected a plain file, found {kind}")
        if not plain and (fault := name_fault(name)) is not None:
            raise InvalidRequest(f"{shown}: this name is refused: {fault}")
        if len(files) >= MAX_FILES:
            raise InvalidRequest(f"{shown}: expected at most {MAX_FILES} files, found more")
        file = files[name] = read_file(descriptor, own, MAX_BYTES, shown)
        left[0] -= len(file.data)
        if left[0] < 0:
            raise InvalidRequest(f"{shown}: expected at most {MAX_BYTES >> 20} MiB in all files together, found more")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _mode_fault(mode: int) -> str:
    if not stat.S_ISREG(mode):
        return f"expected a plain file, found {_kind(mode)}"
    return f"expected no set-uid, set-gid or sticky bit, found mode {stat.S_IMODE(mode):04o}"
