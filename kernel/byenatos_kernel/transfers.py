"""The conversations of a slot on their way from one unit to another, each at the best level that the pair allows."""

import asyncio
import logging
from collections.abc import Collection

import msgspec

from byenatos_kernel.endings import Endings
from byenatos_kernel.levels import reading_level
from byenatos_kernel.moves import Copied, Route
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_moves import SessionMoves
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.text_moves import Reading
from byenatos_kernel.trials import Trial
from byenatos_kernel.units import Unit
from byenatos_kernel.warm import arena_of
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import SessionMove

__all__ = ["BETWEEN_TURNS", "Copies", "Transfers", "running_at"]

BETWEEN_TURNS = frozenset({"session_aware", "background"})
"""Strategies in which each conversation moves between its own turns, behind the switch."""

READ_S = 60.0
"""How long a target reads running answers before they are moved as they are."""

log = logging.getLogger("byenatos")


class Copies:
    """What was made ready ahead of a switch.

    The way that warm state goes (``None``: everything goes by text) and the ``streams`` that are copied; the
    ``sessions`` that are worth moving behind the switch. From the switch on: what the target is to read before it moves
    (``unread``), and what has moved by text and may still go back (``trials``).
    """

    def __init__(self, route: Route | None, streams: dict[Stream, Copied], sessions: Collection[str] = ()) -> None:
        self.route = route
        self.streams = streams
        self.sessions = sessions
        self.unread: list[Stream] = []
        self.trials: dict[Trial, SessionMove] = {}


def running_at(unit: Unit, slot: Slot) -> int:
    """How many requests of a slot are being answered at a unit, which may serve others as well."""
    return (
        sum(stream.slot == slot.name for stream in unit.instance.streams.values()) if unit.instance is not None else 0
    )


