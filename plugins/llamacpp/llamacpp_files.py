"""Open files that were granted to the driver, as llama.cpp wants them: a C stream, never a name."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from byenatos_sdk.files import open_file
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["c_stream"]

_libc = ctypes.CDLL(None)
_libc.fdopen.restype = ctypes.c_void_p
_libc.fclose.argtypes = [ctypes.c_void_p]


@contextmanager
def c_stream(path: Path) -> Iterator[Any]:
    """Lend a ``FILE *`` at the start of the file.

    Raises:
        InvalidRequest: it cannot be opened.
    """
    try:
        with open_file(path) as file:
            stream = ctypes.c_void_p(_libc.fdopen(os.dup(file.fileno()), b"rb"))
    except OSError as error:
        raise InvalidRequest(f"{path.name}: cannot be opened: {error.strerror}") from None
    try:
        yield stream
    finally:
        _libc.fclose(stream)
