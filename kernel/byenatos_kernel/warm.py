"""Warm state between the kernel and one instance: fingerprints, pieces out of its arena, pieces into it.

All long work (copies, seals) is done in a thread; both give the interpreter's lock away. What is shorter than
``INLINE_BYTES`` takes less than a millisecond and is done at once: going to a thread and back takes as long.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from byenatos_kernel.arena import Arena, Part
from byenatos_kernel.instances import Instance
from byenatos_kernel.pieces import Budget, SealedPiece, Seals
from byenatos_sdk.protocol.errors import DriverCrashed, InvalidRequest, Unavailable
from byenatos_sdk.protocol.frames import UNREADABLE, encode
from byenatos_sdk.protocol.messages import Message
from byenatos_sdk.protocol.warm import (
    WARM,
    Export,
    Fingerprint,
    Holding,
    Piece,
    Placed,
    Prefill,
    Reach,
    Reached,
    Restore,
    Subject,
    SubjectId,
)

__all__ = ["Checks", "Kept", "WarmState", "arena_of", "seen"]

INLINE_BYTES = 256 << 10
PROGRESS_BYTES = 1 << 20
PIECE_BYTES = PROGRESS_BYTES + (4 << 10)
HOLDINGS_BYTES = 1 << 20
PATIENCE_S = 60.0
REACH_S = 3600.0
_SHARE_OF_MEMORY = 8

Checks: TypeAlias = Mapping[int, "asyncio.Task[None]"]
"""The checks of pieces, by the position at which each of them ends."""

_T = TypeVar("_T")
_decode_fingerprint = msgspec.msgpack.Decoder(Fingerprint).decode
_decode_holdings = msgspec.msgpack.Decoder(list[Holding]).decode
_decode_piece = msgspec.msgpack.Decoder(Piece).decode
_decode_reached = msgspec.msgpack.Decoder(Reached).decode


class Kept:
    """Pieces that lie in a part of an instance's arena until the instance has read them."""

    def __init__(self, arena: Arena, part: Part, placed: tuple[Placed, ...]) -> None:
        self.placed = placed
        self._arena = arena
        self._part: Part | None = part

    def drop(self) -> None:
        """They were read, or nobody will; idempotent."""
        if self._part is not None:
            self._arena.give_back(self._part)
            self._part = None


def arena_of(instance: Instance) -> Arena | None:
    """The arena of an instance that serves and has warm state, else nothing."""
    specification = instance.specification
    warm = instance.serving and specification is not None and WARM in specification.features
    return instance.arena if warm else None


def seen(task: "asyncio.Task[None]") -> None:
    """Look at the outcome of a task that nobody may wait for any more: its owner has failed of something else."""
    if not task.cancelled():
        task.exception()


