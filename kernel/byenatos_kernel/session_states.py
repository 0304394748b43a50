"""The warm state of idle sessions: read ahead, moved along in a swap, hibernated to a file, and woken.

A session that was hibernated wakes by itself before its next turn, at whatever instance serves that, if it can read the
state; else the turn reads the conversation again, as it would have anyway.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from byenatos_kernel.hibernation import Dormant, Hibernation, StoredPiece
from byenatos_kernel.instances import Instance
from byenatos_kernel.moves import Route
from byenatos_kernel.pieces import SealedPiece
from byenatos_kernel.warm import WarmState, arena_of, seen
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import Message, SessionMove

__all__ = ["SessionStates"]

MOVE_S = 30.0
"""How long a swap, or an instance that goes, takes for idle sessions, at most."""

PREFILL_S = 600.0

log = logging.getLogger("byenatos")


class SessionStates:
    """Takes care of what instances hold of sessions that nobody answers just now."""

    def __init__(self, warm: WarmState, files: Hibernation) -> None:
        self._warm = warm
        self._files = files
        self._loop = asyncio.get_running_loop()
        self._asleep = files.names()

    def asleep(self, session: str) -> bool:
        """Whether a session is hibernated."""
        return Hibernation.name(session) in self._asleep

    async def held(self, instance: Instance) -> list[str]:
        """The idle sessions that an instance holds state of; none if it cannot say."""
        if arena_of(instance) is None:
            return []
        try:
            return [holding.session for holding in await self._warm.holdings(instance)]
        except ByenatosError as error:
            log.info("what %s holds is not known: %s", instance.grant.name, error.message)
            return []

    async def move_idle(self, route: Route) -> list[SessionMove]:
        """Give the target of a swap the state of all idle sessions that the source holds; return which moved."""
        moved = []
        try:
            async with asyncio.timeout(MOVE_S):
                for session in await self.held(route.source):
                    try:
                        positions, size = await self.copy(route, session)
                    except ByenatosError as error:
                        log.debug("session %r is not moved with its state: %s", session, error.message)
                    else:
                        moved.append(SessionMove(session, "kv", positions, size))
        except TimeoutError:
            log.info("not all idle sessions were moved with their state within %g s", MOVE_S)
        return moved

    async def copy(self, route: Route, session: str) -> tuple[int, int]:
        """Give the target what the source holds of a session; return how many positions and bytes that are.

        Raises:
            NotFound: it holds nothing.
            ByenatosError: it cannot be moved.
        """
        owner = _owner(session)
        positions = size = 0
        giving: asyncio.Task[None] | None = None
        try:
            async for piece in self._take_all(route.source, route.layout, session):
                if giving is not None:
                    await giving
                giving = self._loop.create_task(self._warm.restore(route.target, route.layout, owner, session, [piece]))
                giving.add_done_callback(seen)
                positions, size = piece.stop, size + len(piece.data)
            if giving is not None:
                await giving
        finally:
            if giving is not None and not giving.done():
                await asyncio.wait({giving})
        if giving is None:
            raise NotFound(f"{route.source.model.id} holds no state of session {session!r}")
        return positions, size

    async def prefill(self, instance: Instance, session: str, messages: tuple[Message, ...]) -> int:
        """Have an instance read a conversation ahead; return how many positions that are.

        Raises:
            ByenatosError: it cannot.
        """
        if arena_of(instance) is None:
            raise InvalidRequest(f"{instance.model.id} keeps no state of conversations that could be read ahead")
        return await self._warm.prefill(instance, session, messages, PREFILL_S)

    async def hibernate(self, instance: Instance, session: str) -> tuple[int, int]:
        """Write a session's state to its file and have the instance forget it; return positions and bytes.

        Raises:
            NotFound: the instance holds no state of it.
            ByenatosError: it cannot be taken over or written.
        """
        layout = (await self._warm.fingerprint(instance)).layout
        taken = self._take_all(instance, layout, session)
        pieces = [StoredPiece(piece.start, piece.stop, piece.data) async for piece in taken]
        if not pieces:
            raise NotFound(f"{instance.model.id} holds no state of session {session!r}")
        dormant = Dormant(session, layout, pieces[-1].stop, len(pieces))
        size = await self._loop.run_in_executor(None, self._files.write, dormant, pieces)
        self._asleep.add(Hibernation.name(session))
        await self._warm.release(instance, session)
        return dormant.positions, size

    async def hibernate_all(self, instance: Instance, within_s: float = MOVE_S) -> int:
        """Hibernate the sessions that an instance holds state of and nobody answers; return how many were.

        For one that goes: should its model come back, they need not be read again.
        """
        done = 0
        if arena_of(instance) is None:
            return done
        try:
            async with asyncio.timeout(within_s):
                for holding in await self._warm.holdings(instance):
                    await self.hibernate(instance, holding.session)
                    done += 1
        except (ByenatosError, TimeoutError, OSError) as error:
            log.info("not all idle sessions of %s were hibernated: %s", instance.model.id, error)
        return done

    async def wake(self, instance: Instance, session: str) -> int:
        """Give a hibernated session's state to an instance, and remove its file; return how many positions.

        Raises:
            NotFound: it is not hibernated.
            InvalidRequest: the file is damaged, or for another kind of instance; it stays.
        """
        layout = (await self._warm.fingerprint(instance)).layout
        dormant, pieces = await self._loop.run_in_executor(None, self._files.read, session)
        if dormant.layout != layout:
            raise InvalidRequest(
                f"session {session!r} was hibernated by another model, engine or cache than {instance.grant.name} has"
            )
        owner = _owner(session)
        try:
            while (piece := await self._loop.run_in_executor(None, next, pieces, None)) is not None:
                sealed = await self._loop.run_in_executor(None, self._seal, layout, owner, piece)
                await self._warm.restore(instance, layout, owner, session, [sealed])
        except BaseException:
            await self._warm.release(instance, session)
            raise
        await self.forget(session)
        return dormant.positions

    async def wake_for_turn(self, instance: Instance, session: str) -> None:
        """Wake a session before its turn, if it is hibernated and that can be done."""
        if not self.asleep(session):
            return
        try:
            await self.wake(instance, session)
        except ByenatosError as error:
            log.info("session %r is read again: %s", session, error.message)

    async def forget(self, session: str) -> None:
        """Remove a session's file, if there is one."""
        if self.asleep(session):
            self._asleep.discard(Hibernation.name(session))
            await self._loop.run_in_executor(None, self._files.remove, session)

    # ---- private -----------------------------------------------------------------------------------------------

    async def _take_all(self, instance: Instance, layout: str, session: str) -> AsyncIterator[SealedPiece]:
        start = 0
        while True:
            piece = await self._warm.take(instance, layout, _owner(session), session, start)
            if piece.stop == start:
                return
            start = piece.stop
            yield piece

    def _seal(self, layout: str, owner: str, piece: StoredPiece) -> SealedPiece:
        return self._warm.seals.seal(layout, owner, piece.start, piece.stop, piece.data, b"")


def _owner(session: str) -> str:
    return f"session {session}"
