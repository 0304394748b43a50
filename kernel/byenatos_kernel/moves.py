"""Moves of running streams with their warm state: to another instance of the same model, or from what a dead one left.

A planned move, per stream::

    catch up    the old instance goes on; ranges of its state are taken over and given to the new one, which reads one
                while the next is on its way, until no more than a few positions are missing
    freeze      the old one holds the answer, all that it said has arrived; the last range comes with the answer
    go          the stream changes its place, in one turn of the loop, and the new one is told to go on
    trial       until the new one has made a first step the old one keeps what it has: if that step does not come in
                time, or a failure instead, the stream goes back and is thawed

What must stay true: a stream is in one place. While it is frozen it is in the old instance's table, from *go* on in the
new one's. Nothing is awaited between looking at its place and changing it. A stream that has said a word at the new
place does not go back. Trouble before *go* leaves the stream where it is, thawed; the caller then moves it by text.

After a crash the old instance cannot be frozen, and the state is the journal's: a few tokens behind what the client
has. The new one makes them again and says only what is new (``Resume.said``); if it cannot, the stream goes on by text.

Why pre-copy and not stop-and-copy: the pause would grow with the context (12 ms at 4,096 tokens of a small model); this
way it is the same for all.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from byenatos_kernel.instances import Instance
from byenatos_kernel.places import Places
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.trials import Trial, patience_s
from byenatos_kernel.units import Unit
from byenatos_kernel.warm import Kept, WarmState, seen
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded, Unavailable
from byenatos_sdk.protocol.frames import Resume, Stop
from byenatos_sdk.protocol.messages import Moved
from byenatos_sdk.protocol.warm import Placed

__all__ = ["Copied", "Moves", "Route"]

FREEZE_S = 2.0
"""How long holding an answer may take."""

RESUMED_S = 2.0
"""How long the first step may take after a crash: there is no place to go back to."""

PRE_COPY_S = 30.0
"""How long copying the state of one answer may take, and waiting for an instance that takes a dead one's place."""

CLOSE = 16
"""Positions that may be missing when the answer is frozen."""

ROUNDS = 64
"""Pieces after which an answer that grows faster than it is copied is not waited for any more."""

log = logging.getLogger("byenatos")


class Route:
    """From where to where, and whether what follows will be the same to the bit."""

    def __init__(self, source: Instance, target: Instance, layout: str, *, exact: bool) -> None:
        self.source = source
        self.target = target
        self.layout = layout
        self.exact = exact


class Copied:
    """A stream on its way: what the target has of it, under the ``number`` that it will have there."""

    def __init__(self, stream: Stream, number: int) -> None:
        self.stream = stream
        self.old = stream.id
        self.number = number
        self.owner = f"stream {stream.id}"
        self.given = 0  # positions
        self.size = 0
        self.pause_s = 0.0