class WarmState:
    """Takes warm state from instances and gives it to them. ``budget`` is what the kernel may hold of it."""

    def __init__(self, seals: Seals | None = None, budget: Budget | None = None) -> None:
        self.seals = seals or Seals()
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.budget = budget or Budget(memory // _SHARE_OF_MEMORY)
        self._loop = asyncio.get_running_loop()

    async def fingerprint(self, instance: Instance) -> Fingerprint:
        """Ask an instance what others must share with it; the plugin's own digest and the model are part of it.

        Raises:
            Unavailable: it has no warm state, or says what cannot be read.
        """
        if arena_of(instance) is None:
            raise Unavailable(f"{instance.grant.name} has no warm state that could be moved")
        found = _read(_decode_fingerprint, await instance.call("fingerprint"))
        plugin = instance.plugin
        # what a driver says of itself counts among its own kind only
        own = f"plugin={plugin.id} {plugin.digest or plugin.stored} model={instance.model.id}"
        return Fingerprint(f"{own} {found.layout}", found.arithmetic)

    async def holdings(self, instance: Instance) -> list[Holding]:
        """The idle sessions that an instance holds state of."""
        return _read(_decode_holdings, await instance.call("holdings", most=HOLDINGS_BYTES))

    async def reach(self, instance: Instance, subject: SubjectId, position: int, timeout_s: float = REACH_S) -> int:
        """Wait until the subject's state goes to ``position``; raises ``NotFound`` once it has none any more."""
        body = await instance.call("reach", Reach(subject, position), timeout_s=timeout_s)
        return _read(_decode_reached, body).position

    async def thaw(self, instance: Instance, number: int) -> None:
        """Let a frozen answer go on."""
        await instance.call("thaw", Subject(number))

    async def release(self, instance: Instance, subject: SubjectId) -> None:
        """Have an instance forget a subject."""
        await instance.call("release", Subject(subject))

    async def prefill(self, instance: Instance, session: str, messages: tuple[Message, ...], timeout_s: float) -> int:
        """Have an instance read a conversation; return how long it is, in positions."""
        body = await instance.call("prefill", Prefill(session, messages), timeout_s=timeout_s)
        return _read(_decode_reached, body).position

    async def read(self, instance: Instance, request: bytes, partial: str, timeout_s: float) -> int:
        """Have an instance read a request (in msgpack) and the answer that it has so far; return how long that is.

        Raises:
            ByenatosError: it cannot, or was not done in time.
        """
        if arena_of(instance) is None:
            raise Unavailable(f"{instance.grant.name} reads nothing ahead")
        order = encode({"request": msgspec.Raw(request), "partial": partial})
        return _read(_decode_reached, await instance.call("read", order, timeout_s=timeout_s)).position

    async def take(
        self, instance: Instance, layout: str, owner: str, subject: SubjectId, start: int, *, freeze: bool = False
    ) -> SealedPiece:
        """Take the next piece over from an instance, and seal it; with ``freeze`` the answer is held.

        Raises:
            ByenatosError: the instance's error, or what is wrong with what it says.
        """
        arena = arena_of(instance)
        if arena is None:
            raise Unavailable(f"{instance.grant.name} has no warm state that could be moved")
        part = await arena.take()
        order = Export(subject, start, part.offset, part.size)
        method = "freeze" if freeze else "export"
        body = await self._alone(arena, part, instance.call(method, order, timeout_s=PATIENCE_S, most=PIECE_BYTES))
        try:
            piece = _read(_decode_piece, body)
            if piece.start != start or piece.stop < start or (piece.stop == start) != (piece.size == 0):
                raise InvalidRequest(
                    f"expected a piece from {start} on, found one from {piece.start} to {piece.stop} of "
                    f"{piece.size} bytes"
                )
            if len(piece.progress) > PROGRESS_BYTES:
                raise InvalidRequest(f"expected a progress of at most {PROGRESS_BYTES} bytes, found a longer one")

            def copy() -> SealedPiece:
                data = arena.read(part, piece.size)
                return self.seals.seal(layout, owner, piece.start, piece.stop, data, piece.progress)

            return await self._work(piece.size, copy)
        finally:
            arena.give_back(part)

    def check_ahead(self, layout: str, owner: str, pieces: Sequence[SealedPiece]) -> Checks:
        """Begin to check pieces ahead of their use, one after the other, while others are used already.

        Return for each, by the position at which it ends, what raises ``InvalidRequest`` if it is not what was sealed.
        """
        checks: dict[int, asyncio.Task[None]] = {}
        before: asyncio.Task[None] | None = None
        for piece in pieces:
            before = checks[piece.stop] = self._loop.create_task(self._check(layout, owner, piece, before))
            before.add_done_callback(seen)
        return checks

    async def lay(
        self,
        instance: Instance,
        layout: str,
        owner: str,
        pieces: Sequence[SealedPiece],
        *,
        checks: Checks | None = None,
    ) -> Kept:
        """Check pieces and lay them into one part of an instance's arena; drop it when the instance has read them.

        ``checks``: what :meth:`check_ahead` returned for them.

        Raises:
            InvalidRequest: one is not what was sealed, or not for this instance, or they do not fit.
        """
        arena = arena_of(instance)
        if arena is None:
            raise Unavailable(f"{instance.grant.name} has no warm state that could be restored")
        if checks is not None:
            for piece in pieces:
                await checks[piece.stop]
        part = await arena.take()
        try:

            def copy() -> tuple[Placed, ...]:
                placed = []
                place = 0
                for piece in pieces:
                    if checks is None:
                        self.seals.check(piece, layout, owner)
                    arena.write(part, place, piece.data)
                    placed.append(Placed(piece.start, piece.stop, part.offset + place, len(piece.data)))
                    place += -(-len(piece.data) // 64) * 64
                return tuple(placed)

            return Kept(arena, part, await self._work(sum(len(piece.data) for piece in pieces), copy))
        except BaseException:
            arena.give_back(part)
            raise

    async def restore(
        self,
        instance: Instance,
        layout: str,
        owner: str,
        subject: SubjectId,
        pieces: Sequence[SealedPiece],
        *,
        checks: Checks | None = None,
    ) -> None:
        """Give pieces to an instance, which reads one batch while the next is checked, or has been by ``checks``.

        Raises:
            ByenatosError: one is refused, by the kernel or by the instance.
        """
        reading: asyncio.Task[None] | None = None
        try:
            for batch in self.batches(instance, pieces):
                kept = await self.lay(instance, layout, owner, batch, checks=checks)
                if reading is not None:
                    await reading
                reading = self._loop.create_task(self._read_in(instance, subject, kept))
                reading.add_done_callback(seen)
            if reading is not None:
                await reading
        finally:
            if reading is not None and not reading.done():
                await asyncio.wait({reading})

    def batches(self, instance: Instance, pieces: Sequence[SealedPiece]) -> list[list[SealedPiece]]:
        """Divide pieces so that each batch fits into a part of the instance's arena; those without bytes fall out."""
        arena = arena_of(instance)
        room = arena.part_bytes if arena is not None else 0
        found: list[list[SealedPiece]] = []
        used = room + 1
        for piece in pieces:
            size = -(-len(piece.data) // 64) * 64
            if not size:
                continue
            if used + size > room or not found:
                found.append([])
                used = 0
            found[-1].append(piece)
            used += size
        return found

    async def _check(self, layout: str, owner: str, piece: SealedPiece, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await before
        await self._work(len(piece.data), lambda: self.seals.check(piece, layout, owner))

    async def _read_in(self, instance: Instance, subject: SubjectId, kept: Kept) -> None:
        try:
            await instance.call("restore", Restore(subject, kept.placed), timeout_s=PATIENCE_S)
        except DriverCrashed:
            raise  # it may still read: nothing else is laid there
        except BaseException:
            kept.drop()
            raise
        kept.drop()

    async def _alone(self, arena: Arena, part: Part, call: Coroutine[Any, Any, bytes]) -> bytes:
        """Wait for the answer to a call by which a driver writes to ``part``; until it comes, nobody else may have it.

        A driver that does not answer, and may still write, keeps it.
        """
        task = self._loop.create_task(call)

        def settle(done: "asyncio.Task[bytes]") -> None:
            if not done.cancelled() and not isinstance(done.exception(), DriverCrashed):
                arena.give_back(part)

        try:
            return await asyncio.shield(task)
        except BaseException:
            if task.done():
                settle(task)
            else:
                task.add_done_callback(settle)
            raise

    async def _work(self, size: int, job: Callable[[], _T]) -> _T:
        return job() if size <= INLINE_BYTES else await self._loop.run_in_executor(None, job)


def _read(decode: Callable[[bytes], _T], body: bytes) -> _T:
    try:
        return decode(body)
    except UNREADABLE as error:
        raise InvalidRequest(f"a driver's answer about its warm state cannot be read: {error}") from None
