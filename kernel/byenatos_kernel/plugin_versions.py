"""The versions of each plugin that were verified here, and which of them are held back.

What runs is what the plugin's folder was verified as, unless that version is *held*: then it is the one that was here
before, from the store. The operator holds a version by going back to the one before it (until he upgrades again); one
that failed its self-test is refused for good, which means until the folder's files are others: then it is another
version. Of each plugin the folder's version is remembered, over restarts too, and one to go back to: what runs already,
else the one that was verified last. One that was staged and never ran is nothing to go back to while another runs.
"""

import sqlite3
from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

from byenatos_kernel.database import Database
from byenatos_kernel.verdicts import Verdict
from byenatos_sdk.protocol.frames import encode

__all__ = ["PluginVersion", "PluginVersions"]

INTERRUPTED = "was being tried out when the kernel stopped; `byenatos driver upgrade` tries it again"

_decode_verdict = msgspec.msgpack.Decoder(Verdict).decode


class PluginVersion(Struct, frozen=True):
    """A version as it was verified. ``held`` says why it must not run (empty: it may), ``final`` that this stays."""

    verdict: Verdict
    held: str = ""
    final: bool = False


class PluginVersions:
    """All of them, by plugin and digest, in the order in which they were verified last.

    ``in_use`` are the digests that something runs from.
    """

    def __init__(self, database: Database, in_use: Callable[[], set[str]]) -> None:
        self._database = database
        self._in_use = in_use
        self._known: dict[str, dict[str, PluginVersion]] = {}
        self._on_trial: dict[str, str] = {}
        self._pinned: dict[str, str] = {}

    def digests(self, plugins: Iterable[str]) -> set[str]:
        """What of these plugins must stay in the store."""
        return {digest for plugin in plugins for digest in self._known.get(plugin, {})}

    async def start(self) -> None:
        """Read what earlier kernels knew."""

        def job(connection: sqlite3.Connection) -> list[tuple[str, str, bytes, str, int]]:
            return connection.execute(
                "SELECT plugin, digest, verdict, held, final FROM plugin_versions ORDER BY number"
            ).fetchall()

        for plugin, digest, verdict, held, final in await self._database.run(job):
            self._known.setdefault(plugin, {})[digest] = PluginVersion(_decode_verdict(verdict), held, bool(final))

    def find(self, plugin: str, digest: str) -> PluginVersion | None:
        """What is known of a version."""
        return self._known.get(plugin, {}).get(digest)

    def before(self, plugin: str, digest: str) -> Verdict | None:
        """The version that may run in place of ``digest``."""
        others = [one for key, one in self._known.get(plugin, {}).items() if key != digest and not one.held]
        used = self._in_use()
        running = [one for one in others if one.verdict.digest in used]
        return (running or others)[-1].verdict if others else None

    def choose(self, verdict: Verdict) -> Verdict:
        """What runs where a folder was verified as ``verdict``."""
        pinned = self.find(verdict.id, self._pinned.get(verdict.id, ""))
        if pinned is not None and not pinned.held:
            return pinned.verdict
        instead = self.before(verdict.id, verdict.digest) if self.why_held(verdict) else None
        return instead or verdict

    def why_held(self, verdict: Verdict) -> str:
        """Why a version is held back; empty if it is not."""
        known = self.find(verdict.id, verdict.digest)
        return known.held if known is not None else ""

    def remember(self, verdict: Verdict) -> None:
        """A folder was verified as ``verdict``: keep that and the version before it."""
        known = self._known.setdefault(verdict.id, {})
        found = known.pop(verdict.digest, None)
        known[verdict.digest] = msgspec.structs.replace(found or PluginVersion(verdict), verdict=verdict)
        before = self.before(verdict.id, verdict.digest)
        pinned = self._pinned.get(verdict.id, "")
        kept = {verdict.digest, before.digest if before is not None else "", pinned, *self._in_use()}
        for digest in known.keys() - kept:
            del known[digest]

    def hold(self, plugin: str, digest: str, reason: str, *, final: bool) -> None:
        """Hold a version back, or with an empty ``reason`` let it run again."""
        found = self._known[plugin][digest]
        self._known[plugin][digest] = msgspec.structs.replace(found, held=reason, final=final)

    def pin(self, plugin: str, digest: str) -> None:
        """While all is exchanged for a version (empty: nothing is) it counts, whatever the folder is verified as."""
        self._pinned[plugin] = digest

    def try_out(self, plugin: str, digest: str) -> None:
        """While a version is tried out (empty: none is) it counts, but for the next kernel, which holds it back."""
        self._on_trial[plugin] = digest

    async def write(self, plugin: str) -> None:
        """Have the next kernel know what this one knows of a plugin.

        Raises:
            ByenatosError: the database cannot be written.
        """
        trial = self._on_trial.get(plugin)
        rows = [
            (plugin, digest, encode(one.verdict), one.held or INTERRUPTED * (digest == trial), int(one.final))
            for digest, one in self._known[plugin].items()
        ]

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM plugin_versions WHERE plugin=?", (plugin,))
            connection.executemany(
                "INSERT INTO plugin_versions (plugin, digest, verdict, held, final) VALUES (?, ?, ?, ?, ?)", rows
            )

        await self._database.run(job)
