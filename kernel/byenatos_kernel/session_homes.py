"""Moves of single conversations by hand: to a model that answers them from then on, and back to their slot.

A conversation that was moved has a home (``homes.py``), which keeps its model loaded; what its slot is swapped to makes
no difference to it. It goes between two of its turns, or, if it is wanted *now*, in the middle of an answer. Where it
was moved to outlives the kernel: the next one loads that model for it, as soon as the model is there.
"""

import asyncio
import logging
from contextlib import suppress

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.levels import reading_level
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_moves import SessionMoves
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import MoveOrder
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.messages import SessionMove

__all__ = ["SessionHomes"]

PATIENCE_S = 600.0
"""How long the answer to a turn is waited for before its conversation is moved."""

REASON = "session_move"

log = logging.getLogger("byenatos")


class SessionHomes:
    """Gives conversations a home, and takes it from them."""

    def __init__(
        self,
        registry: ModelRegistry,
        drivers: DriverManager,
        routes: Routes,
        switchboard: Switchboard,
        moves: SessionMoves,
    ) -> None:
        self._registry = registry
        self._drivers = drivers
        self._routes = routes
        self._switchboard = switchboard
        self._moves = moves
        self._endings = moves.endings
        self._sessions = switchboard.turns.sessions
        self._awaited: set[str] = set()  # models to which conversations were moved under an earlier kernel
        self._loop = asyncio.get_running_loop()

    async def move(self, order: MoveOrder) -> SessionMove:
        """Move a conversation, and return how that was done.

        Raises:
            NotFound: there is no such session or model.
            InvalidRequest: it does not address a slot, or is where it is wanted.
            DeadlineExceeded: its answer does not end.
            Unavailable, Overloaded: the model cannot be loaded, or is lost.
        """
        session = order.session
        found = (await self._switchboard.turns.sessions.show(session)).info
        slot = self._routes.slots.get(found.slot)
        if slot is None:
            raise InvalidRequest(f"session {session!r} addresses the model {found.slot}, not a slot: it stays there")
        unit = await self._wanted(order, slot)
        source = self._place(session, slot)
        if source is unit:
            raise InvalidRequest(f"session {session!r} is answered by {unit.model.id} already")
        reservation = f"(move of session {session})"
        unit.slots.add(reservation)
        try:
            await unit.until_ready()
            moved = await self._bring(session, slot, unit, now=order.now)
            with self._routes.homes.moving(session):
                await self._remember(session, order.model)
                if order.model:
                    left = self._routes.homes.keep(session, slot.name, unit)
                else:
                    left = self._routes.homes.leave(session)
        except ByenatosError:
            self._drivers.drop(unit)
            raise
        finally:
            unit.slots.discard(reservation)
            self._drivers.release(unit)
        if left is not None:
            self._drivers.release(left)
        return moved

    async def start(self) -> None:
        """Give conversations that were moved under an earlier kernel their models, those that are there."""
        self._awaited = {model for _, _, model in await self._sessions.moved()}
        for model in sorted(self._awaited):
            entry = self._registry.models.get(model)
            if entry is not None:
                await self.judged(entry)

    async def judged(self, entry: ModelEntry) -> None:
        """A model was found to be available or not: conversations that were moved to it may wait for it."""
        if entry.state != "available" or entry.id not in self._awaited:
            return
        self._awaited.discard(entry.id)
        for session, slot, model in await self._sessions.moved():  # since the start some were moved on, or removed
            try:
                if model == entry.id and slot in self._routes.slots and not self._routes.homes.kept(session):
                    self._routes.homes.keep(session, slot, await self._drivers.obtain(entry))
            except ByenatosError as error:
                log.warning("session %s is answered by its slot and not by %s: %s", session, entry.id, error.message)

    def leave(self, session: str) -> None:
        """Have a conversation answered by its slot again, as it is; the model that was kept for it may go."""
        left = self._routes.homes.leave(session)
        if left is not None:
            self._drivers.release(left)

    async def _remember(self, session: str, model: str) -> None:
        """Have the next kernel know where a conversation is; the move stands if that cannot be stored.

        Raises:
            NotFound: it was removed meanwhile.
        """
        try:
            await self._sessions.move(session, model)
        except NotFound:
            raise
        except ByenatosError as error:
            log.warning("where session %s was moved to will not outlive this kernel: %s", session, error.message)

    async def _wanted(self, order: MoveOrder, slot: Slot) -> Unit:
        if order.model:
            return await self._drivers.obtain(self._registry.model(order.model))
        if slot.unit is None:
            raise Unavailable(f"slot {slot.name!r}: {slot.model or 'nothing'} is not loaded")
        return slot.unit

    def _place(self, session: str, slot: Slot) -> Unit | None:
        home = self._routes.homes.find(session, slot.name)
        return home.unit if home is not None else slot.unit

    async def _bring(self, session: str, slot: Slot, unit: Unit, *, now: bool) -> SessionMove:
        """Give ``unit`` what is known of a conversation, when no answer to it runs elsewhere (any longer)."""
        deadline = self._loop.time() + PATIENCE_S
        while True:
            source = self._place(session, slot)
            running = self._running(session, unit)
            if running is not None and now:
                return await self._cut_over(running, unit)
            if running is not None:
                if not await self._endings.next(deadline):
                    raise DeadlineExceeded(f"session {session!r} was still being answered after {PATIENCE_S:g} s")
                continue
            await self._routes.homes.settled(session)
            with self._routes.homes.moving(session):
                old = source.ready if source is not None else None
                moved = await self._moves.carry(session, old, unit.ready)
                if self._running(session, unit) is None:
                    return moved

    def _running(self, session: str, unit: Unit) -> Stream | None:
        """The answer to a conversation that runs, or is being stored, and has its place elsewhere than at ``unit``."""
        here = unit.instance.epoch if unit.instance is not None else 0
        return next(
            (one for one in self._switchboard.live if one.session == session and one.epoch not in {0, here}), None
        )

    async def _cut_over(self, stream: Stream, unit: Unit) -> SessionMove:
        """Move a running answer: with its state if that can be done, else by text."""
        session, source, target = stream.session or "", stream.instance, await unit.until_ready()
        moves = self._switchboard.moves
        if source is not None and stream.state is StreamState.RUNNING:
            with suppress(ByenatosError):  # else by text
                route = await moves.route(source, target)
                copied = await moves.pre_copy(stream, route)
                if await moves.cut_over(copied, route, REASON):
                    return SessionMove(session, "kv", copied.given, copied.size, copied.pause_s)
        reading = None
        with suppress(ByenatosError):  # else it is read when it has moved
            reading = await self._switchboard.text_moves.read_along(stream, target)
        trial = self._switchboard.move_by_text(stream, unit, REASON, reading) if stream.instance is source else None
        if trial is None:
            raise InvalidRequest(
                f"session {session!r}: what is being answered cannot be moved; wait until it has ended"
            )
        await trial.over
        if trial.failure is not None:
            raise Unavailable(f"session {session!r} is where it was: {trial.failure.message}")
        positions = reading.positions if reading is not None else 0
        return SessionMove(session, reading_level(source, target), positions, pause_s=round(trial.pause_s, 6))
