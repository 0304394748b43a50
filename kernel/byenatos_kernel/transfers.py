"""The conversations of a slot on their way from one unit to another, each at the best level that the pair allows."""

import logging

import msgspec

from byenatos_kernel.moves import Copied, Route
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["Copies", "Transfers"]

log = logging.getLogger("byenatos")


class Copies:
    """What was copied ahead of a switch: the streams, and the way that they go (none if all goes by text)."""

    def __init__(self, route: Route | None, streams: dict[Stream, Copied]) -> None:
        self.route = route
        self.streams = streams


class Transfers:
    """Copies what can be copied before a switch, and moves it behind the switch."""

    def __init__(self, switchboard: Switchboard, states: SessionStates | None) -> None:
        self._switchboard = switchboard
        self._states = states

    async def ahead(self, swap: Swap, source: Unit | None, target: Unit) -> Copies:
        """While the old still serves: give the target the state of what runs and of idle sessions, if it can read it.

        Whatever cannot be copied moves by text, as between any two models.
        """
        old = source.ready if source is not None else None
        new = target.ready
        if old is None or new is None or old is new or old.model.id != new.model.id:
            return Copies(None, {})
        moves = self._switchboard.moves
        try:
            route = await moves.route(old, new)
        except ByenatosError as error:
            log.debug("swap %d moves by text: %s", swap.event.id, error.message)
            return Copies(None, {})
        if self._states is not None:
            await self._states.move_idle(route)
        copied: dict[Stream, Copied] = {}
        if swap.request.strategy == "immediate":
            for stream in [one for one in old.streams.values() if one.slot == swap.event.slot and not one.parts]:
                try:
                    copied[stream] = await moves.pre_copy(stream, route)
                except ByenatosError as error:
                    log.debug("stream %d moves by text: %s", stream.id, error.message)
        return Copies(route, copied)

    async def behind(self, swap: Swap, target: Unit, copies: Copies) -> None:
        """After the switch: move what was copied, one after the other; what cannot go with its state goes by text."""
        route = copies.route
        if route is None:
            return
        moved, warm = swap.event.moved_streams, 0
        for stream, copied in copies.streams.items():
            if await self._switchboard.moves.cut_over(copied, route, "swap"):
                warm += 1
            elif stream.instance is route.source and self._switchboard.move_by_text(stream, target, "swap"):
                moved += 1
        exact = "" if route.exact else ", not exact: another arithmetic"
        swap.event = msgspec.structs.replace(
            swap.event,
            moved_streams=moved + warm,
            warm_streams=warm,
            draining_streams=len(route.source.streams),
            detail=f"{warm} with their state{exact}" if warm else swap.event.detail,
        )

    def abandon(self, copies: Copies) -> None:
        """The switch does not come: have the target forget what it was given."""
        if copies.route is not None:
            for copied in copies.streams.values():
                self._switchboard.moves.abandon(copied, copies.route)