class Transfers:
    """Copies what can be copied before a switch, and moves it behind the switch."""

    def __init__(
        self, switchboard: Switchboard, routes: Routes, states: SessionStates | None, endings: Endings
    ) -> None:
        self._switchboard = switchboard
        self._states = states
        self._loop = asyncio.get_running_loop()
        self.sessions = SessionMoves(switchboard, routes, states, endings)

    async def ahead(self, swap: Swap, source: Unit | None, target: Unit, lately_s: float) -> Copies:
        """While the old still serves: give the target the state of what runs and of idle sessions, if it can read it.

        Whatever cannot be copied moves by text, as between any two models; what moves between its turns is left alone.
        ``lately_s``: conversations in which something was said within that time are worth being read ahead.
        """
        old = source.ready if source is not None else None
        new = target.ready
        sessions = await self.sessions.candidates(swap.event.slot, old, new, lately_s)
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
            for stream in [one for one in old.streams.values() if one.slot == swap.event.slot and not one.bound]:
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
        self._switchboard.take_waiting(slot.name, left, target)
        if swap.request.strategy in BETWEEN_TURNS:
            self.sessions.stay(slot, left, copies.sessions)
        if left.instance is None:
            return 0, 0
        if swap.request.strategy == "immediate":
            new = target.ready
            running = [one for one in left.instance.streams.values() if one.slot == slot.name]
            others = [one for one in running if one not in copies.streams]
            if new is not None and arena_of(new) is not None:
                copies.unread = sorted(others, key=lambda stream: stream.body_bytes + stream.total)
            else:
                for stream in others:
                    self._cut_over(swap, stream, target, copies)
        return len(copies.trials), running_at(left, slot)

    async def behind(self, swap: Swap, target: Unit, copies: Copies) -> None:
        """After the switch: move what runs and goes on at the old instance, one answer after the other.

        What was copied goes with its state; all else goes by text, which the new instance reads before if it can.
        """
        moved, warm, route = swap.event.moved_streams, 0, copies.route
        for stream, copied in copies.streams.items():
            assert route is not None
            if await self._switchboard.moves.cut_over(copied, route, "swap"):
                warm += 1
                exact = "" if route.exact else "not exact"
                swap.note_move(
                    SessionMove(stream.session or "", "kv", copied.given, copied.size, copied.pause_s, exact)
                )
            elif stream.instance is route.source and self._cut_over(swap, stream, target, copies):
                moved += 1
        deadline = self._loop.time() + READ_S
        for stream in copies.unread:
            moved += await self._read_and_cut_over(swap, stream, target, copies, deadline)
        if not (copies.streams or copies.unread):
            return
        exact = "" if route is None or route.exact else ", not exact: another arithmetic"
        swap.event = msgspec.structs.replace(
            swap.event,
            moved_streams=moved + warm,
            warm_streams=warm,
            detail=f"{warm} with their state{exact}" if warm else swap.event.detail,
        )

    async def _read_and_cut_over(
        self, swap: Swap, stream: Stream, target: Unit, copies: Copies, deadline: float
    ) -> bool:
        """Have the target read an answer while it goes on, until ``deadline``; then move it, if it still runs there."""
        source, number, reading = stream.instance, stream.id, None
        try:
            async with asyncio.timeout_at(deadline):
                if target.ready is not None:
                    reading = await self._switchboard.text_moves.read_along(stream, target.ready)
        except (ByenatosError, TimeoutError) as error:
            log.debug("stream %d is read when it has moved: %s", number, error)
        if source is None or stream.instance is not source or stream.id != number:
            return False
        return self._cut_over(swap, stream, target, copies, reading)

    def _cut_over(
        self, swap: Swap, stream: Stream, target: Unit, copies: Copies, reading: Reading | None = None
    ) -> bool:
        """Move a running answer by text; return whether that can be done."""
        source = stream.instance
        trial = self._switchboard.move_by_text(stream, target, "swap", reading) if target.ready is not None else None
        if trial is None:
            why = "a tool call is out" if stream.bound else f"{target.model.id} was lost"
            swap.note_move(SessionMove(stream.session or "", "drain", detail=why))
            return False
        level = reading_level(source, target.ready)
        copies.trials[trial] = SessionMove(stream.session or "", level, reading.positions if reading else 0)
        return True

    async def finish(self, swap: Swap, slot: Slot, left: Unit, copies: Copies) -> None:
        """Behind all that: move the conversations that nobody answers just now, or have them read ahead.

        The old unit is there until this is over.
        """
        try:
            await self._prove(swap, copies)
            if swap.request.strategy in BETWEEN_TURNS:
                await self.sessions.bring(swap, slot, left, cut=lambda stream: self._cut(stream, slot))
            elif copies.route is None:
                await self.sessions.read_ahead(swap, slot, left.ready, copies.sessions)
        finally:
            left.slots.discard(swap.reservation)

    def settle(self, copies: Copies) -> None:
        """There is no way back for what moved: where it came from is what failed."""
        for trial in copies.trials:
            trial.end()

    async def _prove(self, swap: Swap, copies: Copies) -> None:
        """Wait until what moved by text has said a word at the target, or gone back: then it is known what it cost."""
        for trial, move in copies.trials.items():
            await trial.over
            if trial.failure is None:
                swap.note_move(msgspec.structs.replace(move, pause_s=round(trial.pause_s, 6)))
                continue
            swap.note_move(msgspec.structs.replace(move, level="drain", detail=trial.failure.message))
            swap.event = msgspec.structs.replace(swap.event, moved_streams=max(swap.event.moved_streams - 1, 0))

    def abandon(self, copies: Copies) -> None:
        """The switch does not come: have the target forget what it was given."""
        if copies.route is not None:
            for copied in copies.streams.values():
                self._switchboard.moves.abandon(copied, copies.route)

    def _cut(self, stream: Stream, slot: Slot) -> None:
        """Move an answer that took too long to what its slot is bound to."""
        if slot.unit is not None and stream.instance is not None and stream.instance is not slot.unit.instance:
            self._switchboard.move_by_text(stream, slot.unit, "swap")
