"""Failover: where a stream goes when its place has failed it.

A place fails in one of four ways: its process is gone, its model could not be loaded, its driver says so (a vendor that
limits, refuses the key, breaks off), or nothing comes from it for too long. Whichever it is, the stream goes on at the
first of these that serves (``Places.refuge``), with the text that its answer already has::

    another process with the model, or what the slot is bound to by now
      -> the same unit's next process, from the answer's journal, where there is one
      -> fallback_model
      -> the slot's degrade_to, one after the other; one that is not loaded is loaded while the stream waits
      -> an honest failure: what the first place said, then what the others did

What must stay true:

- A place gets a stream once: what it refused or died of it is not given again (``Stream.refusals``). A request under
  which a process dies may kill one more, not all (:data:`CRASH_MOVES`).
- A stream with a tool call out is not moved: what follows must come from the same turn.
- What is the request's own fault ends it (:data:`OF_THE_REQUEST`). What only this place cannot do is no such
  fault: a request that is too long here may fit elsewhere. Nor is what a smaller model cannot do, to which the request
  came because another one failed: the next one may.
- How long a vendor asks to wait is for the client to know. Here nothing is sent again: the driver has done that where
  it was worth it (``byenatos_sdk.http.retries``), and the time would be waited twice.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.journals import Journals
from byenatos_kernel.moves import Moves
from byenatos_kernel.places import Places
from byenatos_kernel.routes import Routes
from byenatos_kernel.streams import Refusal, Stream, StreamState
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    Cancelled,
    ClientTooSlow,
    ContentFiltered,
    DeadlineExceeded,
    DriverCrashed,
    InvalidRequest,
    Unsupported,
)
from byenatos_sdk.protocol.messages import Failure

__all__ = ["CRASH_MOVES", "Failover", "failure_of", "told"]

CRASH_MOVES = 1
"""How often one stream is moved on because a driver died under it: a request that kills must not kill them all."""

OF_THE_REQUEST = frozenset(error.code for error in (InvalidRequest, Unsupported, ContentFiltered))
"""What a driver says of the request. The rest is of the place, or of its vendor."""

OF_ITS_TIME = frozenset(error.code for error in (DeadlineExceeded, Cancelled, ClientTooSlow))
"""The request is over, wherever it is."""


class Failover:
    """Takes streams from where they failed to where they go on.

    ``move`` continues a stream, which is in no place, on a unit; ``give_up`` ends it. Whoever is in ``on_left`` is told
    of each stream that leaves a place that failed it, before it goes on elsewhere.
    """

    def __init__(
        self,
        drivers: DriverManager,
        places: Places,
        routes: Routes,
        journals: Journals,
        moves: Moves,
        move: Callable[[Stream, Unit, str, str], None],
        give_up: Callable[[Stream, Failure], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.on_left: list[Callable[[Stream, str], None]] = []
        self._drivers = drivers
        self._places = places
        self._routes = routes
        self._journals = journals
        self._moves = moves
        self._move = move
        self._give_up = give_up
        self._spawn = spawn

    def crashed(self, unit: Unit, instance: Instance, error: DriverCrashed) -> None:
        """Continue the streams of a dead instance elsewhere, or end them honestly."""
        streams = list(instance.streams.values())
        instance.streams.clear()
        for stream in streams:
            if stream.trial is not None and stream.trial.failed(error):
                continue
            stream.end_trial()
            stream.instance = None
            stream.state = StreamState.WAITING
            stream.crashes += 1
            failure = failure_of(error)
            stream.refusals.append(Refusal(unit, failure))
            self._journals.left(stream)
            may_move = stream.crashes <= CRASH_MOVES and not stream.bound
            heir = self._heir(stream, unit) if may_move else None
            refuge = self._places.refuge(stream, unit) if may_move and heir is None else None
            if may_move and heir is None and refuge is None and unit.restart is not None and _journaled(stream):
                heir = unit  # far off, but there is nothing else
            if heir is None and refuge is None:
                self._give_up(stream, failure)
                continue
            self._tell_left(stream, error.code)
            if heir is not None:
                self._spawn(self._moves.resume(stream, heir, instance.model.id, error))
            elif refuge is not None:
                self._move(stream, refuge, instance.model.id, error.code)

    def orphaned(self, unit: Unit, error: ByenatosError) -> None:
        """Nothing will come of ``unit``: place what waits for it elsewhere, or end it."""
        waiting = list(unit.waiting)
        unit.waiting.clear()
        for stream in waiting:
            if stream.state is StreamState.WAITING:
                failure = failure_of(error)
                stream.refusals.append(Refusal(unit, failure))
                refuge = self._places.refuge(stream, unit)
                if refuge is None:
                    self._give_up(stream, failure)
                    continue
                try:
                    self._places.place(stream, refuge)
                except ByenatosError as reason:
                    self._give_up(stream, failure_of(reason))

    def refused(self, stream: Stream, failure: Failure) -> bool:
        """The driver failed a stream: continue it elsewhere; return ``False`` if that cannot be done."""
        if failure.code in OF_ITS_TIME or (failure.code in OF_THE_REQUEST and not stream.refusals):
            return False
        return self._escape(stream, failure, stop=False)

    def stalled(self, stream: Stream, error: ByenatosError) -> bool:
        """Nothing comes from a stream's place: continue it elsewhere; return ``False`` if that cannot be done."""
        return stream.state is StreamState.RUNNING and self._escape(stream, failure_of(error), stop=True)

    def answered(self, stream: Stream) -> None:
        """A stream, which is still in its place, was answered: that place is not in trouble."""
        slot = self._routes.slot_of(stream)
        if slot is not None and slot.trouble and slot.unit is not None and slot.unit.instance is stream.instance:
            slot.trouble = ""

    # ---- private -----------------------------------------------------------------------------------------------

    def _escape(self, stream: Stream, failure: Failure, *, stop: bool) -> bool:
        """Take a stream from a place that is there, but fails it, to another one."""
        instance = stream.instance
        assert instance is not None
        unit = self._drivers.unit_of(instance)
        stream.refusals.append(Refusal(unit, failure))
        refuge = None if stream.bound else self._places.refuge(stream, unit)
        if refuge is None:
            return False
        slot = self._routes.slot_of(stream)
        if slot is not None and slot.unit is unit:
            slot.trouble = f"{unit.model.id} failed its last request ({failure.code}), which went to {refuge.model.id}"
        self._tell_left(stream, failure.code)
        self._places.detach(stream, stop=stop)
        self._journals.left(stream)
        stream.end_trial()
        self._move(stream, refuge, instance.model.id, failure.code)
        return True

    def _heir(self, stream: Stream, lost: Unit) -> Unit | None:
        """The unit whose instance can soon go on from a stream's journal: another one with the model, or ``lost``."""
        if not _journaled(stream):
            return None
        return self._places.twin(lost) or (lost if self._places.returns(lost) else None)

    def _tell_left(self, stream: Stream, code: str) -> None:
        for told in self.on_left:
            told(stream, code)


def told(stream: Stream, last: Failure) -> Failure:
    """What a client is told of a stream that ``last`` ends: what the first place said, then what the others did."""
    if last.code in OF_ITS_TIME:
        return last
    said = [(refusal.unit.model.id, refusal.failure) for refusal in stream.refusals]
    if all(failure is not last for _, failure in said):
        said.append(("", last))
    _, first = said[0]
    later = [f"{model}: {failure.message}" if model else failure.message for model, failure in said[1:]]
    return msgspec.structs.replace(first, message="; then ".join((first.message, *later)))


def _journaled(stream: Stream) -> bool:
    return stream.record is not None and bool(stream.record.pieces)


def failure_of(error: ByenatosError) -> Failure:
    """What a client is told of an error."""
    return Failure(error.code, error.message, error.retry_after_s)
