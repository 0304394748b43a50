"""Crash journals: what grows of a running answer's warm state is taken over every few tokens, while it runs.

When its process is killed, another instance of the model goes on from the last piece: it makes a few tokens again and
reads nothing. The price is a copy of the state in the kernel's memory, and half a millisecond of the answer's time for
each piece; so it is on request (``journal`` of a model's configuration: every how many tokens).

Pieces of a few tokens each would take long to read back. When :data:`LONG` positions have come together at the end,
they are taken over once more, as one piece in the place of the many.

An answer may begin with much that its instance knows already, which a death would lose. Of such a state several pieces
are taken over between two tokens, until the journal is level with the answer.

Each token that a journal lags behind is made again after a death, and whoever is asked between two steps of an engine
answers after the one that has begun. So a journal that is level asks a step ahead: for a piece as soon as all but its
last token is there, and where each token is a piece, without asking what there is.
"""

import asyncio
import logging

from byenatos_kernel.instances import Instance
from byenatos_kernel.pieces import Record
from byenatos_kernel.streams import Stream
from byenatos_kernel.warm import WarmState, arena_of
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest

__all__ = ["Journals"]

LONG = 256
AT_ONCE = 3
"""Pieces that are taken over together while the journal is behind; fewer than the parts of an arena."""

log = logging.getLogger("byenatos")


class Journals:
    """Keeps the journals of those streams whose model asks for one."""

    def __init__(self, warm: WarmState) -> None:
        self._warm = warm
        self._loop = asyncio.get_running_loop()
        self._running: dict[Stream, asyncio.Task[None]] = {}

    def started(self, stream: Stream, instance: Instance) -> None:
        """A stream has begun, or goes on, at an instance."""
        if instance.model.journal and arena_of(instance) is not None:
            self._stop(stream)
            task = self._loop.create_task(self._keep(stream, instance, stream.id))
            self._running[stream] = task
            task.add_done_callback(lambda done: self._done(stream, done))

    def left(self, stream: Stream) -> None:
        """A stream has left its instance; what was taken over of it stays."""
        self._stop(stream)

    def ended(self, stream: Stream) -> None:
        """A stream has ended: nothing of it is kept."""
        self._stop(stream)
        if stream.record is not None:
            stream.record.clear()
            stream.record = None

    def close(self) -> None:
        """Keep no more."""
        for task in self._running.values():
            task.cancel()

    async def _keep(self, stream: Stream, instance: Instance, number: int) -> None:
        try:
            layout = (await self._warm.fingerprint(instance)).layout
            record = stream.record
            if record is None or record.layout != layout:
                if record is not None:
                    record.clear()
                record = stream.record = Record(f"stream {number} of epoch {instance.epoch}", layout, self._warm.budget)
            ahead = False
            while stream.instance is instance and stream.id == number:
                wanted = instance.model.journal - ahead
                if wanted:
                    await self._warm.reach(instance, number, record.stop + wanted)
                try:
                    ahead = await self._extend(record, instance, number) and _spare(instance)
                except InvalidRequest:  # an answer that is suspended holds less than was taken over of it
                    if wanted:
                        raise
                    ahead = False
        except ByenatosError as error:
            log.debug("the journal of stream %d ends: %s", number, error.message)

    async def _extend(self, record: Record, instance: Instance, number: int) -> bool:
        """Take over what there is from where the journal stops on, a piece or, if those are long, all; return whether.

        There may be nothing.
        """
        piece = await self._warm.take(instance, record.layout, record.owner, number, record.stop)
        length = piece.stop - piece.start
        if not length:
            return False
        record.add(piece)
        if length >= LONG:
            record.loose = len(record.pieces)
            end = await self._warm.reach(instance, number, record.stop)
            while starts := range(record.stop, end - length + 1, length)[:AT_ONCE]:
                takes = (self._warm.take(instance, record.layout, record.owner, number, start) for start in starts)
                for piece in await asyncio.gather(*takes):
                    record.add(piece)
                    record.loose = len(record.pieces)
        while record.stop - record.loose_start >= LONG:
            long = await self._warm.take(instance, record.layout, record.owner, number, record.loose_start)
            rest = await self._warm.take(instance, record.layout, record.owner, number, long.stop)
            if rest.stop < record.stop:
                break  # no longer pieces than these fit into the arena
            record.replace_loose([long, rest])
        return True

    def _stop(self, stream: Stream) -> None:
        task = self._running.pop(stream, None)
        if task is not None:
            task.cancel()

    def _done(self, stream: Stream, task: "asyncio.Task[None]") -> None:
        if self._running.get(stream) is task:
            del self._running[stream]
        if not task.cancelled() and task.exception() is not None:
            log.error("a journal failed", exc_info=task.exception())


def _spare(instance: Instance) -> bool:
    """Whether a part of the arena may be held for a whole step: others who move may want one meanwhile."""
    arena = arena_of(instance)
    return arena is not None and arena.idle > 1
