"""Read one of the operator's TOML files into a struct: bounded, not everybody's to write; what is wrong is named."""

import os
import stat
import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["read_toml"]

T = TypeVar("T")


def read_toml(path: Path, kind: type[T], *, most: int, error: type[InvalidRequest]) -> T:
    """Read ``path``, of at most ``most`` bytes, as a ``kind``.

    Raises:
        InvalidRequest: as ``error``; the message names the file, and the key where one is wrong.
    """
    try:
        # A pipe would have the kernel wait for whoever writes to it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(most + 1) if stat.S_ISREG(mode) else b""
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from None
    if not stat.S_ISREG(mode):
        raise error(f"{path}: expected a file, found something else")
    if mode & stat.S_IWOTH:
        raise error(
            f"{path}: expected a file that not everybody may write, found mode {mode & 0o777:04o}: chmod o-w it"
        )
    if len(data) > most:
        raise error(f"{path}: expected at most {most} bytes, found more")
    try:
        return msgspec.convert(tomllib.loads(data.decode("utf-8-sig")), kind)
    except msgspec.ValidationError as problem:
        raise error(f"{path}: {problem}") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid TOML: {problem}") from None
