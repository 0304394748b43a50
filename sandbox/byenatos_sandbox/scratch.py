"""Scratch folders of sandboxes, and how they go: what is in one is the work of a driver that may mean harm.

``shutil.rmtree`` calls itself for each folder in a folder, so that a driver could end whoever tidies up after it.
"""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

__all__ = ["remove"]


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; one that is not there is removed.

    Raises:
        OSError: something in it cannot be removed.
    """
    if folder.exists():
        _empty(folder)
        folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove what is in a folder, however deep it is nested: what is in its folders moves up until none is left."""
    unused = os.urandom(8).hex()  # a driver could have taken a name that it can guess
    numbers = count()
    _unlock(folder)
    while folders := [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]:
        for inner in folders:
            _unlock(inner)
            for entry in list(inner.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    _unlock(entry)
                    entry.rename(folder / f"{unused}-{next(numbers)}")
                else:
                    entry.unlink()
            inner.rmdir()
    for entry in folder.iterdir():
        entry.unlink()


def _unlock(folder: Path) -> None:
    with suppress(PermissionError):  # within a sandbox nobody may; there it is mostly not needed either
        folder.chmod(0o700)
