"""Watch folders, and tell a file that is complete from one that is still being copied.

A file counts as settled when nobody has it open for writing and its size and time have not changed for
:data:`QUIET_S`. The first is asked of the operating system by requesting a read lease, which Linux refuses while any
process holds the file open for writing (``fcntl(2)``, F_SETLEASE); where a file system knows no leases, only the quiet
time counts, and a longer one.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["FolderWatch", "Stamp", "is_being_written", "list_files", "stamp_of", "stamp_of_folder", "whole_stamp"]

QUIET_S = 0.3
QUIET_WITHOUT_LEASE_S = 1.0
MOST_FILES = 10_000
MOST_CHANGES = 1000
POLL_S = 1.0
_TIMEOUT_MS = 500

Stamp = tuple[int, int, int]
"""Inode, size in bytes, modification time in nanoseconds."""

log = logging.getLogger("byenatos")


class FolderWatch:
    """Calls ``on_change`` in the event loop soon after anything changed below the folders.

    It is given the paths that changed, or ``None`` if any may have.
    """

    def __init__(self, folders: list[Path], on_change: Callable[[set[str] | None], None]) -> None:
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
        while not self._stop.is_set():
            watched = self._identities()
            if not any(watched):
                self._stop.wait(_TIMEOUT_MS / 1000)
                continue
            try:
                self._watch_these(watched)
            except (OSError, RuntimeError) as error:  # the system's inotify watches are used up, for instance
                log.warning("the folders are looked at every %g s: they cannot be watched: %s", POLL_S, error)
                while not self._stop.wait(POLL_S) and not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._on_change, None)

    def _watch_these(self, watched: list[int]) -> None:
        """Watch the folders that there are, until one of them is another one: a watch stays with the old one."""
        from watchfiles import watch

        looked = False
        for changes in watch(
            *(folder for folder, inode in zip(self._folders, watched, strict=True) if inode),
            watch_filter=None,
            debounce=100,
            step=25,
            rust_timeout=_TIMEOUT_MS,
            stop_event=self._stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
            yield_on_timeout=True,
        ):
            if self._stop.is_set() or self._loop.is_closed():
                return
            # Once in any case: what changed before the watch stood is announced by nobody.
            if changes or not looked:
                # So many at once are more than the system may have kept.
                changed = {path for _, path in changes} if looked and len(changes) < MOST_CHANGES else None
                looked = True
                self._loop.call_soon_threadsafe(self._on_change, changed)
            if self._identities() != watched:
                return

    def _identities(self) -> list[int]:
        """The inodes of the folders, 0 for one that is not there."""
        return [found.st_ino if (found := _stat(folder)) else 0 for folder in self._folders]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def list_files(folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder``, links to files among them, hidden and partial ones left out, at most 10,000."""
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
    found = _stat(path)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def stamp_of_folder(folder: Path) -> str:
    """Identify a folder's content without reading it: what is below it, how large, of what mode, changed when."""
    digest = hashlib.sha256()
    count = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for path in (root, *(f"{root}/{name}" for name in (*sorted(names), *folders))):
            count += 1
            try:
                found = os.lstat(path)
            except OSError:
                continue
            facts = (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            digest.update(os.fsencode(path) + repr(facts).encode())
        if count > MOST_FILES:
            break
    return digest.hexdigest()


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


def whole_stamp(path: Path) -> Stamp | None:
    """Return how a file is now; nothing while it is being written, or if it is not there."""
    return None if is_being_written(path) else stamp_of(path)
