"""Verified code where no private root can show it: imported from a copy of its own instead of from the disk.

The plugin's folder keeps its name on the import path, and whoever looks for a module in it, or below it, finds the
files whose bytes were verified. What lies in the folder itself is then no more looked at than with a private root.
"""

import os
import sys
from collections.abc import Mapping
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path, PurePath

from byenatos_sandbox.root import write_files

__all__ = ["import_copies"]

_LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


def import_copies(folder: str, code: Mapping[str, bytes], scratch: str) -> None:
    """Have this process import ``code`` where it would import from ``folder``; the copies are made in ``scratch``.

    Raises:
        OSError: they cannot be written.
        ValueError: a name is not one of a file below the folder.
    """
    copies = Path(scratch, "code")
    copies.mkdir(mode=0o700)  # not less: whoever empties the scratch folder must be able to
    write_files(str(copies), code)
    for name in code:
        (copies / name).chmod(0o400)
    names = {os.path.normpath(folder), os.path.realpath(folder)}

    def find_in_copies(path: str) -> FileFinder:
        for name in names:
            place = PurePath(os.path.normpath(path))
            if place.is_relative_to(name):
                # made by hand: the usual hook leaves a folder that does not exist to the next one, which reads the disk
                return FileFinder(str(copies / place.relative_to(name)), *_LOADERS)
        raise ImportError(f"{path} is not below {folder}")

    sys.path_hooks.insert(0, find_in_copies)
    sys.path_importer_cache.clear()
