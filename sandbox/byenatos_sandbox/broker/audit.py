"""One line of JSON for each request that a driver made, whether it was passed on or refused: who, where, how much.

No content, no query, no key. A file that grew to its size is moved aside; the oldest goes. A line is written when its
request is over; what cannot be written (a full disk) is counted on stderr and stops no request.
"""

import os
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct

__all__ = ["Audit", "Entry"]

NAME = "egress.jsonl"
MAX_SIZE = 16 << 20
KEPT = 4
COMPLAIN_EVERY_S = 60.0
LONGEST = 300


class Entry(Struct, omit_defaults=True):
    """One request. ``status`` is what the driver was told; ``refused`` or ``failed`` say why it is not the vendor's."""

    driver: str
    method: str = ""
    host: str = ""
    path: str = ""
    at: str = ""
    status: int = 0
    refused: str = ""
    failed: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    duration_ms: float = 0.0


class Audit:
    """The file, opened when first needed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._descriptor = -1
        self._size = 0
        self._lost = 0
        self._complained_at = -COMPLAIN_EVERY_S
        self._encode = msgspec.json.Encoder().encode

    def write(self, entry: Entry) -> None:
        """Append an entry, its texts cut to a bound."""
        entry.at = _now()
        for key in ("host", "path", "refused", "failed"):
            setattr(entry, key, getattr(entry, key)[:LONGEST])
        line = self._encode(entry) + b"\n"
        try:
            if self._descriptor < 0 or self._size + len(line) > MAX_SIZE:
                self._open()
            self._size += os.write(self._descriptor, line)
        except OSError as error:
            self._lost += 1
            if time.monotonic() - self._complained_at > COMPLAIN_EVERY_S:
                self._complained_at = time.monotonic()
                sys.stderr.write(f"broker: {self._lost} audit lines lost: {self._path}: {error.strerror}\n")

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        if self._size < MAX_SIZE - LONGEST:
            return
        self.close()
        for number in range(KEPT - 1, 0, -1):
            older = self._path.with_name(f"{NAME}.{number}")
            newer = self._path.with_name(f"{NAME}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = 0


def _now() -> str:
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