class Moves:
    """Moves streams with their state. ``touch`` has a stream's client told of what was queued."""

    def __init__(
        self,
        warm: WarmState,
        places: Places,
        touch: Callable[[Stream], None],
        by_text: Callable[[Stream, Unit, str, str], None],
    ) -> None:
        self._warm = warm
        self._places = places
        self._touch = touch
        self._by_text = by_text
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    async def route(self, source: Instance, target: Instance) -> Route:
        """Ask both instances whether one can read the other's state.

        Raises:
            Unavailable: it cannot, or one of them keeps none.
        """
        ours = await self._warm.fingerprint(source)
        theirs = await self._warm.fingerprint(target)
        if ours.layout != theirs.layout:
            raise Unavailable("the two keep their state in different forms")
        return Route(source, target, ours.layout, exact=ours.arithmetic == theirs.arithmetic)

    async def pre_copy(self, stream: Stream, route: Route) -> Copied:
        """Give the target most of a stream's state while the stream goes on.

        Raises:
            ByenatosError: it cannot be done; the stream is where it was.
        """
        copied = Copied(stream, self._places.reserve())
        try:
            async with asyncio.timeout(PRE_COPY_S):
                await self._catch_up(copied, route)
        except TimeoutError:
            self.abandon(copied, route)
            raise Unavailable(f"its state could not be copied within {PRE_COPY_S:g} s") from None
        except BaseException:
            self.abandon(copied, route)
            raise
        return copied

    async def cut_over(self, copied: Copied, route: Route, reason: str) -> bool:
        """Freeze, give the rest, go, and wait for the first step; return whether the stream is at the target now.

        If not, it goes on at the source, or has ended.
        """
        frozen = False
        kept: Kept | None = None
        try:
            async with asyncio.timeout(PRE_COPY_S):
                await self._catch_up(copied, route)
            copied.stream.check_at(route.source, copied.old)
            frozen = True
            async with asyncio.timeout(FREEZE_S):
                kept, progress = await self._freeze(copied, route)
            copied.stream.check_at(route.source, copied.old)
        except (ByenatosError, TimeoutError) as error:
            log.info("stream %d is not moved with its state: %s", copied.old, error)
            if kept is not None:
                kept.drop()
            self.abandon(copied, route)
            if frozen:
                self._spawn(self._thaw(route.source, copied.old))
            return False
        return await self._go(copied, route, kept, progress, reason)

    def abandon(self, copied: Copied, route: Route) -> None:
        """The stream does not move: have the target forget what it was given."""
        self._spawn(self._release(route.target, copied.number))

    async def resume(self, stream: Stream, unit: Unit, source: str, error: ByenatosError) -> None:
        """Go on with a stream that waits in no place, from its record, at an instance of ``unit``; else by text."""
        record, number = stream.record, self._places.reserve()
        assert record is not None
        layout, pieces = record.layout, tuple(record.pieces)  # an answer that ends meanwhile takes its record along
        instance: Instance | None = None
        try:
            async with asyncio.timeout(PRE_COPY_S):
                # while the new process comes to be, and reads
                checks = self._warm.check_ahead(layout, record.owner, pieces)
                instance = await unit.until_ready()
                if (await self._warm.fingerprint(instance)).layout != layout:
                    raise Unavailable("the new instance keeps its state in another form")
                *batches, last = self._warm.batches(instance, pieces)
                before = [piece for batch in batches for piece in batch]
                await self._warm.restore(instance, layout, record.owner, number, before, checks=checks)
                kept = await self._warm.lay(instance, layout, record.owner, last, checks=checks)
        except (ByenatosError, TimeoutError) as reason:
            log.info("a stream of %s goes on by text: %s", source, reason)
            if instance is not None:
                self._spawn(self._release(instance, number))
            if stream.state is StreamState.WAITING:
                self._by_text(stream, unit, source, error.code)
            return
        if stream.state is not StreamState.WAITING:
            kept.drop()
            self._spawn(self._release(instance, number))
            return

        def by_text(_: ByenatosError) -> bool:
            self._places.detach(stream, stop=False)
            self._by_text(stream, unit, source, error.code)
            return True

        stop = record.stop
        self._enter(stream, instance, number, kept.placed, record.pieces[-1].progress, by_text)
        self._tell(stream, source, instance.model.id, error.code)
        await self._first_step(stream, instance, number, stop, kept, RESUMED_S)

    # ---- the steps ---------------------------------------------------------------------------------------------

    async def _catch_up(self, copied: Copied, route: Route) -> None:
        """Take pieces and give them on until few positions are missing; one is read while the next is taken."""
        giving: asyncio.Task[None] | None = None
        try:
            for _ in range(ROUNDS):
                copied.stream.check_at(route.source, copied.old)
                piece = await self._warm.take(route.source, route.layout, copied.owner, copied.old, copied.given)
                if giving is not None:
                    await giving
                if piece.stop > piece.start:
                    copied.given = piece.stop
                    copied.size += len(piece.data)
                    giving = self._loop.create_task(
                        self._warm.restore(route.target, route.layout, copied.owner, copied.number, [piece])
                    )
                    giving.add_done_callback(seen)
                if piece.stop - piece.start <= CLOSE:
                    break
            else:
                raise Unavailable(f"the answer grows faster than its state is copied ({ROUNDS} pieces)")
            if giving is not None:
                await giving
        finally:
            if giving is not None and not giving.done():
                await asyncio.wait({giving})

    async def _freeze(self, copied: Copied, route: Route) -> tuple[Kept, bytes]:
        """Hold the answer and lay its last pieces ready for the target; return them with the answer's progress."""
        while True:
            piece = await self._warm.take(
                route.source, route.layout, copied.owner, copied.old, copied.given, freeze=True
            )
            pieces = [piece] if piece.stop > piece.start else []
            copied.size += len(piece.data)
            if piece.stop - piece.start <= CLOSE * 4:
                return await self._warm.lay(route.target, route.layout, copied.owner, pieces), piece.progress
            await self._warm.restore(route.target, route.layout, copied.owner, copied.number, pieces)
            copied.given = piece.stop

    async def _go(self, copied: Copied, route: Route, kept: Kept, progress: bytes, reason: str) -> bool:
        stream, source, target = copied.stream, route.source, route.target

        def back(error: ByenatosError) -> bool:
            if not source.serving:
                return False
            log.info("stream %d goes back to epoch %d: %s", copied.old, source.epoch, error.message)
            self._places.detach(stream, stop=target.serving)
            self._places.enter(stream, source, copied.old)
            self._tell(stream, target.model.id, source.model.id, error.code)
            self._spawn(self._thaw(source, copied.old))
            return True

        source.streams.pop(copied.old, None)
        stop = copied.given = copied.given + sum(piece.stop - piece.start for piece in kept.placed)
        limit_s = patience_s(stream)
        trial = self._enter(stream, target, copied.number, kept.placed, progress, back)
        self._tell(stream, source.model.id, target.model.id, reason)
        moved = await self._first_step(stream, target, copied.number, stop, kept, limit_s)
        copied.pause_s = trial.pause_s
        if stream.instance is not source:
            self._spawn(self._drop(source, copied.old))
        return moved

    def _enter(
        self,
        stream: Stream,
        instance: Instance,
        number: int,
        pieces: tuple[Placed, ...],
        progress: bytes,
        undo: Callable[[ByenatosError], bool],
    ) -> Trial:
        """Put a stream at its new place and have the driver go on with it; return how it does there."""
        text = stream.text
        partial, said = text[: stream.base], text[stream.base :]
        left_at = stream.progress
        self._places.enter(stream, instance, number)
        stream.end_trial()
        trial = stream.trial = Trial(stream, undo, left_at)
        try:
            instance.send(Resume(number, partial, said, progress, pieces), stream.body)
        except ByenatosError as error:
            trial.failed(error)
        return trial

    async def _first_step(
        self, stream: Stream, instance: Instance, number: int, stop: int, kept: Kept, limit_s: float
    ) -> bool:
        """Wait until the new place has proved itself; return whether the stream is there."""
        trial = stream.trial
        try:
            await self._warm.reach(instance, number, stop + 1, timeout_s=limit_s)
        except ByenatosError as error:
            here = stream.trial is trial and stream.instance is instance and stream.state is StreamState.RUNNING
            if here and trial is not None:
                trial.failed(DeadlineExceeded(f"no first step within {limit_s:.2f} s: {error.message}"))
            self._spawn(self._forget(instance, number, kept))
        else:
            kept.drop()
        if stream.trial is trial:
            stream.trial = None
        if stream.instance is instance:
            self._places.started(stream, instance)
        return trial is not None and trial.failure is None

    # ---- small steps that may fail and need not succeed ----------------------------------------------------------

    async def _forget(self, instance: Instance, number: int, kept: Kept) -> None:
        await self._release(instance, number)  # answered behind whatever still reads the pieces
        kept.drop()

    async def _release(self, instance: Instance, number: int) -> None:
        try:
            await self._warm.release(instance, number)
        except ByenatosError as error:
            log.debug("epoch %d: %s", instance.epoch, error.message)

    async def _drop(self, source: Instance, number: int) -> None:
        """Have the old instance drop a frozen answer."""
        if source.serving or source.channel is not None:
            try:
                source.send(Stop(number))
            except ByenatosError as error:
                source.fail(error.message)
        await self._release(source, number)

    async def _thaw(self, source: Instance, number: int) -> None:
        try:
            await self._warm.thaw(source, number)
        except ByenatosError as error:
            if number in source.streams:
                source.fail(f"could not go on with an answer that it held: {error.message}")

    def _tell(self, stream: Stream, source: str, target: str, reason: str) -> None:
        stream.moves += 1
        stream.add_event(Moved(source, target, reason))
        self._touch(stream)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
