"""What was verified of each plugin here before, by its publisher; later kernels must know it too."""

import logging
import sqlite3
from collections.abc import Callable, Container
from contextlib import closing
from pathlib import Path

from byenatos_kernel.database import Database
from byenatos_kernel.verdicts import Verdict
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable

__all__ = ["PluginMemory", "highest_in"]

log = logging.getLogger("byenatos")


class PluginMemory:
    """By plugin and publisher: the highest version, the digest of what was verified last and of what was before it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, str], tuple[str, str, str]] = {}

    @property
    def highest(self) -> tuple[tuple[str, str, str], ...]:
        """Plugins and publishers, each with the highest version."""
        return tuple((*one, version) for one, (version, _, _) in self._known.items())

    def digests(self, plugins: Container[str]) -> set[str]:
        """What of these plugins must stay in the store."""
        kept: set[str] = set()
        for (plugin, _), (_, digest, previous) in self._known.items():
            if plugin in plugins:
                kept |= {digest, previous}
        return kept

    async def read(self) -> None:
        """Read what earlier kernels knew."""

        def job(connection: sqlite3.Connection) -> list[tuple[str, str, str, str, str]]:
            return connection.execute("SELECT id, publisher, highest, digest, previous FROM plugins").fetchall()

        for plugin, publisher, highest, digest, previous in await self._database.run(job):
            self._known[plugin, publisher] = (highest, digest, previous)

    async def remember(self, plugin: str, verdict: Verdict) -> None:
        """A plugin's folder was verified as ``verdict``."""
        publisher = "" if verdict.unsigned else verdict.publisher
        highest, digest, previous = self._known.get((plugin, publisher), ("", "", ""))
        if digest != verdict.digest:
            digest, previous = verdict.digest, digest
        row = (verdict.version if verdict.newest else highest, digest, previous)
        self._known[plugin, publisher] = row

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO plugins VALUES (?, ?, ?, ?, ?)", (plugin, publisher, *row))

        try:
            await self._database.run(job)
        except ByenatosError as error:
            log.warning("the version of %s is not remembered: %s", plugin, error.message)


def highest_in(path: Path) -> Callable[[str, str], str | None]:
    """Find the highest version of a plugin by a publisher that kernels with this database have seen, without a kernel.

    Raises:
        Unavailable: the database cannot be read.
    """
    if not path.exists():
        return lambda _plugin, _publisher: None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT id, publisher, highest FROM plugins").fetchall()
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: which versions ran before cannot be read: {error}") from None
    seen = {(plugin, publisher): highest for plugin, publisher, highest in rows}
    return lambda plugin, publisher: seen.get((plugin, publisher))
