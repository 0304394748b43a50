"""Homes: the conversations that are answered elsewhere than at the unit of their slot.

After a switch that lets each conversation come along between its own turns, those that have something at the old unit
are at home there until they are moved. An operator may also give a conversation a home and keep it there. A turn looks
here when it is placed; while its conversation is being moved it waits for that, up to :data:`PATIENCE_S`.

A home is a promise about where warm state lies, never the only way to be answered: one whose unit is gone is forgotten,
and the conversation is answered by its slot again.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from byenatos_kernel.units import Unit

__all__ = ["Home", "Homes"]

PATIENCE_S = 10.0
"""How long a turn waits for its conversation to be moved."""


class Home:
    """Where one conversation of a ``slot`` is answered; ``kept`` by an operator, else only until it is moved."""

    __slots__ = ("kept", "session", "slot", "unit")

    def __init__(self, session: str, slot: str, unit: Unit, *, kept: bool) -> None:
        self.session = session
        self.slot = slot
        self.unit = unit
        self.kept = kept

    @property
    def reservation(self) -> str:
        """What stands among a unit's slots while a conversation is kept there."""
        return f"(session {self.session})"


class Homes:
    """All homes, by session."""

    def __init__(self) -> None:
        self._homes: dict[str, Home] = {}
        self._moving: dict[str, list[asyncio.Future[None]]] = {}

    def find(self, session: str, slot: str | None) -> Home | None:
        """The home of a conversation, for a turn that is addressed to ``slot``."""
        home = self._homes.get(session)
        if home is None or home.slot != slot:
            return None
        unit = home.unit
        if unit.dead or unit.leaving or not (unit.ready or unit.starting or (home.kept and unit.restart)):
            self.leave(session)
            return None
        return home

    def kept(self, session: str) -> str:
        """The model that an operator moved a conversation to; empty if it is answered by its slot."""
        home = self._homes.get(session)
        return home.unit.model.id if home is not None and home.kept else ""

    def elsewhere(self, slot: str, unit: Unit | None) -> int:
        """How many conversations of a slot are at home at another unit than ``unit``, which is there."""
        homes = self._homes.values()
        return sum(one.slot == slot and one.unit is not unit and not one.unit.dead for one in homes)

    def at(self, unit: Unit, slot: str) -> list[str]:
        """The conversations of a slot that are at home at ``unit`` until they are moved, in the order they came."""
        return [one.session for one in self._homes.values() if one.unit is unit and one.slot == slot and not one.kept]

    def stay(self, sessions: Collection[str], slot: str, unit: Unit) -> None:
        """Let conversations be at home at ``unit`` until they are moved; those that have a home keep theirs."""
        for session in sessions:
            if session not in self._homes:
                self._homes[session] = Home(session, slot, unit, kept=False)

    def keep(self, session: str, slot: str, unit: Unit) -> Unit | None:
        """Have a conversation answered by ``unit`` from now on, and the unit kept for it; return where it was kept."""
        left = self.leave(session)
        home = self._homes[session] = Home(session, slot, unit, kept=True)
        unit.slots.add(home.reservation)
        return left

    def leave(self, session: str) -> Unit | None:
        """Have a conversation answered by its slot again; return the unit that was kept for it, if one was."""
        home = self._homes.pop(session, None)
        if home is None or not home.kept:
            return None
        home.unit.slots.discard(home.reservation)
        return home.unit

    def clear(self, unit: Unit) -> None:
        """The unit is to go: whoever is at home there is answered by its slot again."""
        for home in [home for home in self._homes.values() if home.unit is unit]:
            self.leave(home.session)

    @contextmanager
    def moving(self, session: str) -> Iterator[None]:
        """While a conversation is being moved its next turn waits.

        Whoever did not wait for another move any longer moves it at the same time: it has settled when both are done.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        moves = self._moving.setdefault(session, [])
        moves.append(done)
        try:
            yield
        finally:
            moves.remove(done)
            if not moves:
                del self._moving[session]
            done.set_result(None)

    def is_moving(self, session: str) -> bool:
        """Whether a conversation is being moved."""
        return session in self._moving

    async def settled(self, session: str) -> None:
        """Wait until a conversation is not being moved, or for as long as a turn waits."""
        if session not in self._moving:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while moves := self._moving.get(session):  # somebody else who waited may have begun to move it
                    await asyncio.wait(moves)
