"""Conversations that nobody answers just now, on their way from an old unit to what their slot is bound to.

Each moves between two of its turns: with its warm state if the new instance can read that, else the new one reads the
conversation ahead, so that the next turn does not pay for it; a turn that comes meanwhile waits for that. In a
``session_aware`` or ``background`` swap those that have something at the old unit are at home there (``homes.py``)
until it is their turn; one that is being answered is moved when that answer has ended. After any other swap nothing is
at home at the old unit any more, and the latest conversations are only read ahead.

How much is read ahead is bounded: by time, by the context of the new instance, and by the number of conversations that
it can hold (``sequences`` in its specification, less one for those who are new). The latest come first.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from byenatos_kernel.endings import Endings
from byenatos_kernel.instances import Instance
from byenatos_kernel.levels import reading_level
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream
from byenatos_kernel.swaps import Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_kernel.warm import arena_of
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import SessionMove

__all__ = ["Room", "SessionMoves"]

LATEST = 64
"""Conversations of a slot that are looked at, the latest ones."""

BEHIND_S = 300.0
"""How long conversations that are being answered are waited for."""

_DIGITS = 9
"""Of a number that a driver says in words: no more are believed."""

READ_AHEAD_S = 60.0
"""How long conversations are read ahead after a swap, at most."""

log = logging.getLogger("byenatos")


class Room:
    """How many conversations, and how many positions of them, an instance can still read ahead."""

    def __init__(self, target: Instance | None) -> None:
        found = target.specification if target is not None else None
        sequences = found.metadata.get("sequences", "") if found is not None else ""
        known = sequences.isascii() and sequences.isdigit() and len(sequences) <= _DIGITS
        self.sessions = max(int(sequences) - 1, 1) if known else LATEST
        self.positions = found.context_length if found is not None and found.context_length else 1 << 62

    @property
    def left(self) -> bool:
        """Whether there is any."""
        return self.sessions > 0 and self.positions > 0

    def take(self, positions: int) -> None:
        """One of so many positions was read."""
        self.sessions -= 1
        self.positions -= positions


class SessionMoves:
    """Moves conversations between their turns."""

    def __init__(
        self, switchboard: Switchboard, routes: Routes, states: SessionStates | None, endings: Endings
    ) -> None:
        self._switchboard = switchboard
        self._homes = routes.homes
        self._states = states
        self.endings = endings
        self._loop = asyncio.get_running_loop()

    # ---- around a switch -----------------------------------------------------------------------------------------

    async def candidates(
        self, slot: str, source: Instance | None, target: Instance | None, lately_s: float
    ) -> list[str]:
        """The conversations of a slot that are worth moving: what the old instance holds, and the latest.

        Without warm state at either end there are none: whoever answers reads them anyway.
        """
        if self._states is None:
            return []
        held = await self._states.held(source) if source is not None else []
        if target is None or arena_of(target) is None:
            return held
        try:
            latest = await self._switchboard.turns.sessions.recent(slot, time.time() - lately_s, LATEST)
        except ByenatosError as error:
            log.info("the latest conversations of %s are not known: %s", slot, error.message)
            return held
        known = set(latest)
        return [*latest, *(session for session in held if session not in known)]

    def stay(self, slot: Slot, left: Unit, candidates: Collection[str]) -> None:
        """Right at the switch: let conversations be at home at the old unit; those that are being answered there too.

        Those that wait were brought along before.
        """
        instance = left.instance
        if instance is None:
            return
        live = [stream for stream in self._switchboard.live if stream.session is not None]
        answered = [one.session for one in live if one.slot == slot.name and _was_at(one, instance)]
        elsewhere = {one.session for one in live if one.epoch and not _was_at(one, instance)}
        if slot.unit is not None:
            elsewhere |= {one.session for one in slot.unit.waiting}
        staying = [*(one for one in candidates if one not in elsewhere), *(one for one in answered if one is not None)]
        self._homes.stay(staying, slot.name, left)

    async def bring(self, swap: Swap, slot: Slot, left: Unit, *, cut: Callable[[Stream], None]) -> None:
        """Move who is at home at ``left``, one after the other, those that are being answered when that has ended.

        What is still being answered after :data:`BEHIND_S` is cut over in the middle by ``cut``.
        """
        deadline = self._loop.time() + BEHIND_S
        room = Room(slot.unit.ready if slot.unit is not None else None)
        try:
            while home := self._homes.at(left, slot.name):
                idle = next((one for one in home if not self._busy(one, left)), None)
                if idle is not None:
                    await self._homes.settled(idle)  # somebody else may be moving it
                    await self.move(swap, slot, idle, left, room)
                elif not await self.endings.next(deadline):
                    break
        finally:  # also where the slot went back to the old unit meanwhile
            late = self._homes.at(left, slot.name)
            for session in late:
                self._homes.leave(session)
        for stream in [one for one in self._switchboard.live if one.session in late]:
            cut(stream)

    async def read_ahead(self, swap: Swap, slot: Slot, source: Instance | None, candidates: Collection[str]) -> None:
        """Have what the slot is bound to now read conversations, the latest first, as long as there is room."""
        target = slot.unit.ready if slot.unit is not None else None
        if self._states is None or target is None or arena_of(target) is None:
            return
        room = Room(target)
        try:
            async with asyncio.timeout(READ_AHEAD_S):
                for session in candidates:
                    if not room.left or not target.serving or slot.unit is None or slot.unit.ready is not target:
                        break
                    if not self._switchboard.turns.busy(session) and not self._homes.is_moving(session):
                        with self._homes.moving(session):
                            positions = await self._read(session, target, room)
                        if positions:
                            swap.note_move(SessionMove(session, reading_level(source, target), positions))
        except TimeoutError:
            log.info("not all conversations of %s were read ahead within %g s", slot.name, READ_AHEAD_S)

    # ---- one conversation ----------------------------------------------------------------------------------------

    async def move(self, swap: Swap, slot: Slot, session: str, left: Unit, room: Room) -> None:
        """Move one conversation from ``left`` to what its slot is bound to; then it is at home nowhere else."""
        unit = slot.unit
        if unit is left or unit is None:
            self._homes.leave(session)
            return
        with self._homes.moving(session):
            moved = await self.carry(session, left.ready, unit.ready, room)
        if not self._busy(session, left):  # else its turn would not wait any longer: it is moved once that has ended
            self._homes.leave(session)
            swap.note_move(moved)

    async def carry(
        self, session: str, source: Instance | None, target: Instance | None, room: Room | None = None
    ) -> SessionMove:
        """Give ``target`` what ``source`` holds of a conversation, or have it read the conversation; say how."""
        if self._states is not None and source is not None and target is not None:
            try:
                route = await self._switchboard.moves.route(source, target)
                positions, size = await self._states.copy(route, session)
            except ByenatosError as error:
                log.debug("session %r is not moved with its state: %s", session, error.message)
            else:
                return SessionMove(session, "kv", positions, size, detail="" if route.exact else "not exact")
        level = reading_level(source, target)
        positions = await self._read(session, target, room) if target is not None else 0
        return SessionMove(session, level, positions)

    async def _read(self, session: str, target: Instance, room: Room | None) -> int:
        """Have an instance read a conversation, if it can and there is room; return how many positions that are."""
        if self._states is None or arena_of(target) is None or self._states.asleep(session):
            return 0
        if room is not None and not room.left:
            return 0
        try:
            transcript = await self._switchboard.turns.sessions.show(session)
            messages = tuple(turn.message for turn in transcript.turns)
            positions = await self._states.prefill(target, session, messages)
        except ByenatosError as error:
            log.info("session %r is not read ahead: %s", session, error.message)
            return 0
        if room is not None:
            room.take(positions)
        return positions

    # ---- private -------------------------------------------------------------------------------------------------

    def _busy(self, session: str, unit: Unit) -> bool:
        """Whether a conversation is being answered at ``unit``, or waits for it."""
        instance = unit.instance
        waits = any(stream.session == session for stream in unit.waiting)
        return waits or any(
            stream.session == session and _was_at(stream, instance) for stream in self._switchboard.live
        )


def _was_at(stream: Stream, instance: Instance | None) -> bool:
    """Whether a stream is answered by an instance, or was, and its turn is being stored."""
    return instance is not None and stream.epoch == instance.epoch
