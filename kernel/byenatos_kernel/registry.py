"""The model registry: which plugins and models there are, kept true while folders change.

Plugins come from the shelf (``plugins.py``), which has them verified; models from files dropped into ``<home>/models``,
from ``[[models]]`` in manifests, from ``model_config``, and last from vendors' lists (``offers.py``). Neither a
plugin's code nor a model's file is ever understood here: a manifest is data, and a file is opened, judged by the driver
that asks for files of its name, in a process of its own (``probe``), and hashed. A file on its way in is ``copying``,
then ``checking``, then ``available`` or ``refused`` with the reason; one that was deleted is ``removed`` until nothing
uses it any more.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from byenatos_kernel.config import Config
from byenatos_kernel.declarations import Declarations, settings_of
from byenatos_kernel.folders import (
    QUIET_S,
    FolderWatch,
    Stamp,
    list_files,
    stamp_of,
    whole_stamp,
)
from byenatos_kernel.grants import Grants
from byenatos_kernel.model_files import Digests, ModelFile, further_paths
from byenatos_kernel.models import ModelEntry, Offer, PluginEntry, is_text, printable
from byenatos_kernel.plugins import PluginShelf
from byenatos_kernel.probes import Prober, Verdict, takes
from byenatos_kernel.settling import Settling
from byenatos_sdk.protocol.control import Event, ModelChanged, ModelState
from byenatos_sdk.protocol.errors import ByenatosError, NotFound, Unavailable

__all__ = ["ModelRegistry"]

MOST_NAMED, MOST_NEAR, LONGEST_COMPARED = 12, 3, 100
"""Models that an error names, all or those with a name like it, and how much of a name is looked at for that."""


class ModelRegistry:
    """What can be loaded.

    Its owner sets ``on_judged`` (a file is available or refused now), ``on_removed``, ``on_plugins`` (there are others
    now), ``on_scan`` (something changed below the watched folders), and ``in_use``, which tells whether a model still
    has instances.
    """

    def __init__(
        self,
        shelf: PluginShelf,
        model_folder: Path,
        grants: Grants,
        config: Config,
        digests: Digests,
        publish: Callable[[Event], None],
    ) -> None:
        self.plugins: dict[str, PluginEntry] = {}
        self.models: dict[str, ModelEntry] = {}
        self.offers: dict[str, dict[str, Offer]] = {}
        self.on_judged: Callable[[ModelEntry], None] = lambda _: None
        self.on_plugins: Callable[[dict[str, PluginEntry]], None] = lambda _: None
        self.on_removed: Callable[[ModelEntry], None] = lambda _: None
        self.on_scan: Callable[[set[str] | None], None] = lambda _: None
        self.in_use: Callable[[str], bool] = lambda _: False
        self.shelf = shelf
        shelf.on_change = self._take
        self.folder = model_folder
        self._declarations = Declarations(config)
        self._digests = digests
        self._publish = publish
        self._by_path: dict[Path, ModelEntry] = {}
        self._settling = Settling()
        self._probes: set[asyncio.Task[None]] = set()
        self._prober = Prober(grants, shelf.load)
        self._loop = asyncio.get_running_loop()
        self._watch = FolderWatch([model_folder, *shelf.folders, *shelf.rules], self.scan)
        self._rescan: asyncio.TimerHandle | None = None
        self._closed = False

    async def start(self) -> None:
        """Read what is there and begin to watch."""
        await self.shelf.start()
        self.scan()
        self._watch.start()

    def close(self) -> None:
        """Stop watching and probing."""
        self._closed = True
        self._watch.close()
        self.shelf.close()
        if self._rescan is not None:
            self._rescan.cancel()
        for task in self._probes:
            task.cancel()

    def plugin_for(self, model: ModelEntry) -> PluginEntry:
        """The usable plugin of a model.

        Raises:
            NotFound: there is no such plugin.
            Unavailable: the plugin or the model is refused.
        """
        if model.state in {"available", "refused"} and (changed := model.changed_file()):
            model.stamp = None
            self._scan_soon()
            raise Unavailable(f"{model.id}: {changed} was changed; it is looked at again", retry_after_s=1.0)
        if model.state == "refused":
            raise Unavailable(f"{model.id} is refused: {model.reason}")
        if model.state in {"copying", "checking"}:
            raise Unavailable(f"{model.id} is still {model.state}; try again in a moment", retry_after_s=1.0)
        plugin = self.plugins.get(model.driver)
        if plugin is None:
            raise NotFound(f"{model.id} wants the driver {model.driver!r}; there is {self._names(self.plugins)}")
        if plugin.manifest is None and plugin.checking:
            raise Unavailable(
                f"the driver {plugin.id} is still being checked; try again in a moment", retry_after_s=1.0
            )
        if plugin.manifest is None:
            raise Unavailable(f"the driver {plugin.id} is refused: {plugin.reason}")
        return plugin

    def model(self, id: str) -> ModelEntry:
        """Look a model up; raises ``NotFound`` listing what there is."""
        entry = self.models.get(id)
        if entry is None or entry.state == "removed":
            plugin = self.plugins.get(id)
            if plugin is not None and plugin.manifest is None and plugin.reason:
                raise NotFound(f"no model {id!r}: the driver of that name is refused: {plugin.reason}")
            usable = sorted(name for name, model in self.models.items() if model.state == "available")
            if len(usable) <= MOST_NAMED:
                raise NotFound(f"no model {id!r}; there is {self._names(usable)}")
            import difflib  # late: a kernel that is asked for what there is needs none of it

            near = difflib.get_close_matches(id[:LONGEST_COMPARED], usable, MOST_NEAR, cutoff=0.5)
            meant = f"is it {' or '.join(near)}? " if near else ""
            raise NotFound(f"no model {id!r}; {meant}`byenatos models list` lists the {len(usable)} that there are")
        return entry

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know about models that are declared and not there."""
        return self._declarations.warnings

    def offer(self, driver: str, offers: dict[str, Offer]) -> None:
        """Enter what the vendor of a driver offers, in place of what it offered before."""
        before = self.offers.get(driver, {})
        self.offers[driver] = offers
        self._declare()
        for name in offers.keys() - before.keys():
            entry = self.models.get(name)
            if entry is not None and entry.offered_by(driver):
                self.on_judged(entry)  # a slot may have been waiting for it

    def forget_removed(self) -> None:
        """Drop the models whose file is gone and that nothing uses any more; others may have waited for their names."""
        for entry in [entry for entry in self.models.values() if entry.state == "removed"]:
            if not self.in_use(entry.id):
                del self.models[entry.id]
        for path, entry in self._by_path.items():
            waited = entry.state == "refused" and entry.id != path.stem and entry.stamp is not None
            if waited and path.stem not in self.models and self._is_wanted(path):
                entry.stamp = None
                self._scan_soon()

    # ---- scanning ----------------------------------------------------------------------------------------------

    def scan(self, changed: set[str] | None = None) -> None:
        """Compare the folders with what is known; cheap, and harmless to repeat."""
        if self._closed:
            return
        self.shelf.scan(changed)
        self.on_scan(changed)
        self._scan_models()

    def _take(self, found: dict[str, PluginEntry]) -> None:
        """The shelf has something new to say."""
        if self._closed:
            return
        renewed = _patterns(found) != _patterns(self.plugins)
        for entry in self._by_path.values() if renewed else ():
            if entry.state == "refused":
                entry.stamp = None  # another driver may take it
        arrived = _usable(found) - _usable(self.plugins)
        self.plugins = dict(found)
        self._declare()
        self.on_plugins(self.plugins)
        for entry in list(self.models.values()):
            if entry.path is None and entry.state == "available" and entry.driver in arrived:
                self.on_judged(entry)  # a slot may have been waiting for it
        if renewed:
            self._scan_models()

    def _declare(self) -> None:
        """Enter the models that need no file: of the manifests, of the configuration, then of the vendors' lists."""
        declared = self._declarations.entries(self.plugins, self.offers)
        for entry in declared.values():
            known = self.models.get(entry.id)
            if known is None or (known.path is None and known.state == "removed") or self._yields(known, entry):
                self.models[entry.id] = entry
                self._announce(entry)
            elif known.path is None and known.driver == entry.driver:
                known.settings = entry.settings
                known.declared = entry.declared
                known.offered_at = entry.offered_at
        for known in list(self.models.values()):
            if known.path is None and known.id not in declared and known.state != "removed":
                self._remove(known)

    def _yields(self, known: ModelEntry, entry: ModelEntry) -> bool:
        """Whether a name goes from a model that only a vendor's list names to one that is declared."""
        return known.offered_at > 0 and not entry.offered_at and not self.in_use(entry.id)

    def _scan_models(self) -> None:
        present: set[Path] = set()
        unsettled = False
        for path in list_files(self.folder):
            stamp = stamp_of(path)
            if stamp is None:
                continue
            present.add(path)
            entry = self._by_path.get(path)
            if entry is not None and entry.stamp == stamp and entry.changed_file() is None:
                continue
            if self._settling.is_over(path, stamp):
                self._check(path, stamp, entry)
            else:
                unsettled = True
                self._arriving(path, entry)
        for path in [path for path in self._by_path if path not in present]:
            self._settling.forget(path)
            self._remove(self._by_path.pop(path))
        if unsettled:
            self._scan_soon()
        self.forget_removed()

    def _scan_soon(self) -> None:
        if self._rescan is None and not self._closed:
            self._rescan = self._loop.call_later(QUIET_S, self._scan_again)

    def _scan_again(self) -> None:
        self._rescan = None
        if not self._closed:
            self._scan_models()

    def _arriving(self, path: Path, entry: ModelEntry | None) -> None:
        if entry is None:
            entry = self._enter(path, "copying")
        elif entry.state not in {"copying", "removed"} and not self.in_use(entry.id):
            self._set(entry, "copying")

    def _enter(self, path: Path, state: ModelState) -> ModelEntry:
        """Make an entry for a new file; one whose name is taken, or that no driver wants, goes by its relative path."""
        name = printable(path.stem)
        known = self.models.get(name)
        if known is not None and known.offered_at and self._is_wanted(path) and not self.in_use(name):
            # what is here comes before what a vendor elsewhere calls by the same name
            self._set(self.models.pop(name), "removed", f"the file {printable(path.name)} has its name now")
            known = None
        taken = known is not None and not (known.state == "removed" and known.path == path)
        if taken or not self._is_wanted(path):
            name = printable(path.relative_to(self.folder))
        entry = ModelEntry(name, "", path, state=state)
        self.models[name] = self._by_path[path] = entry
        self._announce(entry)
        return entry

    def _is_wanted(self, path: Path) -> bool:
        return is_text(path) and any(takes(plugin, path.name) for plugin in self.plugins.values())

    def _rename(self, entry: ModelEntry, name: str) -> None:
        """Give an entry that went by its path the name that has become free."""
        self._set(entry, "removed", f"it is called {name} now")
        del self.models[entry.id]
        entry.id = name
        self.models[name] = entry
        self._set(entry, "checking")

    def _check(self, path: Path, stamp: Stamp, entry: ModelEntry | None) -> None:
        if entry is None:
            entry = self._enter(path, "checking")
        entry.stamp = stamp
        self._set(entry, "checking")
        if not is_text(path):
            self._set(entry, "refused", f"expected a name in UTF-8, found {printable(path.name)}; rename the file")
            return
        if entry.id != path.stem and self._is_wanted(path):
            taken = self.models.get(path.stem)
            if taken is not None:
                where = taken.path or f"the driver {taken.driver}"
                self._set(entry, "refused", f"the name {path.stem!r} is taken by {where}; rename the file")
                return
            self._rename(entry, path.stem)
        task = self._loop.create_task(self._probe(entry, stamp))
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def _probe(self, entry: ModelEntry, stamp: Stamp) -> None:
        assert entry.path is not None
        entry.further = {}
        file: ModelFile | None = None
        try:
            file = ModelFile(entry.path)
            verdict = await self._prober.judge(
                file, list(self.plugins.values()), lambda plugin: self._declarations.configured(plugin, entry.id)
            )
            if verdict.specification is not None:
                await self._digests.fill(file)
                await self._add_further(entry, file, verdict.plugin)
        except OSError as error:
            verdict = Verdict(reason=f"cannot be read: {error.strerror or error}")
        except ByenatosError as error:
            verdict = Verdict(reason=error.message)
        if entry.stamp != stamp or entry.state != "checking":
            return
        if verdict.specification is not None:
            entry.file = file
            entry.driver = verdict.plugin
            entry.settings = settings_of(self.plugins.get(verdict.plugin))
            self._declarations.configure(entry)
            entry.specification = msgspec.structs.replace(verdict.specification, id=entry.id, driver=verdict.plugin)
        self._set(entry, "refused" if verdict.specification is None else "available", verdict.reason)
        self.on_judged(entry)

    async def _add_further(self, entry: ModelEntry, file: ModelFile, driver: str) -> None:
        """Add to a model's file those that the operator's settings for it name, as far as its driver asks for them."""
        plugin = self.plugins.get(driver)
        keys = plugin.manifest.permissions.file_settings if plugin is not None and plugin.manifest is not None else []
        named = further_paths(keys, self._declarations.operators(driver, entry.id), file.path.parent)
        entry.further = {path: whole_stamp(path) for _, path in named}
        await self._digests.add_further(file, named)

    # ---- changes -----------------------------------------------------------------------------------------------

    def _set(self, entry: ModelEntry, state: ModelState, reason: str = "") -> None:
        entry.state = state
        entry.reason = reason
        self._announce(entry)

    def _remove(self, entry: ModelEntry) -> None:
        entry.stamp = entry.file = None
        gone = "its vendor offers it no more" if entry.offered_at else "its file or its declaration is gone"
        self._set(entry, "removed", gone)
        self.on_removed(entry)
        self.forget_removed()

    def _announce(self, entry: ModelEntry) -> None:
        self._publish(ModelChanged(time.time(), entry.info(0, ())))

    @staticmethod
    def _names(names: Iterable[str]) -> str:
        return ", ".join(sorted(names)) or "none"


def _patterns(plugins: dict[str, PluginEntry]) -> dict[str, list[str]]:
    return {plugin.id: plugin.manifest.permissions.model_files for plugin in plugins.values() if plugin.manifest}


def _usable(plugins: dict[str, PluginEntry]) -> set[str]:
    return {plugin.id for plugin in plugins.values() if plugin.manifest is not None}
