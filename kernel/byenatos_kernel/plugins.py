"""The plugin shelf: which plugin folders there are, and what the verifier says of each of them.

A folder that appears or changes is ``checking`` until the verifier has read it, then ``available`` or ``refused`` with
the reason. What may run lies in the store; a driver is started from there. So a folder that changes, is refused or goes
away takes nothing from what runs, and a new version stands beside the old one: what runs stays on its version, what is
started from now on gets the new one, unless it is held back (``plugin_versions.py``). All folders are looked at again
when the operator's rules change, and once a day, because keys expire.

A folder's *stamp* (names, sizes, modes, times) tells that it changed, nothing more: what may run is decided by its
bytes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from byenatos_kernel.database import Database
from byenatos_kernel.environments import stamp_environment
from byenatos_kernel.folders import QUIET_S, stamp_of_folder
from byenatos_kernel.models import PluginEntry, printable
from byenatos_kernel.operator_key import is_new
from byenatos_kernel.plugin_entries import log_entry, make_entry
from byenatos_kernel.plugin_folders import PluginFolder, plugin_folders, strays, touches
from byenatos_kernel.plugin_memory import PluginMemory
from byenatos_kernel.plugin_versions import PluginVersions
from byenatos_kernel.shipped import shipped
from byenatos_kernel.store import Store
from byenatos_kernel.verdicts import Order, Report, Verdict
from byenatos_kernel.verifier import ask
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, PermissionDenied, Unavailable
from byenatos_sdk.signing import Untrusted

__all__ = ["PluginShelf"]

AGAIN_S = 10.0
"""After a verifier that failed."""
DAILY_S = 86_400.0

log = logging.getLogger("byenatos")


class PluginShelf:
    """Keeps ``entries`` true. Its owner sets ``on_change`` and ``in_use``, the digests that something runs from."""

    def __init__(
        self,
        home: Home,
        folders: list[Path],
        database: Database,
        *,
        ask: Callable[[Order], Awaitable[Report]] = ask,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.entries: dict[str, PluginEntry] = {}
        self.on_change: Callable[[dict[str, PluginEntry]], None] = lambda _: None
        self.in_use: Callable[[], set[str]] = set
        self.folders = folders
        self.rules = [home.policies, home.signatures, shipped("policies")]
        self._home = home
        self._ask = ask
        self._quiet_s = quiet_s
        self._store = Store(home.store)
        self.versions = PluginVersions(database, self._used)
        self._known: dict[Path, PluginFolder] = {}
        self._unfit: dict[str, PluginEntry] = {}
        self._rules = ""
        self._revoked: dict[str, str] = {}
        self._memory = PluginMemory(database)
        self._notes: tuple[str, ...] = ()
        self._strays: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._daily = self._loop.call_later(DAILY_S, self._look_again)
        self._closed = False

    @property
    def warnings(self) -> list[str]:
        """What the operator should know."""
        unsigned = [one.id for one in self.entries.values() if one.manifest is not None and one.verdict.unsigned]
        held = [f"the plugin {one.id}: {one.held}" for one in self.entries.values() if one.held]
        marks = [f"the plugin {one} runs UNSIGNED, as policies/access.toml allows" for one in unsigned]
        return [*marks, *held, *self._strays, *self._notes]

    async def start(self) -> None:
        """Remember what was here before, and verify what is here now."""
        await self._memory.read()
        await self.versions.start()
        quiet_s, self._quiet_s = self._quiet_s, 0.0  # nobody waits for what may be half written; it will change again
        new = is_new(self._home)
        self.scan()
        await self.verified()
        self._quiet_s = quiet_s
        if new:  # the verifier has made the operator's key: that is no change of the rules to look at again
            self._rules = self._stamp_of_rules()

    async def verified(self) -> None:
        """Wait until everything that was due is verified."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    def close(self) -> None:
        """Stop verifying."""
        self._closed = True
        self._daily.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def load(self, plugin: PluginEntry) -> dict[str, bytes]:
        """Read the files that a driver is about to be started from, and make sure of them.

        Raises:
            PermissionDenied: they were revoked after they had been verified.
            Unavailable: they were changed in the store; they are restored if the plugin's folder is as it was.
        """
        verdict = plugin.verdict
        reason = next((self._revoked[one] for one in (*verdict.states, verdict.key) if one in self._revoked), None)
        if reason is not None:
            raise PermissionDenied(f"the driver {plugin.id} is not started: it is revoked: {reason}")
        if _has_other_packages(plugin):
            self._doubt(plugin)
            raise Unavailable(
                f"the driver {plugin.id} is not started: its packages in {plugin.verdict.environment} were changed; "
                "they are compared with what was installed: try again",
                retry_after_s=1.0,
            )
        try:
            return self._store.load(plugin.digest)
        except Untrusted as error:
            self._doubt(plugin)
            raise Unavailable(
                f"the driver {plugin.id} is not started: {error.message}; it is restored from {plugin.path} if that is "
                "as it was verified: try again",
                retry_after_s=1.0,
            ) from None

    def own(self, id: str) -> Verdict:
        """What the folder of a plugin was verified as, whether that runs or is held back."""
        found = (one.verdict for one in self._known.values() if one.entry.id == id)
        return next(found, None) or self.entries[id].verdict

    async def hold(self, id: str, digest: str, reason: str, *, final: bool = False) -> None:
        """Hold a version of a plugin back, or with an empty ``reason`` let it run again; it counts at once.

        ``final``: until the folder's files change, whatever the operator says.
        """
        self.versions.hold(id, digest, reason, final=final)
        self._choose(id)
        await self._write_versions(id)

    def pin(self, id: str, digest: str) -> None:
        """Have a version of a plugin count until another one is pinned, or none (empty), whatever comes meanwhile."""
        self.versions.pin(id, digest)
        for folder in self._known.values():
            verdict = folder.verdict
            if folder.entry.id != id or verdict is None or verdict.reason:
                continue
            if self.versions.choose(verdict).digest != folder.entry.digest:
                self._choose(id)

    async def try_out(self, id: str, digest: str) -> None:
        """A version is being tried out (empty: none is): a kernel that dies meanwhile must not come back with it."""
        self.versions.try_out(id, digest)
        await self._write_versions(id)

    def _doubt(self, plugin: PluginEntry) -> None:
        """Have a plugin verified anew."""
        folder = self._known.get(plugin.path)
        if folder is not None:
            folder.verified = ""
            self._loop.call_soon(self.scan)

    def scan(self, changed: set[str] | None = None) -> None:
        """Compare the folders with what is known, and have verified what is new; harmless to repeat.

        ``changed`` are the paths that changed since; whatever is not among them is not looked at. ``None``: all is.
        """
        if self._closed:
            return
        rules = self._stamp_of_rules() if any(touches(changed, folder) for folder in self.rules) else self._rules
        if rules != self._rules:
            self._rules = rules
            for folder in self._known.values():
                folder.verified = ""
        found: dict[Path, PluginFolder] = {}
        names: dict[str, Path] = {}
        self._unfit = {}
        self._strays = strays(self._home.plugins)
        for path in plugin_folders(self.folders):
            name = printable(path.name)
            if name in names:
                reason = f"the id {name!r} is taken by {printable(names[name])}"
                self._unfit[printable(path)] = PluginEntry(printable(path), path, None, reason)
                continue
            names[name] = path
            if printable(path) != str(path):
                reason = f"expected a folder name in UTF-8, found {name}; rename the folder"
                self._unfit[name] = PluginEntry(name, path, None, reason)
                continue
            folder = found[path] = self._known.get(path) or PluginFolder(path)
            if folder.stamp == folder.verified and folder.stamp and not touches(changed, path):
                continue
            stamp = stamp_of_folder(path)
            if stamp != folder.stamp:
                folder.stamp = stamp
                folder.since = self._loop.time()
        self._known = found
        self._arrange()
        self._work_soon()

    def _stamp_of_rules(self) -> str:
        return "".join(stamp_of_folder(folder) for folder in self.rules)

    def _arrange(self) -> None:
        """Publish the entries as they are now."""
        self.entries = {**{one.entry.id: one.entry for one in self._known.values()}, **self._unfit}
        self.on_change(self.entries)

    def _choose(self, id: str) -> None:
        """Say anew which version of a plugin counts."""
        for folder in self._known.values():
            if folder.entry.id == id and folder.verdict is not None:
                folder.entry = self._entry(folder, folder.verdict)
        self._arrange()

    # ---- verifying ---------------------------------------------------------------------------------------------

    def _work_soon(self) -> None:
        """Begin with what is due, or wait until it has been quiet for long enough."""
        if self._closed or (self._task is not None and not self._task.done()):
            return
        changed = [one for one in self._known.values() if one.stamp != one.verified]
        if not changed:
            return
        wait_s = min(one.since for one in changed) + self._quiet_s - self._loop.time()
        if wait_s > 0:
            if self._timer is None:
                self._timer = self._loop.call_later(wait_s, self._on_timer)
            return
        self._task = self._loop.create_task(self._work())
        self._task.add_done_callback(self._worked)

    def _on_timer(self) -> None:
        self._timer = None
        self.scan(set())  # what is not settled is looked at in any case

    def _worked(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("plugins could not be verified", exc_info=task.exception())
        elif not task.cancelled():
            self._work_soon()

    async def _work(self) -> None:
        latest = self._loop.time() - self._quiet_s
        due = [one for one in self._known.values() if one.stamp != one.verified and one.since <= latest]
        stamps = [one.stamp for one in due]
        for folder in due:
            folder.entry.checking = True
        folders = tuple(str(one.path) for one in due)
        order = Order(str(self._home.path), folders, self._memory.highest, tuple(self._keep()))
        try:
            report = await self._ask(order)
            if len(report.verdicts) != len(due):
                raise Unavailable(f"the verifier judged {len(report.verdicts)} folders of {len(due)}")
        except ByenatosError as error:
            reason = f"could not be verified: {error.message}"
            report = Report(tuple(Verdict(str(one.path), one.entry.id, reason=reason) for one in due), self._revoked)
            self._loop.call_later(AGAIN_S, self._look_again)
        self._revoked = report.revoked
        self._note(report.notes)
        for folder, stamp, verdict in zip(due, stamps, report.verdicts, strict=True):
            folder.verified = stamp
            folder.verdict = verdict
            folder.entry = self._entry(folder, verdict)
            if folder.entry.manifest is not None:
                await self._memory.remember(folder.entry.id, verdict)
                self.versions.remember(verdict)
                await self._write_versions(folder.entry.id)
        self._arrange()

    def _used(self) -> set[str]:
        return self.in_use()

    def _keep(self) -> set[str]:
        """What must stay in the store: what is listed or runs, and of each plugin the version before, to go back to."""
        listed = {one.entry.digest for one in self._known.values()} | self.in_use()
        here = {one.entry.id for one in self._known.values()}
        return (listed | self._memory.digests(here) | self.versions.digests(here)) - {""}

    def _entry(self, folder: PluginFolder, verdict: Verdict) -> PluginEntry:
        entry = make_entry(folder, verdict, self._store, self.versions)
        log_entry(entry)
        return entry

    async def _write_versions(self, plugin: str) -> None:
        try:
            await self.versions.write(plugin)
        except ByenatosError as error:
            log.warning("the versions of %s are not remembered: %s", plugin, error.message)

    def _look_again(self) -> None:
        """Verify everything anew: a day is over, or the verifier failed."""
        self._daily.cancel()
        self._daily = self._loop.call_later(DAILY_S, self._look_again)
        for folder in self._known.values():
            folder.verified = ""
        self.scan()

    def _note(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            if note not in self._notes:
                log.warning("%s", note)
        self._notes = notes


def _has_other_packages(plugin: PluginEntry) -> bool:
    """Whether the packages of a plugin's own were touched since they were checked."""
    if not plugin.verdict.environment:
        return False
    try:
        return stamp_environment(Path(plugin.verdict.environment)) != plugin.verdict.environment_stamp
    except OSError:
        return True
