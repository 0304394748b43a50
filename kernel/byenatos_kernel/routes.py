"""Slots and where they lead: the one place that says which unit a request's target means.

A slot's binding is one attribute, so that a switch is one assignment in the event loop: whatever ran before it went to
the old unit, whatever runs after it goes to the new one.
"""

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.homes import Homes
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.slot_queue import SlotQueue
from byenatos_kernel.streams import Stream
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import SlotInfo
from byenatos_sdk.protocol.errors import NotFound, Unavailable
from byenatos_sdk.protocol.messages import SwapEvent

__all__ = ["Routes", "Slot"]


class Slot:
    """A stable name. ``model`` is what it is bound to, ``unit`` what serves that (``None`` until it is loaded).

    ``stand_in`` is the last unit to which a request went that this one could not serve. ``trouble`` says which request
    it failed last, until it has answered another. While it has a ``queue``, a sequential swap is under way, and its
    requests wait in that. A ``crowded`` one is not served because there was no room for its model.
    """

    __slots__ = ("configured", "crowded", "detail", "model", "name", "queue", "stand_in", "swap", "trouble", "unit")

    def __init__(self, name: str, model: str, configured: str) -> None:
        self.name = name
        self.model = model
        self.configured = configured
        self.unit: Unit | None = None
        self.stand_in: Unit | None = None
        self.swap: SwapEvent | None = None
        self.queue: SlotQueue | None = None
        self.detail = ""
        self.trouble = ""
        self.crowded = False

    @property
    def unserved(self) -> bool:
        """Whether nothing serves the slot and nothing ever will, unless a unit is bound to it."""
        return self.queue is None and (self.unit is None or self.unit.dead)

    @property
    def info(self) -> SlotInfo:
        """The slot as clients see it."""
        unit = self.unit
        epochs: tuple[int, ...] = ()
        streams = 0
        detail = self.detail
        waiting = sum(stream.slot == self.name for stream in unit.waiting) if unit is not None else 0
        if self.queue is not None:
            state = "loading"
            waiting += len(self.queue)
            detail = self.swap.detail if self.swap is not None else detail
        elif not self.model:
            state = "empty"
        elif unit is None or unit.dead:
            state = "unavailable"
            detail = unit.error.message if unit is not None and unit.error is not None else detail
        elif unit.ready:
            state = "ready"
            detail = detail or self.trouble
        elif unit.restarts:
            state = "degraded"
            detail = f"{unit.model.id} {unit.last_failure}"
        else:
            state = "loading"
        stand_in = self.stand_in
        if state not in {"ready", "empty"} and stand_in is not None and stand_in.ready is not None:
            state = "degraded"
            detail = f"{detail or f'{self.model} is not there'}; degraded to {stand_in.model.id}"
        if unit is not None and unit.instance is not None:
            epochs = (unit.instance.epoch,)
            streams = len(unit.instance.streams)
        return SlotInfo(
            self.name,
            self.model,
            state,  # type: ignore[arg-type]
            epochs,
            streams,
            self.swap,
            detail,
            waiting,
        )


class Routes:
    """All slots, and the way from a request's target to a unit."""

    def __init__(self, drivers: DriverManager, registry: ModelRegistry) -> None:
        self.slots: dict[str, Slot] = {}
        self.homes = Homes()
        self._drivers = drivers
        self._registry = registry

    def resolve(self, target: str) -> tuple[Unit, str | None]:
        """Find the unit that ``target`` means, and the slot's name if it is a slot.

        Raises:
            NotFound: neither a slot nor a model has this name.
            Unavailable: it is known but nothing is loaded for it.
        """
        slot = self.slots.get(target)
        if slot is not None:
            if slot.unit is not None:
                return slot.unit, target
            if not slot.model:
                raise Unavailable(
                    f"slot {target!r} is empty; drop a model file into {self._registry.folder} or run "
                    f"`byenatos swap {target} MODEL`"
                )
            raise Unavailable(f"slot {target!r}: {slot.model} is not loaded: {slot.detail}")
        unit = self._drivers.find(target)
        if unit is not None:
            return unit, None
        if target in self._registry.models:
            self._registry.model(target)
            raise Unavailable(f"{target} is not loaded; `byenatos models load {target}` loads it")
        raise NotFound(f"no slot or model {target!r:.200}; slots are {', '.join(sorted(self.slots)) or 'none'}")

    def resolve_turn(self, target: str, session: str | None) -> tuple[Unit, str | None]:
        """Like :meth:`resolve`, for a turn of ``session``: at the conversation's home, if it has one.

        Raises:
            NotFound, Unavailable: as :meth:`resolve`.
        """
        home = self.homes.find(session, target) if session is not None else None
        return (home.unit, target) if home is not None else self.resolve(target)

    def awaited(self, slot: Slot) -> bool:
        """Whether a slot has no model, or one that is still being looked at and is loaded in a moment."""
        entry = self._registry.models.get(slot.model)
        return not slot.model or (entry is not None and entry.state in {"copying", "checking"})

    def slot_of(self, stream: Stream) -> Slot | None:
        """The slot that a stream addresses; ``None`` if that is a model, or the slot is gone."""
        return self.slots.get(stream.slot) if stream.slot is not None else None

    def bound_to(self, model: str) -> tuple[str, ...]:
        """The names of the slots that are bound to ``model``."""
        return tuple(sorted(slot.name for slot in self.slots.values() if slot.model == model))

    def bind(self, slot: Slot, unit: Unit) -> Unit | None:
        """Point ``slot`` at ``unit``; return the unit it left."""
        left = slot.unit
        if left is not None:
            left.slots.discard(slot.name)
        slot.unit = unit
        slot.stand_in = None
        slot.trouble = ""
        slot.model = unit.model.id
        slot.detail = ""
        slot.crowded = False
        unit.slots.add(slot.name)
        for other in self.slots.values():
            if other.model == unit.model.id and other.unit is not None and other.unserved:
                self.bind(other, unit)  # its unit died for good; this one serves the same model
        return left if left is not unit else None
