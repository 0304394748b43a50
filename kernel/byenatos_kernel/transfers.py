"""The conversations of a slot on their way from one unit to another, each at the best level that the pair allows."""

import logging
from collections.abc import Collection

import msgspec

from byenatos_kernel.endings import Endings
from byenatos_kernel.moves import Copied, Route
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_moves import SessionMoves
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["BETWEEN_TURNS", "Copies", "Transfers"]

BETWEEN_TURNS = frozenset({"session_aware", "background"})
"""Strategies in which each conversation moves between its own turns, behind the switch."""

log = logging.getLogger("byenatos")


class Copies:
    """What was made ready ahead of a switch.

    The way that warm state goes (``None``: everything goes by text) and the ``streams`` that are copied; the
    ``sessions`` that are worth moving behind the switch.
    """

    def __init__(self, route: Route | None, streams: dict[Stream, Copied], sessions: Collection[str] = ()) -> None:
        self.route = route
        self.streams = streams
        self.sessions = sessions


class Transfers:
    """Copies what can be copied before a switch, and moves it behind the switch."""

    def __init__(
        self, switchboard: Switchboard, routes: Routes, states: SessionStates | None, endings: Endings
    ) -> None:
        self._switchboard = switchboard
        self._states = states
        self._sessions = SessionMoves(switchboard, routes, states, endings)

    async def ahead(self, swap: Swap, source: Unit | None, target: Unit, lately_s: float = 3600.0) -> Copies:
        """While the old still serves: give the target the state of what runs and of idle sessions, if it can read it.

        Whatever cannot be copied moves by text, as between any two models; what moves between its turns is left alone.
        ``lately_s``: conversations in which something was said within that time are worth being read ahead.
        """
        old = source.ready if source is not None else None
        new = target.ready
        sessions = await self._sessions.candidates(swap.event.slot, old, new, lately_s)
        if old is None or new is None or old.model.id != new.model.id or swap.request.strategy in BETWEEN_TURNS:
            return Copies(None, {}, sessions)
        moves = self._switchboard.moves
        try:
            route = await moves.route(old, new)
        except ByenatosError as error:
            log.debug("swap %d moves by text: %s", swap.event.id, error.message)
            return Copies(None, {}, sessions)
        if self._states is not None:
            for move in await self._states.move_idle(route):
                swap.note_move(move)
        copied: dict[Stream, Copied] = {}
        if swap.request.strategy == "immediate":
            for stream in [one for one in old.streams.values() if one.slot == swap.event.slot and not one.parts]:
                try:
                    copied[stream] = await moves.pre_copy(stream, route)
                except ByenatosError as error:
                    log.debug("stream %d moves by text: %s", stream.id, error.message)
        return Copies(route, copied)

    def take_over(self, swap: Swap, slot: Slot, left: Unit, target: Unit, copies: Copies) -> tuple[int, int]:
        """Right at the switch: bring along what waits, and what moves at once; return how many moved, and stayed.

        The old unit is reserved until :meth:`finish` is over.
        """
        left.slots.add(swap.reservation)
        self._switchboard.take_over(slot.name, left, target, running=False)
        if swap.request.strategy in BETWEEN_TURNS:
            self._sessions.stay(slot, left, copies.sessions)
        if left.instance is None:
            return 0, 0
        moved = 0
        if swap.request.strategy == "immediate":
            for stream in [one for one in left.instance.streams.values() if one.slot == slot.name]:
                if stream not in copies.streams and self._switchboard.move_by_text(stream, target, "swap"):
                    moved += 1
        return moved, len(left.instance.streams)

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

    async def finish(self, swap: Swap, slot: Slot, left: Unit, copies: Copies) -> None:
        """Behind all that: move the conversations that nobody answers just now, or have them read ahead.

        The old unit is there until this is over.
        """
        try:
            if swap.request.strategy in BETWEEN_TURNS:
                await self._sessions.bring(swap, slot, left, cut=lambda stream: self._cut(stream, slot))
            elif copies.route is None:
                await self._sessions.read_ahead(swap, slot, left.ready, copies.sessions)
        finally:
            left.slots.discard(swap.reservation)

    def abandon(self, copies: Copies) -> None:
        """The switch does not come: have the target forget what it was given."""
        if copies.route is not None:
            for copied in copies.streams.values():
                self._switchboard.moves.abandon(copied, copies.route)

    def _cut(self, stream: Stream, slot: Slot) -> None:
        """Move an answer that took too long to what its slot is bound to."""
        if slot.unit is not None and stream.instance is not None and stream.instance is not slot.unit.instance:
            self._switchboard.move_by_text(stream, slot.unit, "swap")
