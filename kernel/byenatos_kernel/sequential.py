"""Sequential swaps: where there is room for one of two models only, the old one leaves before the new one comes.

The order of things, and what is true in between::

    plan       the old unit serves this slot and nothing else, and without it there is room        (nothing is touched)
    exchange   the slot has a queue: from here on its requests wait in it instead of being placed
               what runs ends on the old unit (graceful), or stops at a token boundary and waits, too (immediate)
               the old unit goes, and with it the templates that held its memory; then the target is loaded
    serve      behind the switch, in the same turn of the loop: the queue goes to the target, in order, and is over
    restore    instead, if anything failed: the target goes, the old model is loaded again, and the queue goes to it

The binding stays the old model's until the switch, on disk as well: a kernel that dies in the middle serves the old
model when it is started again. What waits keeps its deadline, may be cancelled, and hears of neither model until one
answers. If the old model cannot be loaded again either, what waits ends with an error that says both reasons.

While the room is being made it is claimed (``DriverManager.claims``): whoever else loads something would take it.
"""

import time
from collections.abc import Callable

import msgspec

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.room import IN_CASE
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.slot_queue import SlotQueue
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded, Unavailable

__all__ = ["Sequential"]

HIBERNATE_S = 5.0
"""How long idle sessions are hibernated for before the old model leaves, at most."""


class Sequential:
    """Does what an overlapping swap need not: ``announce`` tells of a swap that has come further in the same state."""

    def __init__(
        self,
        drivers: DriverManager,
        routes: Routes,
        switchboard: Switchboard,
        policy: Callable[[], SwapPolicy],
        announce: Callable[[Swap], None],
        states: SessionStates | None,
    ) -> None:
        self._drivers = drivers
        self._routes = routes
        self._switchboard = switchboard
        self._policy = policy
        self._announce = announce
        self._states = states

    def plan(self, swap: Swap, slot: Slot, model: ModelEntry, lack: Overloaded) -> None:
        """Choose this mode for a swap to ``model``, for which there is no room now.

        Raises:
            Overloaded: with what lacks, and why the old model cannot make room for it.
        """
        self._leaver(slot, model, lack.message)
        swap.event = msgspec.structs.replace(swap.event, mode="sequential")

    async def exchange(self, swap: Swap, slot: Slot, model: ModelEntry) -> Unit:
        """Have the slot's requests wait, let its old unit go, and start one of ``model`` in its place.

        Raises:
            ByenatosError: it cannot be; :meth:`restore` brings the old model back.
        """
        old = self._leaver(slot, model)
        await self._drivers.room.make(model, overlap=1, patient=True, without=[old])  # before anybody has to wait
        if self._states is not None and old.ready is not None:
            await self._states.hibernate_all(old.ready, HIBERNATE_S)
        swap.check()  # up to here nothing was touched
        old = self._leaver(slot, model)
        slot.queue = swap.queue = SlotQueue(slot.name, model.id, self._policy().queue.most)
        running = self._switchboard.hold_back(slot.name, old, running=swap.request.strategy == "immediate")
        old.slots.clear()  # what is left is this slot, and those who keep it in case
        self._drivers.release(old)
        self._tell(
            swap, slot, f"{old.model.id} leaves first" + (f"; still running there: {running}" if running else "")
        )
        self._drivers.room.claims.append(model)
        try:
            await swap.unless_given_up(old.gone.wait())
            self._tell(swap, slot, f"{old.model.id} is gone; {len(slot.queue)} requests wait")
            target = await self._drivers.obtain(model, but=swap.avoid, overlap=1, patient=True)
        finally:
            self._drivers.room.claims.remove(model)
        target.slots.add(swap.reservation)
        return target

    def serve(self, swap: Swap, slot: Slot, unit: Unit) -> int:
        """Give what waits to the ``unit`` that the slot is bound to now; return how many of that had run before."""
        queue, slot.queue = slot.queue, None
        if queue is None:
            return 0
        waited, moved = self._switchboard.serve(queue.end(), unit)
        self._say(swap, f"{waited} requests waited")
        return moved

    async def restore(self, swap: Swap, slot: Slot, target: Unit | None, error: ByenatosError) -> None:
        """The swap failed: if the old model has left for it, load that again and let it serve what waits."""
        if slot.queue is None or slot.queue is not swap.queue or slot.unit is None:
            return
        model, plugin = slot.unit.model, slot.unit.plugin
        self._drivers.room.claims.append(model)
        try:
            if target is not None and target.leaving:
                await target.gone.wait()
            unit = await self._drivers.obtain(model, overlap=1, patient=True, supervised=True, plugin=plugin)
        except ByenatosError as second:
            slot.crowded = isinstance(second, Overloaded)
            self.give_up(
                slot, Unavailable(f"{error.message}; {model.id} cannot be loaded again either: {second.message}")
            )
        else:
            self._routes.bind(slot, unit)
            self.serve(swap, slot, unit)
        finally:
            self._drivers.room.claims.remove(model)

    def give_up(self, slot: Slot, error: ByenatosError) -> None:
        """Nothing will serve the slot: end what waits for it."""
        queue, slot.queue = slot.queue, None
        if queue is not None:
            slot.detail = error.message
            for stream in queue.end():
                self._switchboard.fail(stream, error)

    # ---- private -----------------------------------------------------------------------------------------------

    def _leaver(self, slot: Slot, model: ModelEntry, lack: str = "") -> Unit:
        """The unit that can make room for ``model`` by leaving; raises what lacks, and why there is none."""
        old = slot.unit
        lack = lack or self._drivers.room.lack(model, overlap=1)
        if old is None or old.dead or old.leaving:
            raise Overloaded(lack or f"{slot.model} has been lost; the slot can be swapped at once now")
        others = sorted(name for name in old.slots - {slot.name} if not name.startswith(IN_CASE))
        if old.pinned or others:
            by = f"slot {', '.join(others)} needs" if others else "an operator loaded"
            raise Overloaded(f"{lack}. {old.model.id} cannot leave first: {by} it as well")
        gone = [old, *(unit for unit in self._drivers.units if unit.leaving), *self._drivers.room.evictable(model)]
        if left := self._drivers.room.lack(model, overlap=1, without=gone):
            raise Overloaded(f"even without {old.model.id}: {left}")
        return old

    def _tell(self, swap: Swap, slot: Slot, detail: str) -> None:
        self._say(swap, detail)
        now, elapsed_s = time.time(), round(time.monotonic() - swap.started, 6)
        slot.swap = swap.event = msgspec.structs.replace(swap.event, at=now, elapsed_s=elapsed_s)
        self._announce(swap)

    @staticmethod
    def _say(swap: Swap, detail: str) -> None:
        said = "; ".join(part for part in (swap.forced, detail) if part)
        swap.event = msgspec.structs.replace(swap.event, detail=said)
