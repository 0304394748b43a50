"""Watch folders, and tell a file that is complete from one that is still being copied.

A file counts as settled when nobody has it open for writing and its size and time have not changed for
:data:`QUIET_S`. The first is asked of the operating system by requesting a read lease, which Linux refuses while any
process holds the file open for writing (``fcntl(2)``, F_SETLEASE); where a file system knows no leases, only the quiet
time counts, and a longer one.
"""

import asyncio
import fcntl
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["FolderWatch", "Stamp", "is_being_written", "list_files", "stamp_of"]

QUIET_S = 0.3
QUIET_WITHOUT_LEASE_S = 1.0
MOST_FILES = 10_000

Stamp = tuple[int, int, int]
"""Inode, size in bytes, modification time in nanoseconds."""


class FolderWatch:
    """Calls ``on_change`` in the event loop soon after anything changed below the folders."""

    def __init__(self, folders: list[Path], on_change: Callable[[], None]) -> None:
        self._folders = folders
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="folder-watch", daemon=True)

    def start(self) -> None:
        """Begin watching."""
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease that somebody breaks is announced by SIGIO
        self._thread.start()

    def close(self) -> None:
        """Stop watching; returns at once, the thread ends within a moment."""
        self._stop.set()

    def _watch(self) -> None:
        from watchfiles import watch

        for _ in watch(
            *self._folders,
            watch_filter=None,
            debounce=100,
            step=25,
            rust_timeout=500,
            stop_event=self._stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if self._stop.is_set() or self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(self._on_change)


def list_files(folder: Path) -> Iterator[Path]:
    """Yield the regular files below ``folder``, links followed, hidden and partial ones left out, at most 10,000."""
    count = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or name.endswith((".part", ".tmp", ".crdownload", "~")):
                continue
            count += 1
            if count > MOST_FILES:
                return
            yield Path(root) / name


def stamp_of(path: Path) -> Stamp | None:
    """Identify a file's content, or ``None`` if it is no regular file (any more)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def is_being_written(path: Path) -> bool | None:
    """Whether some process has the file open for writing; ``None`` if the file system cannot tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(descriptor)
