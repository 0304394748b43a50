"""The kernel's SQLite file: one thread owns the connection, the event loop only ever waits.

Writers that arrive together share one transaction and one ``fsync`` (group commit), each inside a savepoint of its own,
so that the failure of one does not undo the others. WAL with ``synchronous=FULL``: what was acknowledged survives a
power cut. A file that another version wrote is refused rather than guessed at.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from byenatos_sdk.protocol.errors import ByenatosError, Unavailable
from byenatos_sdk.protocol.frames import UNREADABLE

__all__ = ["Database"]

VERSION = 8
_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, slot TEXT NOT NULL, owner TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL
) STRICT;
CREATE TABLE turns (
    session TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE, number INTEGER NOT NULL, message BLOB NOT NULL,
    state TEXT NOT NULL, model TEXT NOT NULL, at REAL NOT NULL, moves INTEGER NOT NULL, PRIMARY KEY (session, number)
) STRICT;
CREATE TABLE slots (
    name TEXT PRIMARY KEY, model TEXT NOT NULL, configured TEXT NOT NULL
) STRICT;
CREATE TABLE swaps (
    id INTEGER PRIMARY KEY, slot TEXT NOT NULL, state TEXT NOT NULL, event BLOB NOT NULL
) STRICT;
"""
_PLUGINS = """
CREATE TABLE plugins (
    id TEXT NOT NULL, publisher TEXT NOT NULL, highest TEXT NOT NULL, digest TEXT NOT NULL, previous TEXT NOT NULL,
    PRIMARY KEY (id, publisher)
) STRICT;
"""
"""Since version 2."""
_DIGESTS = """
CREATE TABLE digests (
    device TEXT NOT NULL, inode TEXT NOT NULL, size TEXT NOT NULL, modified TEXT NOT NULL, changed TEXT NOT NULL,
    digest TEXT NOT NULL, UNIQUE (device, inode, size, modified, changed)
) STRICT;
"""
"""Since version 3."""
_NOTES = """
CREATE TABLE notes (
    session TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE, note BLOB NOT NULL
) STRICT;
"""
"""Since version 4."""
_OFFERS = """
CREATE TABLE offers (
    driver TEXT NOT NULL, model TEXT NOT NULL, specification BLOB NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (driver, model)
) STRICT;
"""
"""Since version 5."""
_USAGE = """
CREATE TABLE usage (
    model TEXT NOT NULL, week INTEGER NOT NULL, hour INTEGER NOT NULL, requests INTEGER NOT NULL,
    PRIMARY KEY (model, week, hour)
) STRICT, WITHOUT ROWID;
"""
"""Since version 6."""
_VERSIONS = """
CREATE TABLE plugin_versions (
    number INTEGER PRIMARY KEY, plugin TEXT NOT NULL, digest TEXT NOT NULL, verdict BLOB NOT NULL, held TEXT NOT NULL,
    final INTEGER NOT NULL, UNIQUE (plugin, digest)
) STRICT;
"""
"""Since version 7."""
_HOMES = """
CREATE TABLE homes (
    session TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE, model TEXT NOT NULL
) STRICT;
"""
"""Since version 8."""
_SINCE = (_SCHEMA, _PLUGINS, _DIGESTS, _NOTES, _OFFERS, _USAGE, _VERSIONS, _HOMES)

T = TypeVar("T")
_Job = tuple[Callable[[sqlite3.Connection], object], asyncio.AbstractEventLoop, "asyncio.Future[object]", bool]


class Database:
    """One SQLite file, opened by :meth:`open` and used through :meth:`run`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open or create the file and start the thread.

        Raises:
            Unavailable: the file cannot be used; the message says why.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-1024")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if 0 <= found < VERSION:
                missing = " ".join(_SINCE[found:])
                connection.executescript(f"BEGIN; {missing} PRAGMA user_version={VERSION}; COMMIT;")
            elif found != VERSION:
                connection.close()
                raise Unavailable(
                    f"{self.path}: expected version {VERSION}, found {found}; use the kernel that wrote it"
                )
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise Unavailable(f"{self.path}: cannot be used: {error}; move it away to start afresh") from None
        self._thread = threading.Thread(target=self._work, args=(connection,), name="database", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run ``job`` in a transaction and return its result once that is durable.

        What is not ``durable`` survives the death of this process, and not that of the machine.

        Raises whatever ``job`` raises; SQLite's own errors (a full disk) and rows that cannot be read as
        ``ByenatosError``; ``Unavailable`` after :meth:`close`.
        """
        if self._thread is None:
            raise Unavailable(f"{self.path} is closed; the kernel is stopping")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._jobs.put((job, loop, future, durable))
        try:
            return await future  # type: ignore[return-value]
        except sqlite3.Error as error:
            raise ByenatosError(f"{self.path}: could not be used: {error}") from error
        except UNREADABLE as error:
            raise ByenatosError(f"{self.path}: holds a row that cannot be read: {error}") from error

    def close(self) -> None:
        """Finish what is queued and close the file."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self, connection: sqlite3.Connection) -> None:
        more = True
        while more:
            batch = [self._jobs.get()]
            while not self._jobs.empty():
                batch.append(self._jobs.get())
            more = None not in batch
            self._commit(connection, [job for job in batch if job is not None])
        connection.close()

    @staticmethod
    def _commit(connection: sqlite3.Connection, batch: list[_Job]) -> None:
        outcomes: list[tuple[_Job, object, Exception | None]] = []
        hasty = not any(durable for *_, durable in batch)
        try:
            if hasty:
                connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            for entry in batch:
                connection.execute("SAVEPOINT job")
                try:
                    outcomes.append((entry, entry[0](connection), None))
                except Exception as error:  # noqa: BLE001 - it is its caller's; the thread must outlive every job
                    connection.execute("ROLLBACK TO job")
                    outcomes.append((entry, None, error))
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            outcomes = [(entry, None, error) for entry in batch]
        if hasty:
            connection.execute("PRAGMA synchronous=FULL")
        for (_, loop, future, _), result, failure in outcomes:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future, result, failure)


def _resolve(future: "asyncio.Future[object]", result: object, failure: Exception | None) -> None:
    if not future.done():
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
