"""Files that were granted to a driver: each is open in its process already, whoever may open it by its name.

Inside a sandbox a granted file has no name: it cannot be opened by its path, only by :func:`open_file`. So it may be of
mode 0600, and what is read is the very file that was granted and hashed, whatever its name leads to by now.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = ["FIRST", "grant", "granted", "open_file", "sockets"]

FIRST = 5
"""The descriptor of the first granted file; the others follow in the order of the grant."""

granted: dict[str, int] = {}
"""Descriptors by path; the runtime fills it before the driver is imported."""


def grant(paths: Sequence[str]) -> None:
    """Note which files are open, in the order of their descriptors."""
    granted.update({path: number for number, path in enumerate(paths, FIRST)})


def sockets(count: int) -> range:
    """Return the descriptors of the ``count`` sockets that were handed over, which lie behind the files."""
    first = FIRST + len(granted)
    return range(first, first + count)


def open_file(path: Path | str) -> BinaryIO:
    """Open a granted file to read it from its start; one that was not granted is opened by its name.

    All that open the same granted file share one position in it: read it from one thread, and not two at a time.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = granted.get(str(path))
    if descriptor is None:
        return Path(path).open("rb")
    file = os.fdopen(os.dup(descriptor), "rb")
    file.seek(0)
    return file
