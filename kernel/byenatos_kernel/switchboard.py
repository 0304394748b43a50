"""The switchboard: the life of every stream, from its request to its one terminal.

The idea: a stream belongs to exactly one place at any time (a unit's queue while it WAITs, an instance's table while it
RUNs, the store while its turn is being STOREd), and only :meth:`Switchboard._end` queues a terminal. Whatever dies, the
stream is taken out of its place and either put into another one or ended; it cannot be in two, so it cannot be answered
twice, and it cannot be in none, so it cannot be forgotten.

A stream that moves gets a new number on its new instance and loses the old one. Late deltas of the old instance find no
stream under the old number: that is the whole of the epoch fence.

What must stay true: nothing here awaits between reading a stream's place and changing it. The only awaits are around
the store, before (see ``admissions``) and after: while an assistant's turn is written it is STORING, which nothing
interrupts.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable

import msgspec

from byenatos_kernel import failover
from byenatos_kernel.admissions import Admissions
from byenatos_kernel.clients import ClientState
from byenatos_kernel.deliveries import Deliveries, Wire
from byenatos_kernel.failover import Failover, failure_of
from byenatos_kernel.gaps import overdue
from byenatos_kernel.instances import Instance
from byenatos_kernel.journals import Journals
from byenatos_kernel.moves import Moves
from byenatos_kernel.places import Places
from byenatos_kernel.routes import Routes
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.text_moves import Reading, TextMoves
from byenatos_kernel.trials import Trial
from byenatos_kernel.turns import Turns
from byenatos_kernel.units import Unit
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    Cancelled,
    DeadlineExceeded,
    Draining,
    DriverCrashed,
    error_from_code,
)
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    Terminal,
)

__all__ = ["Switchboard"]

SWEEP_S = 0.1


class Switchboard:
    """Owns all streams: those that clients ``open``, with what drivers ``deliver`` of them.

    Whoever is in ``on_ended`` is told of each stream whose terminal was queued.
    """

    def __init__(
        self,
        places: Places,
        routes: Routes,
        turns: Turns,
        wire: Wire,
        warm: WarmState | None = None,
        states: SessionStates | None = None,
    ) -> None:
        self.live: set[Stream] = set()
        self.on_ended: list[Callable[[Stream, Terminal], None]] = []
        self._routes = routes
        self._turns = turns
        self._wire = wire
        self._places = places
        places.fail = self.fail
        warm = warm or WarmState()
        self.admissions = Admissions(self.live, places, routes, turns, states, self.fail, self._spawn)
        self.open = self.admissions.open
        self.deliveries = Deliveries(wire, self._answered, self.fail)
        self.deliver = self.deliveries.take
        self._touch = self.deliveries.touch
        self.journals = Journals(warm)
        self.moves = Moves(warm, places, self._touch, self._move)
        self.text_moves = TextMoves(warm, places, self._move)
        self.failover = Failover(
            places.drivers, places, routes, self.journals, self.moves, self._move, self._give_up, self._spawn
        )
        places.started = self._started
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)
        self._idle: asyncio.Event | None = None

    @property
    def turns(self) -> Turns:
        """Which sessions are being answered."""
        return self._turns

    # ---- from clients ------------------------------------------------------------------------------------------

    def cancel(self, client: ClientState, number: int) -> None:
        """Stop a stream on its client's word."""
        stream = client.streams.get(number)
        if stream is None:
            return
        if stream.state is StreamState.ENDED:
            stream.discard()
            stream.paused = False
            self._touch(stream)
        elif stream.state is StreamState.STORING:
            stream.paused = False  # its terminal is on the way and must arrive
        else:
            stream.discard()
            stream.paused = False
            self.fail(stream, Cancelled("cancelled by the client"))

    def pause(self, client: ClientState, number: int, *, on: bool) -> None:
        """Hold one stream's deltas back, or let them go on."""
        stream = client.streams.get(number)
        if stream is not None and stream.paused is not on:
            stream.paused = on
            if not on and stream.waiting:
                self._touch(stream)

    def client_gone(self, client: ClientState, error: ByenatosError) -> None:
        """The client will not read on: end its streams with ``error``."""
        for stream in list(client.streams.values()):
            if stream.state is not StreamState.ENDED and stream.state is not StreamState.STORING:
                stream.paused = False
                self.fail(stream, error)

    # ---- UnitOwner: what becomes of streams when drivers come and go --------------------------------------------

    def unit_ready(self, unit: Unit, instance: Instance) -> None:
        """Start the streams that waited for this unit."""
        waiting = list(unit.waiting)
        unit.waiting.clear()
        for stream in waiting:
            if stream.state is StreamState.WAITING:
                self._places.start(stream, instance)

    def instance_lost(self, unit: Unit, instance: Instance, error: DriverCrashed) -> None:
        """Continue the streams of a dead instance elsewhere, or end them honestly."""
        self.failover.crashed(unit, instance, error)

    def unit_died(self, unit: Unit, error: ByenatosError) -> None:
        """Nothing will come of ``unit``: place what waits for it elsewhere, or end it."""
        self.failover.orphaned(unit, error)

    # ---- from the hot-swap manager -----------------------------------------------------------------------------

    def reserve(self) -> int:
        """A number for a request of the kernel's own, which is no stream."""
        return self._places.reserve()

    def take_waiting(self, slot: str, source: Unit, target: Unit) -> None:
        """Place what waits for a slot at ``source`` anew, at ``target``."""
        for stream in [stream for stream in source.waiting if stream.slot == slot]:
            source.waiting.remove(stream)
            if stream.state is StreamState.WAITING:
                self._queue(stream, target)

    def move_by_text(self, stream: Stream, target: Unit, reason: str, reading: Reading | None = None) -> Trial | None:
        """Continue a running stream at ``target``, with its text so far; return how it does there.

        ``None``: that cannot be done. ``reading`` is what the target has read of it already.
        """
        trial = self.text_moves.move(stream, target, reason, reading)
        if trial is not None:
            self._wire.schedule_flush()
        return trial

    def hold_back(self, slot: str, source: Unit, *, running: bool) -> int:
        """Have a slot's streams at ``source`` wait in its queue; return how many requests still run there.

        Those that wait at ``source`` always come along; running ones only if ``running``, at their token boundary. Not
        those of which a tool call is out: what follows it must come from the same turn.
        """
        self.take_waiting(slot, source, source)
        instance = source.instance
        if instance is None:
            return 0
        if running:
            for stream in [one for one in instance.streams.values() if one.slot == slot and not one.bound]:
                stream.end_trial()  # it goes back to nowhere from the queue
                self._places.detach(stream)
                self._queue(stream, source)
        return len(instance.streams)

    def _queue(self, stream: Stream, source: Unit) -> None:
        try:
            self._places.place(stream, source)
        except ByenatosError as error:
            self.fail(stream, error)

    def serve(self, streams: Iterable[Stream], unit: Unit) -> tuple[int, int]:
        """Place streams that waited in a slot's queue, in their order; return how many, and how many had run before."""
        waited = moved = 0
        held = self._places.hold()
        try:
            for stream in streams:
                waited += 1
                if stream.epoch:
                    moved += 1
                    self._move(stream, unit, stream.model, "swap")
                else:
                    self._queue(stream, unit)
        finally:
            if held:
                self._places.release()
        self._wire.schedule_flush()
        return waited, moved

    # ---- shutdown ----------------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> None:
        """Take no new requests, give the running ones ``timeout_s`` seconds, then end them and store their turns."""
        self.admissions.closed = True
        if self.live:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout_s)
        for stream in list(self.live):
            if stream.state is not StreamState.STORING:
                self.fail(stream, Draining("the kernel stopped before the answer was complete", retry_after_s=5.0))
        self._sweep_timer.cancel()
        self.journals.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        self._wire.flush()

    # ---- ending ------------------------------------------------------------------------------------------------

    def fail(self, stream: Stream, error: ByenatosError) -> None:
        """End a stream with an error, wherever it is."""
        self._places.detach(stream)
        self._close(stream, msgspec.structs.replace(failure_of(error), partial=stream.started))

    def _answered(self, stream: Stream, event: Terminal) -> None:
        """The driver has said its last word."""
        if isinstance(event, Finish):
            self._finish(stream, event)
        else:
            self._driver_failed(stream, event)

    def _finish(self, stream: Stream, event: Finish) -> None:
        assert stream.instance is not None
        finish = msgspec.structs.replace(event, model=stream.instance.model.id)
        self.failover.answered(stream)
        self._places.detach(stream, stop=False)
        self._close(stream, finish)

    def _driver_failed(self, stream: Stream, event: Failure) -> None:
        if stream.trial is not None and stream.trial.failed(error_from_code(event.code, event.message)):
            return
        if not self.failover.refused(stream, event):
            self._places.detach(stream, stop=False)
            self._give_up(stream, event)

    def _give_up(self, stream: Stream, failure: Failure) -> None:
        """End a stream that has no place any more, for what its places said of it."""
        told = failover.told(stream, failure)
        self._close(stream, msgspec.structs.replace(told, partial=stream.started))

    def _close(self, stream: Stream, terminal: Terminal) -> None:
        """Store the turn of a session first, if there is anything to store, then queue the terminal."""
        if stream.session is not None and (stream.started or isinstance(terminal, Finish)):
            stream.state = StreamState.STORING
            self._spawn(self._store(stream, terminal))
        else:
            self._end(stream, terminal)

    def _end(self, stream: Stream, terminal: Terminal) -> None:
        """Queue the one terminal."""
        assert stream.state is not StreamState.ENDED
        stream.state = StreamState.ENDED
        self.live.discard(stream)
        stream.end_trial()
        self.journals.ended(stream)
        if self._idle is not None and not self.live:
            self._idle.set()
        self._turns.release(stream)
        stream.body = b""
        stream.client.body_bytes -= stream.body_bytes
        stream.terminal = terminal
        for told in self.on_ended:
            told(stream, terminal)
        self._touch(stream)

    # ---- moving ------------------------------------------------------------------------------------------------

    def _move(self, stream: Stream, unit: Unit, source: str, reason: str) -> None:
        """Continue a stream on another unit; its client is told by a ``Moved`` once it goes on there."""
        stream.depart(source, reason)
        try:
            self._places.place(stream, unit)
        except ByenatosError as error:
            self._give_up(stream, failure_of(error))

    def _started(self, stream: Stream, instance: Instance) -> None:
        if stream.arrive(instance.model.id):
            self._touch(stream)
        self.journals.started(stream, instance)

    async def _store(self, stream: Stream, terminal: Terminal) -> None:
        self._end(stream, await self._turns.finish(stream, terminal))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- deadlines ---------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now = self._loop.time()
        self._sweep_timer = self._loop.call_later(SWEEP_S, self._sweep)
        for stream in list(self.live):
            if stream.state is StreamState.STORING:
                continue
            if now > stream.deadline:
                waited = now - stream.opened_at
                self._out_of_time(stream, f"the answer was not complete after {waited:.1f} s (timeout_s)")
            elif stream.lag:
                stream.progress = now  # it is the client that is silent
            elif (late := overdue(stream, now)) is not None and not self.failover.stalled(stream, late):
                self._out_of_time(stream, late.message)

    def _out_of_time(self, stream: Stream, what: str) -> None:
        why = self._places.why_waiting(stream)
        self.fail(stream, DeadlineExceeded(f"{what}: {why}" if why else what))
