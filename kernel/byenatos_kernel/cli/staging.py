"""Where one model's file grows until it is whole: a hidden folder beside its place, so that the last step is a rename.

The kernel watches the models folder. It never sees half a file, because names with a leading dot are none of its
business, and the rename happens after the bytes are on the disk. What an interrupted pull leaves here, the next one
uses.
"""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from byenatos_kernel.cli.meter import Meter
from byenatos_kernel.cli.screen import megabytes
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded

__all__ = ["CHUNK", "Growing", "Staging", "digest_file"]

CHUNK = 1 << 20
_SPARE_BYTES = 16 << 20


class Staging:
    """The folder ``.pull-<file name>``, held by one pull at a time. Leaving it keeps what can be resumed."""

    def __init__(self, models: Path, file_name: str) -> None:
        self.destination = models / file_name
        self.folder = models / f".pull-{file_name}"
        self.part = self.folder / "model.part"
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = self._hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.folder.rmdir()
        except OSError:
            pass  # it holds something to resume from, or is gone with the finished pull
        finally:
            os.close(self._descriptor)

    def _hold(self) -> int:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise Overloaded(
                        f"{self.destination.name} is being pulled by another process; wait until it has finished"
                    ) from None
                raise
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # another pull finished and removed the folder between the two calls

    def reserve(self, needed_bytes: int) -> None:
        """Refuse to begin what the disk cannot hold."""
        free_bytes = shutil.disk_usage(self.folder).free
        if needed_bytes + _SPARE_BYTES > free_bytes:
            raise ByenatosError(
                f"{self.folder.parent}: expected {megabytes(needed_bytes + _SPARE_BYTES)} of free space, found "
                f"{megabytes(free_bytes)}; make room, or use another home (--home)"
            )

    def install(self) -> None:
        """Put the finished part in its place, all or nothing, and remove the folder."""
        with self.part.open("rb") as file:
            os.fsync(file.fileno())
        self.part.replace(self.destination)
        models = os.open(self.destination.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(models)
        finally:
            os.close(models)
        self.discard()

    def discard(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.folder)


class Growing:
    """A file being written, its SHA-256 and a meter, in step. With ``resume`` what the file already holds stays."""

    def __init__(self, path: Path, meter: Meter, *, resume: bool = False) -> None:
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._meter = meter
        if resume and path.exists():
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    self._count(chunk)
        self._file = path.open("ab" if resume else "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``."""
        self._file.write(chunk)
        self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)
        self._meter.reach(self.size_bytes)

    @property
    def sha256(self) -> str:
        """The digest of all that the file holds, in hexadecimal."""
        return self._sha256.hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
