"""Stand-ins: the models of a slot's ``degrade_to``, which serve while the slot's own cannot.

They are loaded when they are needed and there is room, and stay for as long as the slot's own model does not serve and
:data:`KEPT_S` longer: what failed once fails again, and loading takes longer than waiting. One that could not be loaded
is left alone for :data:`AGAIN_S`. Where room is needed, an idle one goes at once if its slot's own model serves again,
or is what the room is needed for.
"""

import asyncio
from collections.abc import Callable, Collection

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.routes import Slot
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.units import STANDS_IN, Unit
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["StandIns"]

KEPT_S = 60.0
AGAIN_S = 30.0


class StandIns:
    """Finds a slot's stand-ins, and keeps those that were found."""

    def __init__(self, registry: ModelRegistry, drivers: DriverManager, policy: Callable[[], SwapPolicy]) -> None:
        self._registry = registry
        self._drivers = drivers
        self._policy = policy
        self._kept: dict[tuple[Slot, Unit], asyncio.TimerHandle] = {}
        self._not_before: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    def find(self, slot: Slot, tried: Collection[str], *, load: bool) -> Unit | None:
        """The first of the slot's ``degrade_to`` that serves, or may soon; with ``load`` it is loaded if need be.

        Models in ``tried`` are passed over.
        """
        for model in self._policy().degrade_to(slot.name):
            if model in tried or model == slot.model:
                continue
            unit = self._drivers.find(model)
            if unit is not None and unit.dead:
                self._drivers.drop(unit)
                self._not_before.setdefault(model, self._loop.time() + AGAIN_S)
                unit = None
            if unit is None and load:
                unit = self._load(model)
            if unit is not None and (unit.ready or (load and unit.starting)):
                self._keep(slot, unit)
                return unit
        return None

    def not_needed(self, model: ModelEntry) -> list[Unit]:
        """The idle units that only stand in for slots which are bound to ``model``, or whose own serves again."""
        needed = [unit for slot, unit in self._kept if slot.model != model.id and not _serves(slot)]
        return [
            unit
            for unit in dict.fromkeys(unit for _, unit in self._kept)
            if unit not in needed and not (unit.pinned or unit.busy or unit.waiting or unit.leaving)
            and all(name.startswith(STANDS_IN) for name in unit.slots)
        ]  # fmt: skip

    def close(self) -> None:
        """Look after nothing any more."""
        for timer in self._kept.values():
            timer.cancel()

    # ---- private -----------------------------------------------------------------------------------------------

    def _load(self, model: str) -> Unit | None:
        if self._loop.time() < self._not_before.get(model, 0.0):
            return None
        self._not_before.pop(model, None)
        try:
            return self._drivers.load(self._registry.model(model))
        except ByenatosError:  # it is not known, not usable, or there is no room: the next one may be
            self._not_before[model] = self._loop.time() + AGAIN_S
            return None

    def _keep(self, slot: Slot, unit: Unit) -> None:
        unit.slots.add(_mark(slot))
        timer = self._kept.get((slot, unit))
        if timer is not None:
            timer.cancel()
        self._kept[slot, unit] = self._loop.call_later(KEPT_S, self._look, slot, unit)

    def _look(self, slot: Slot, unit: Unit) -> None:
        """Let a stand-in go whose slot has its own model again."""
        del self._kept[slot, unit]
        if not (unit.dead or unit.leaving or _serves(slot)):
            self._keep(slot, unit)
            return
        unit.slots.discard(_mark(slot))
        self._drivers.release(unit)


def _mark(slot: Slot) -> str:
    """What stands among a unit's slots while it stands in for one."""
    return f"{STANDS_IN}{slot.name})"


def _serves(slot: Slot) -> bool:
    """Whether a slot's own unit does."""
    return slot.unit is not None and slot.unit.ready is not None
