"""Keep slots and the fallback supplied: load what they are bound to, as soon as it is there to be loaded.

A model may appear after the slot that wants it (its file is still being checked, or is dropped in later). An empty
``default`` slot takes a model file that turns out to be usable: drop a file in and it works. Where several are there at
once, all are checked before one is chosen: one with a chat template before a base model, then by name.

What there was no room for is tried again whenever something has left.
"""

import asyncio

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.hotswap import HotSwapManager
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.units import PRELOADED, STANDS_IN, Unit
from byenatos_sdk.protocol.control import InstanceInfo, LoadRequest, UnloadRequest
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Overloaded

__all__ = ["Supply"]


class Supply:
    """Loads models for whoever needs them: slots, the fallback, and ``load`` calls."""

    def __init__(
        self,
        registry: ModelRegistry,
        drivers: DriverManager,
        routes: Routes,
        swaps: HotSwapManager,
        fallback_model: str | None,
    ) -> None:
        self.warnings: dict[str, str] = {}
        self._registry = registry
        self._drivers = drivers
        self._routes = routes
        self._swaps = swaps
        self._fallback_model = fallback_model
        self._fallback: Unit | None = None
        self._fallback_crowded = False
        self._room_made = False
        self._trying: asyncio.Task[None] | None = None
        self._all_judged = asyncio.Event()

    def fallback(self) -> Unit | None:
        """The unit of ``fallback_model``, if it is loaded or on its way."""
        unit = self._fallback
        return unit if unit is not None and not unit.dead and not unit.leaving else None

    async def start(self) -> None:
        """Supply everything whose model is known already."""
        for entry in list(self._registry.models.values()):
            await self.judged(entry)
        for slot in self._routes.slots.values():
            if slot.model and slot.unit is None:
                slot.detail = slot.detail or f"no model {slot.model!r} is known yet"
        self._note_whether_all_are_judged()

    async def wait_for_files(self) -> None:
        """Return once every model file is judged, so that nobody is told that there is no model who could have one.

        A file may take long, or be copied for hours: whoever waits sets a bound.
        """
        await self._all_judged.wait()

    async def judged(self, entry: ModelEntry) -> None:
        """A model was found to be available or not: give it to those that were waiting for it."""
        if entry.state == "available":
            await self._give(entry)
        default = self._routes.slots["default"]
        files = [model for model in self._registry.models.values() if model.path is not None]
        if not default.model and not any(model.state == "checking" for model in files):
            usable = [model for model in files if model.state == "available"]
            if usable:
                chosen = min(usable, key=_preference)
                default.model = chosen.id
                await self._supply(default, chosen)
        self._note_whether_all_are_judged()

    def _note_whether_all_are_judged(self) -> None:
        files = (model for model in self._registry.models.values() if model.path is not None)
        if not any(model.state in {"copying", "checking"} for model in files):
            self._all_judged.set()

    def replaced(self, old: Unit, new: Unit) -> None:
        """What an operator or the preloading keeps loaded is another unit now, of the same model."""
        new.pinned, old.pinned = new.pinned or old.pinned, False
        if PRELOADED in old.slots:
            old.slots.discard(PRELOADED)
            new.slots.add(PRELOADED)
        if self._fallback is old:
            self._fallback = new
        self._drivers.release(old)

    def removed(self, entry: ModelEntry) -> None:
        """A model's file is gone: what serves a slot goes on until it is swapped out, the rest goes now."""
        for unit in [unit for unit in self._drivers.units if unit.model is entry]:
            unit.pinned = False
            unit.slots.discard(PRELOADED)
            if not self._routes.bound_to(entry.id):
                self._routes.homes.clear(unit)
            self._drivers.release(unit)
        self._drivers.forget(entry)

    def room_made(self) -> None:
        """Something has left: try again what there was no room for."""
        self._room_made = True
        if self._trying is None and (
            self._fallback_crowded or any(slot.crowded for slot in self._routes.slots.values())
        ):
            self._trying = asyncio.get_running_loop().create_task(self._try_again())

    async def load(self, request: LoadRequest) -> InstanceInfo:
        """Load a model, keep it loaded, and bind a new slot to it if one is named.

        Raises:
            NotFound, Unavailable, Overloaded: why it cannot be loaded.
            InvalidRequest: the slot exists and is bound to something else.
        """
        entry = self._registry.model(request.model)
        slot = self._routes.slots.get(request.slot) if request.slot is not None else None
        if slot is not None and slot.model not in {"", entry.id}:
            raise InvalidRequest(
                f"slot {slot.name!r} is bound to {slot.model}; `byenatos swap {slot.name} {entry.id}` swaps it"
            )
        if request.slot is not None and (not request.slot or len(request.slot) > 64 or not request.slot.isprintable()):
            raise InvalidRequest("expected a slot name of 1 to 64 printable characters")
        unit = await self._drivers.obtain(entry)
        unit.pinned = True
        try:
            instance = await self._swaps.try_out(unit)
        except ByenatosError:
            unit.pinned = False
            self._drivers.drop(unit)
            self._drivers.release(unit)
            raise
        if request.slot is not None and slot is None:
            slot = self._routes.slots.setdefault(request.slot, Slot(request.slot, entry.id, ""))
        for other in list(self._routes.slots.values()):
            if other.model == entry.id and other.unserved:
                await self._swaps.bind(other, unit)
        if slot is not None and not slot.model:
            await self._swaps.bind(slot, unit)
        return instance.info

    def unload(self, request: UnloadRequest) -> None:
        """Let a model go; its running streams end first, and conversations that were moved to it return to their slots.

        Raises:
            NotFound: it is not loaded.
            InvalidRequest: a slot is bound to it.
        """
        units = [unit for unit in self._drivers.units if unit.model.id == request.model and not unit.leaving]
        if not units:
            self._registry.model(request.model)
            raise NotFound(f"{request.model} is not loaded")
        slots = self._routes.bound_to(request.model)
        if slots:
            raise InvalidRequest(f"{request.model} serves slot {', '.join(slots)}; swap it to another model first")
        while self._swaps.give_up_kept(request.model):
            pass
        for unit in units:
            unit.pinned = False
            unit.slots -= {name for name in unit.slots if name == PRELOADED or name.startswith(STANDS_IN)}
            self._routes.homes.clear(unit)
            self._drivers.release(unit)
        self._drivers.forget(units[0].model)

    # ---- private -----------------------------------------------------------------------------------------------

    async def _give(self, entry: ModelEntry) -> None:
        for slot in list(self._routes.slots.values()):
            if slot.model == entry.id and slot.unserved:
                await self._supply(slot, entry)
        if entry.id == self._fallback_model and self.fallback() is None:
            await self._supply_fallback(entry)

    async def _supply(self, slot: Slot, entry: ModelEntry) -> None:
        try:
            unit = await self._drivers.obtain(entry, supervised=True)
            if slot.unserved:
                await self._swaps.bind(slot, unit)
            else:
                self._drivers.release(unit)
        except ByenatosError as error:
            slot.detail = error.message
            slot.crowded = isinstance(error, Overloaded)

    async def _supply_fallback(self, entry: ModelEntry) -> None:
        try:
            self._fallback = await self._drivers.obtain(entry, supervised=True)
            self._fallback.pinned = True
            self._fallback_crowded = False
            self.warnings.pop("fallback", None)
        except ByenatosError as error:
            self._fallback_crowded = isinstance(error, Overloaded)
            self.warnings["fallback"] = f"the fallback model {entry.id} is not loaded: {error.message}"

    async def _try_again(self) -> None:
        """Supply what is crowded, until nothing more has left meanwhile."""
        try:
            while self._room_made:
                self._room_made = False
                wanted = {slot.model for slot in self._routes.slots.values() if slot.crowded}
                if self._fallback_crowded and self._fallback_model is not None:
                    wanted.add(self._fallback_model)
                for model in sorted(wanted):
                    entry = self._registry.models.get(model)
                    if entry is not None and entry.state == "available":
                        await self._give(entry)
        finally:
            self._trying = None


def _preference(model: ModelEntry) -> tuple[bool, str]:
    features = model.specification.features if model.specification is not None else frozenset()
    return "chat_template" not in features, model.id
