"""The switchboard: the life of every stream, from its request to its one terminal.

The idea: a stream belongs to exactly one place at any time (a unit's queue while it WAITs, an instance's table while it
RUNs, the store while its turn is being STOREd), and only :meth:`Switchboard._end` queues a terminal. Whatever dies, the
stream is taken out of its place and either put into another one or ended; it cannot be in two, so it cannot be answered
twice, and it cannot be in none, so it cannot be forgotten.

A stream that moves gets a new number on its new instance and loses the old one. Late deltas of the old instance find no
stream under the old number: that is the whole of the epoch fence.

What must stay true: nothing here awaits between reading a stream's place and changing it. The only awaits are around
the store: while a user's turn is written the stream WAITs in no queue and its state is looked at again afterwards;
while an assistant's turn is written it is STORING, which nothing interrupts.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol

import msgspec

from byenatos_kernel import failover
from byenatos_kernel.clients import ClientState
from byenatos_kernel.failover import Failover, failure_of
from byenatos_kernel.gaps import overdue
from byenatos_kernel.instances import Instance
from byenatos_kernel.journals import Journals
from byenatos_kernel.moves import Moves
from byenatos_kernel.places import Places
from byenatos_kernel.routes import Routes
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import JOIN_EVERY, Stream, StreamState
from byenatos_kernel.text_moves import Reading, TextMoves
from byenatos_kernel.trials import Trial
from byenatos_kernel.turns import Turns
from byenatos_kernel.units import Unit
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    Cancelled,
    ClientTooSlow,
    DeadlineExceeded,
    Draining,
    DriverCrashed,
    InvalidRequest,
    Overloaded,
    Unavailable,
    error_from_code,
)
from byenatos_sdk.protocol.frames import (
    MOST_EVENTS,
    DriverEvent,
    Open,
    count_events,
    decode_driver_events,
)
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    ReasoningDelta,
    Terminal,
    ToolCallDelta,
)

__all__ = ["Switchboard"]

LAG_LIMIT = 256 << 10
"""Bytes of one stream that may wait for its client."""
CLIENT_LAG_LIMIT = 16 << 20
"""Bytes of all streams of one client that may wait for it."""
STREAM_LIMIT = 4 << 20
"""Bytes of one whole answer."""
STREAMS_PER_CLIENT = 1024
CLIENT_BODY_LIMIT = 64 << 20
"""Bytes of the requests of one client that have not ended."""
DEFAULT_TIMEOUT_S = 600.0
SWEEP_S = 0.1
_LONG_PIECE = 4096
_CONTENT = (ReasoningDelta, ToolCallDelta, Logprobs)


class Wire(Protocol):
    """Where events leave for the clients; the bus."""

    dirty: dict[ClientState, None]
    flush_due: bool

    def flush(self) -> None:
        """Send what waits for the dirty clients."""

    def schedule_flush(self) -> None:
        """Flush at the end of this turn of the loop."""


class Switchboard:
    """Owns all streams. ``requests`` and ``deltas`` count since the start.

    Whoever is in ``on_opened`` is told of each stream whose request is complete (with a session: all of its turns) and
    about to be placed, whoever is in ``on_ended`` of each stream whose terminal was queued.
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
        self.requests = 0
        self.deltas = 0
        self.draining = False
        self.on_opened: list[Callable[[Stream], None]] = []
        self.on_ended: list[Callable[[Stream, Terminal], None]] = []
        self._routes = routes
        self._turns = turns
        self._wire = wire
        self._places = places
        places.fail = self.fail
        warm = warm or WarmState()
        self._states = states
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

    def open(self, client: ClientState, header: Open, body: bytes) -> None:
        """Accept a request: from here on it ends in exactly one terminal."""
        if header.id in client.streams or header.id in client.calls:
            raise InvalidRequest(f"stream {header.id} is already running on this connection")
        stream = Stream(client, header.id, header.target)
        stream.body = body
        stream.body_bytes = len(body)
        client.body_bytes += stream.body_bytes
        client.streams[header.id] = stream
        self.live.add(stream)
        self.requests += 1
        now = self._loop.time()
        stream.opened_at = stream.progress = now
        stream.deadline = now + (header.timeout_ms / 1000 or DEFAULT_TIMEOUT_S)
        stream.gap_s = header.gap_timeout_ms / 1000
        try:
            if self.draining:
                raise Draining("the kernel is stopping and takes no new requests", retry_after_s=5.0)
            if len(client.streams) > STREAMS_PER_CLIENT:
                raise Overloaded(f"this connection has {STREAMS_PER_CLIENT} streams already; wait for one to end")
            if client.body_bytes > CLIENT_BODY_LIMIT:
                raise Overloaded(
                    f"the running requests of this connection exceed {CLIENT_BODY_LIMIT >> 20} MiB; wait for one to end"
                )
            unit = self._resolve(stream, header.session)
            if not header.timeout_ms and unit.model.timeout_s:
                stream.deadline = now + unit.model.timeout_s
            if header.session is None:
                self._opened(stream)
                self._places.place(stream, unit)
            else:
                self._spawn(self._open_session(stream, self._turns.claim(stream, header.session)))
        except ByenatosError as error:
            self.fail(stream, error)

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

    # ---- from drivers: the hot path ----------------------------------------------------------------------------

    def deliver(self, instance: Instance, frames: list[bytes]) -> None:
        """Take the events of one read of a driver's channel and pass them on."""
        wire = self._wire
        wire.flush_due = True  # below, whatever the frames hold
        try:
            self._take(instance, frames)
        finally:
            wire.flush()

    def _take(self, instance: Instance, frames: list[bytes]) -> None:
        """Sort the events of one read by stream and give each its text at once: the bookkeeping is the cost."""
        streams = instance.streams
        texts: dict[int, list[str]] = {}
        try:
            for frame in frames:
                if len(frame) > MOST_EVENTS and count_events(frame) > MOST_EVENTS:
                    raise msgspec.DecodeError(
                        f"expected at most {MOST_EVENTS} events in a frame, found {count_events(frame)}"
                    )
                for number, event in decode_driver_events(frame):
                    if type(event) is str:
                        pieces = texts.get(number)
                        if pieces is not None:
                            pieces.append(event)
                        elif number in streams:
                            texts[number] = [event]
                        elif number in instance.listeners:
                            instance.event(number, event)
                    else:
                        if number in texts:
                            self._add_text(instance, number, texts.pop(number))
                        self._take_other(instance, number, event)
        finally:  # what came before a frame that cannot be read counts
            for number, pieces in texts.items():
                self._add_text(instance, number, pieces)

    def _add_text(self, instance: Instance, number: int, pieces: list[str]) -> None:
        """Queue what one read brought of a stream's text."""
        stream = instance.streams.get(number)
        if stream is None:
            return
        text = pieces[0] if len(pieces) == 1 else "".join(pieces)
        size = len(text)
        client = stream.client
        pending = stream.pending
        pending.append(text)
        self.deltas += len(pieces)
        stream.total += size
        stream.lag += size
        client.lag += size
        if not stream.dirty:
            stream.progress = instance.last_seen
            if stream.awaited:
                self._heard(stream, instance.last_seen)
            stream.dirty = True
            client.dirty.append(stream)
            self._wire.dirty[client] = None
        elif len(pending) >= JOIN_EVERY:
            stream.settle()
        if size > _LONG_PIECE:
            stream.settle()
        if stream.lag > LAG_LIMIT or client.lag > CLIENT_LAG_LIMIT or stream.total > STREAM_LIMIT:
            self._over_limit(stream)

    def _take_other(self, instance: Instance, number: int, event: DriverEvent) -> None:
        """Take any event but text."""
        stream = instance.streams.get(number) if number else None
        if stream is None:
            instance.event(number, event)
        elif type(event) is Finish:
            self._finish(stream, event)
        elif isinstance(event, _CONTENT):
            self.deltas += 1
            stream.progress = instance.last_seen
            if stream.awaited:
                self._heard(stream, instance.last_seen)
            stream.add_event(event)
            self._touch(stream)
            if stream.lag > LAG_LIMIT or stream.client.lag > CLIENT_LAG_LIMIT or stream.total > STREAM_LIMIT:
                self._over_limit(stream)
        elif type(event) is Failure:
            self._driver_failed(stream, event)

    def _heard(self, stream: Stream, at: float) -> None:
        """The first delta of a stream came at its present place."""
        stream.awaited = False
        if not stream.first_at:
            stream.first_at = at
        if stream.trial is not None:
            stream.trial.heard(at)

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
        self.draining = True
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

    def _over_limit(self, stream: Stream) -> None:
        if stream.total > STREAM_LIMIT:
            self.fail(stream, Overloaded(f"the answer is longer than {STREAM_LIMIT >> 20} MiB and was cut off here"))
        else:
            stream.discard()
            stream.paused = False
            self.fail(
                stream,
                ClientTooSlow(
                    f"the client did not read: {LAG_LIMIT >> 10} KiB of this stream, or "
                    f"{CLIENT_LAG_LIMIT >> 20} MiB of all its streams, were waiting for it"
                ),
            )

    def _resolve(self, stream: Stream, session: str | None) -> Unit:
        """The unit that a stream's target means, or what serves instead of a slot's model that is not loaded."""
        try:
            unit, stream.slot = self._routes.resolve_turn(stream.target, session)
        except Unavailable:
            instead = self._places.instead(stream.target)
            if instead is None:
                raise
            stream.slot = stream.target
            return instead
        return unit

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

    def _touch(self, stream: Stream) -> None:
        """Have the stream's client flushed."""
        client = stream.client
        if not stream.dirty:
            stream.dirty = True
            client.dirty.append(stream)
        self._wire.dirty[client] = None
        self._wire.schedule_flush()

    # ---- sessions ----------------------------------------------------------------------------------------------

    async def _open_session(self, stream: Stream, request: InferenceRequest) -> None:
        try:
            await self._turns.begin(stream, request)
            assert stream.session is not None
            await self._routes.homes.settled(stream.session)
            if stream.state is StreamState.WAITING:
                await self._wake(stream, self._resolve(stream, stream.session))
            if stream.state is StreamState.WAITING:
                unit = self._resolve(stream, stream.session)
                self._opened(stream)
                self._places.place(stream, unit)
        except ByenatosError as error:
            if stream.state is StreamState.WAITING:
                self.fail(stream, error)

    def _opened(self, stream: Stream) -> None:
        for told in self.on_opened:
            told(stream)

    async def _wake(self, stream: Stream, unit: Unit) -> None:
        """Bring the state of a hibernated session back before its turn."""
        session = stream.session
        if self._states is not None and session is not None and self._states.asleep(session) and unit.ready is not None:
            await self._states.wake_for_turn(unit.ready, session)

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
