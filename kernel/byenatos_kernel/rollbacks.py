"""The way back of a swap: its slot is bound to the old unit again, and what runs at the new one follows.

It is a switch like the one before, by one assignment in the event loop, and what it moves goes by the same means.
"""

import asyncio
from collections.abc import Callable

import msgspec

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.measurements import Measurements
from byenatos_kernel.probation import Probation, Probations
from byenatos_kernel.routes import Routes
from byenatos_kernel.swap_notes import SwapNotes
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.transfers import Transfers
from byenatos_sdk.protocol.messages import SwapRequest, SwapState

__all__ = ["Rollbacks"]

AS_ASKED = "as asked for"
"""Why a slot went back, if nothing was wrong."""


class Rollbacks:
    """Takes swaps back that their ``probations`` do not pass, or that somebody asks for.

    ``on_rolled_back`` is told of a slot that went back by itself, and why.
    """

    def __init__(
        self,
        drivers: DriverManager,
        routes: Routes,
        switchboard: Switchboard,
        transfers: Transfers,
        notes: SwapNotes,
        policy: Callable[[], SwapPolicy],
        measurements: Measurements,
    ) -> None:
        self.probations = Probations(drivers, measurements, policy, self._turn_back)
        self.on_rolled_back: Callable[[Probation, str], None] = lambda _probation, _reason: None
        self._drivers = drivers
        self._routes = routes
        self._switchboard = switchboard
        self._transfers = transfers
        self._notes = notes
        self._policy = policy

    def back(self, slot: str) -> Swap:
        """Go back on somebody's word; return the swap, which ends once all is at the old unit again.

        Raises:
            InvalidRequest: nothing is kept.
            Unavailable: what is kept cannot serve just now.
        """
        return self.probations.roll_back(slot, AS_ASKED).swap

    def _turn_back(self, probation: Probation, reason: str) -> None:
        """Draining -> rolled back: the one assignment, as in a switch. What runs at the new unit follows."""
        swap, slot = probation.swap, probation.slot
        self._routes.bind(slot, probation.kept)
        swap.advance(SwapState.ROLLED_BACK, detail=reason)
        probation.recorded = asyncio.get_running_loop().create_task(self._notes.record(swap))
        for session in self._routes.homes.at(probation.kept, slot.name):
            self._routes.homes.leave(session)
        self._switchboard.take_waiting(slot.name, probation.target, probation.kept)
        self._notes.announce(swap)
        if reason != AS_ASKED:
            self.on_rolled_back(probation, reason)

    async def bring_back(self, probation: Probation, moving: asyncio.Task[None] | None) -> None:
        """After the slot is bound to the old unit again: bring back what runs at the new one.

        What is still ``moving`` there stops.
        """
        swap, slot, kept, target = probation.swap, probation.slot, probation.kept, probation.target
        if moving is not None:
            moving.cancel()
            await asyncio.wait({moving})
        if probation.recorded is not None:
            await probation.recorded
        way = Swap(swap.event.id, SwapRequest(slot.name, kept.model.id, "immediate"), target.model.id)
        copies = await self._transfers.ahead(way, target, kept, self._policy().swap.live_session_s)
        if slot.unit is kept:
            moved, _ = self._transfers.take_over(way, slot, target, kept, copies)
            way.event = msgspec.structs.replace(way.event, moved_streams=moved)
            await self._transfers.behind(way, kept, copies)
            self._transfers.settle(copies)
            await self._transfers.finish(way, slot, target, copies)
        else:  # it was swapped again meanwhile: what runs at the new unit ends there
            self._transfers.abandon(copies)
        self.probations.let_go(probation)
        self._drivers.release(target)
        event = way.event
        swap.event = msgspec.structs.replace(
            swap.event, moved_streams=event.moved_streams, warm_streams=event.warm_streams
        )
        await self._notes.record(swap)
