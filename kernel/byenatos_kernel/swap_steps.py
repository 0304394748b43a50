"""The steps of a swap, one method per arrow of the table in ``swaps.py``; the essay stands in ``hotswap.py``."""

import asyncio
from collections.abc import Callable, Collection

import msgspec

from byenatos_kernel.database import Database
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.endings import Endings
from byenatos_kernel.hearsay import shortened
from byenatos_kernel.instances import Instance
from byenatos_kernel.measurements import Measurements
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.rollbacks import Rollbacks
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.self_test import self_test
from byenatos_kernel.sequential import Sequential
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.suitability import Suitability
from byenatos_kernel.swap_journal import SwapJournal
from byenatos_kernel.swap_notes import SwapNotes
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.transfers import Copies, Transfers, running_at
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import Event
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded, Unavailable
from byenatos_sdk.protocol.frames import UNREADABLE
from byenatos_sdk.protocol.messages import ModelHealthStatus, SwapState

__all__ = ["SwapSteps"]

_decode_health = msgspec.msgpack.Decoder(ModelHealthStatus).decode


class SwapSteps:
    """Takes swaps from ``requested`` to their end. ``forget`` is called when a slot is not being swapped any more."""

    def __init__(
        self,
        database: Database,
        registry: ModelRegistry,
        drivers: DriverManager,
        routes: Routes,
        switchboard: Switchboard,
        publish: Callable[[Event], None],
        policy: Callable[[], SwapPolicy],
        states: SessionStates | None,
        *,
        measurements: Measurements,
        forget: Callable[[Swap, Slot], None],
    ) -> None:
        self.journal = SwapJournal(database)
        self.notes = SwapNotes(self.journal, publish)
        self._endings = Endings(switchboard)
        self.transfers = Transfers(switchboard, routes, states, self._endings)
        self.sequential = Sequential(drivers, routes, switchboard, policy, self.notes.announce, states)
        self.rollbacks = Rollbacks(drivers, routes, switchboard, self.transfers, self.notes, policy, measurements)
        self._suitability = Suitability(switchboard, policy)
        self._registry = registry
        self._drivers = drivers
        self._routes = routes
        self._switchboard = switchboard
        self._policy = policy
        self._forget = forget

    async def run(self, swap: Swap, slot: Slot) -> None:
        """Take a swap through its states, one arrow after the other."""
        target: Unit | None = None
        try:
            await self.notes.note(swap, slot)
            target = await self._validate(swap, slot)
            await self.notes.note(swap, slot)
            if target is None:
                await self._until_idle(swap, slot)
                target = await self.sequential.exchange(swap, slot, self._registry.model(swap.request.model))
            await self._prepare(swap, slot, target)
            copies = await self._copy_ahead(swap, slot, target)
            left = await self._switch(swap, slot, target, copies)
        except ByenatosError as error:
            self.unreserve(swap)
            await self.sequential.restore(swap, slot, target, error)
            self._forget(swap, slot)
            swap.advance(SwapState.FAILED, detail=error.message)
            try:
                await self.notes.note(swap)
            finally:
                for future in (swap.switched, swap.ended):
                    future.set_exception(error)
                    future.exception()
            return
        await self.transfers.behind(swap, target, copies)
        self._forget(swap, slot)
        swap.switched.set_result(None)
        moving = None
        if left is not None:
            moving = asyncio.get_running_loop().create_task(self._finish(swap, slot, left, copies))
        await self._drain(swap, slot, left, moving)
        if swap.event.state is SwapState.ROLLED_BACK:
            swap.ended.set_exception(Unavailable(f"swap {swap.event.id} was rolled back: {swap.event.detail}"))
            swap.ended.exception()
        else:
            swap.ended.set_result(None)

    async def try_out(self, unit: Unit) -> Instance:
        """Wait until a unit is loaded, says that it is well, and has shown that it can answer; return its instance.

        Raises:
            ByenatosError: why nothing should count on it.
        """
        instance = await unit.until_ready()
        await _check_health(instance)
        await self_test(instance, self._switchboard.reserve())
        return instance

    def unreserve(self, swap: Swap, but: Unit | None = None) -> None:
        """The swap needs none of the units any more that it kept; they go, ``but`` one, unless somebody else does."""
        for unit in [unit for unit in self._drivers.units if swap.reservation in unit.slots]:
            unit.slots.discard(swap.reservation)
            if unit is not but:
                self._drivers.release(unit)

    # ---- the arrows --------------------------------------------------------------------------------------------

    async def _validate(self, swap: Swap, slot: Slot) -> Unit | None:
        """Requested -> validated: the target is known, suits the slot, and there is room for it.

        Starts it or joins one that runs; nothing if the old one has to leave first.
        """
        model = self._registry.model(swap.request.model)
        self._registry.plugin_for(model)
        swap.forced = await self._suitability.check(swap.request, slot, model, self._drivers.find(model.id))
        target = self._running(model, slot, swap.avoid)
        if target is None:
            background = swap.request.strategy == "background"
            self.rollbacks.probations.end(slot.name)
            try:
                await self._drivers.room.make(model, overlap=1)
                target = self._running(model, slot, swap.avoid) or self._drivers.load(
                    model, overlap=1, background=background
                )
            except Overloaded as lack:
                self.sequential.plan(swap, slot, model, lack)
        if target is not None:
            target.slots.add(swap.reservation)
            self.rollbacks.probations.end(slot.name)
        swap.advance(SwapState.VALIDATED, detail=swap.forced)
        return target

    def _running(self, model: ModelEntry, slot: Slot, avoid: Collection[Unit]) -> Unit | None:
        """The unit of a model that a slot can be swapped to as it is; a dead one makes way."""
        running = self._drivers.living(model.id, but=avoid)
        return None if running is slot.unit else running

    async def _prepare(self, swap: Swap, slot: Slot, target: Unit) -> None:
        """Validated -> preparing -> prepared: the target is loaded and says that it is well."""
        swap.advance(SwapState.PREPARING)
        await self.notes.note(swap, slot)
        await swap.unless_given_up(self.try_out(target))
        swap.advance(SwapState.PREPARED)
        await self.notes.note(swap, slot)

    async def _copy_ahead(self, swap: Swap, slot: Slot, target: Unit) -> Copies:
        """Copy what can be copied while the old unit serves; ``background`` waits here until the slot is idle.

        When this returns for such a swap, the slot is idle, and nothing was awaited since.
        """
        background = swap.request.strategy == "background" and swap.event.mode == "overlap"
        while True:
            if background:
                await self._until_idle(swap, slot)
                await swap.unless_given_up(target.until_ready())  # it may have died while it waited
            copies = await self.transfers.ahead(swap, slot.unit, target, self._policy().swap.live_session_s)
            if not background or self._endings.idle(slot.name):
                return copies

    async def _until_idle(self, swap: Swap, slot: Slot) -> None:
        """A ``background`` swap disturbs nobody: wait until nothing of the slot runs or waits."""
        while swap.request.strategy == "background" and not self._endings.idle(slot.name):
            await swap.unless_given_up(self._endings.next())

    async def _switch(self, swap: Swap, slot: Slot, target: Unit, copies: Copies) -> Unit | None:
        """Prepared -> switched: the one assignment, and the move of the streams.

        Those that move with their state go on at the old instance, as in a graceful swap, until it is their turn.
        """
        if swap.given_up.done() or target.ready is None:
            self.transfers.abandon(copies)
            swap.check()
            raise Unavailable(f"{target.model.id} was lost just before the switch")
        left = self._routes.bind(slot, target)
        self.rollbacks.probations.begin(swap, slot, left, target)
        self.unreserve(swap, left)
        moved = stayed = 0
        if left is not None:
            moved, stayed = self.transfers.take_over(swap, slot, left, target, copies)
        moved += self.sequential.serve(swap, slot, target)
        swap.advance(SwapState.SWITCHED, moved=moved, draining=stayed)
        slot.swap = swap.event
        swap.bound = slot
        self.notes.announce(swap)
        try:
            await self.journal.record(swap)
        except ByenatosError as error:
            # The switch stands; only its record is missing. The next steps try again.
            swap.event = msgspec.structs.replace(swap.event, detail=f"not recorded: {error.message}")
        return left

    async def _finish(self, swap: Swap, slot: Slot, left: Unit, copies: Copies) -> None:
        """Move what moves behind the switch, and tell what it cost: while the old unit is kept, no step soon does."""
        before = swap.event.sessions
        await self.transfers.finish(swap, slot, left, copies)
        kept = self.rollbacks.probations.of(swap, slot) is not None
        if kept and swap.event.state is SwapState.DRAINING and swap.event.sessions != before:
            await self.notes.note(swap)

    async def _drain(self, swap: Swap, slot: Slot, left: Unit | None, moving: asyncio.Task[None] | None) -> None:
        """Switched -> draining -> retired: the old unit goes once nothing needs it, not even as the way back."""
        probation = self.rollbacks.probations.of(swap, slot)
        kept = probation.sentence if probation is not None else ""
        said = swap.event.detail
        detail = "; ".join(filter(None, (said, kept)))
        draining = running_at(left, slot) if left is not None else 0
        swap.advance(SwapState.DRAINING, detail=detail, draining=draining)
        if probation is not None:
            self.rollbacks.probations.judge(probation)
        await self.notes.note(swap)
        if probation is not None and await probation.verdict:
            await self.rollbacks.bring_back(probation, moving)
            return
        if moving is not None:
            await asyncio.wait({moving})
        if kept:
            swap.event = msgspec.structs.replace(swap.event, detail=swap.event.detail.replace(detail, said))
        if left is not None and not left.wanted:
            self._drivers.release(left)
            await left.gone.wait()
        swap.advance(SwapState.RETIRED)
        self._registry.forget_removed()
        await self.notes.note(swap)


async def _check_health(instance: Instance) -> None:
    """Raise unless the instance answers that it can serve."""
    try:
        health = _decode_health(await instance.call("health"))
    except UNREADABLE as error:
        raise Unavailable(f"{instance.model.id} gave no proper answer to how it feels: {error}") from None
    if health.status == "down":
        raise Unavailable(
            f"{instance.model.id} says that it is down: {shortened(health.detail) or 'it does not say why'}"
        )
