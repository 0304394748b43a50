"""The hot-swap manager: rebind a slot to another model while it serves.

One table, :data:`TRANSITIONS`; one method per arrow; every step is journaled before the next one begins::

    requested -> validated -> preparing -> prepared -> switched -> draining -> retired
        |            |            |            |
        +------------+------------+------------+--> failed      (the old binding was never touched)

What must stay true:

- Before ``switched`` nothing that serves is changed, so any failure, at any await, leaves the slot as it was.
- The switch itself is one assignment in the event loop (``Routes.bind``), with no await between it and the move of the
  streams: no request can see half of it. The journal entry and the new binding are one transaction.
- After ``switched`` there is nothing left that can fail: the old unit drains for as long as its streams take.
- One swap at a time per slot, up to ``switched``; a drain may overlap the next swap.

Between two instances of one model whose warm state means the same in both, an ``immediate`` swap moves what runs with
that state (``moves.py``): it is copied before the switch, while the old instance goes on, and the streams are cut over
one by one behind the switch. Whatever goes wrong with one stream's state moves that stream by text.

Strategies: ``graceful`` lets running streams end on the old instance. ``immediate`` stops them at a token boundary and
continues them on the new one, with the text so far as prefix. The kernel's own copy of the text decides where that
boundary is: whatever the old driver still sends afterwards finds no stream.

What was tried instead: moving streams one by one as they reach a boundary. It is no faster (a stop costs the driver one
message whatever it says) and it makes "which instance speaks for this stream" a question with two answers for a while.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

import msgspec

from byenatos_kernel.database import Database
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.moves import Copied, Route
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.streams import Stream
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import Event, SwapAdvanced
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, Unavailable
from byenatos_sdk.protocol.frames import UNREADABLE, encode
from byenatos_sdk.protocol.messages import ModelHealthStatus, SwapEvent, SwapRequest, SwapState

__all__ = ["ENDED", "TRANSITIONS", "HotSwapManager", "Swap"]

TRANSITIONS: dict[SwapState, frozenset[SwapState]] = {
    SwapState.REQUESTED: frozenset({SwapState.VALIDATED, SwapState.FAILED}),
    SwapState.VALIDATED: frozenset({SwapState.PREPARING, SwapState.FAILED}),
    SwapState.PREPARING: frozenset({SwapState.PREPARED, SwapState.FAILED}),
    SwapState.PREPARED: frozenset({SwapState.SWITCHED, SwapState.FAILED}),
    SwapState.SWITCHED: frozenset({SwapState.DRAINING}),
    SwapState.DRAINING: frozenset({SwapState.RETIRED}),
    SwapState.RETIRED: frozenset(),
    SwapState.FAILED: frozenset(),
}
ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
HISTORY = 200

log = logging.getLogger("byenatos")

_decode_event = msgspec.msgpack.Decoder(SwapEvent).decode
_decode_health = msgspec.msgpack.Decoder(ModelHealthStatus).decode


class Swap:
    """One swap: its current event, who waits for it, and the slot once it is ``bound`` to the target."""

    def __init__(
        self, number: int, request: SwapRequest, source: str, observe: Callable[[SwapEvent], None] | None = None
    ) -> None:
        now = time.time()
        self.request = request
        self.observe = observe
        self.bound: Slot | None = None
        self.started = time.monotonic()
        self.event = SwapEvent(number, request.slot, source, request.model, request.strategy, SwapState.REQUESTED, now)
        self.switched: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def advance(self, state: SwapState, *, detail: str = "", moved: int | None = None, draining: int = 0) -> None:
        """Go to ``state``; one that the table does not allow is a bug and raises ``AssertionError``."""
        old = self.event
        assert state in TRANSITIONS[old.state], f"swap {old.id}: {old.state} -> {state}"
        self.event = msgspec.structs.replace(
            old,
            state=state,
            at=time.time(),
            elapsed_s=round(time.monotonic() - self.started, 6),
            detail=detail or old.detail,
            moved_streams=old.moved_streams if moved is None else moved,
            draining_streams=draining,
        )


class _Copies:
    """What was copied ahead of a switch: the streams, and the way that they go (none if all goes by text)."""

    def __init__(self, route: Route | None, streams: dict[Stream, Copied]) -> None:
        self.route = route
        self.streams = streams


class HotSwapManager:
    """Runs swaps. Slots keep their binding in the database, so that a restarted kernel serves what was switched to."""

    def __init__(
        self,
        database: Database,
        registry: ModelRegistry,
        drivers: DriverManager,
        routes: Routes,
        switchboard: Switchboard,
        publish: Callable[[Event], None],
        states: SessionStates | None = None,
    ) -> None:
        self._states = states
        self._database = database
        self._registry = registry
        self._drivers = drivers
        self._routes = routes
        self._switchboard = switchboard
        self._publish = publish
        self._next = 1
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self, configured: dict[str, str]) -> None:
        """Read the slots' bindings; a swap that a dead kernel left unfinished is undone or finished on paper.

        A binding that was switched to stays, unless the operator has changed the configuration of that slot since.
        """

        def job(connection: sqlite3.Connection) -> tuple[list[tuple[str, str, str]], int]:
            for number, blob in connection.execute("SELECT id, event FROM swaps").fetchall():
                event = _decode_event(blob)
                if event.state in ENDED:
                    continue
                done = event.state in {SwapState.SWITCHED, SwapState.DRAINING}
                state = SwapState.RETIRED if done else SwapState.FAILED
                event = msgspec.structs.replace(event, state=state, detail="the kernel stopped during this swap")
                connection.execute("UPDATE swaps SET state=?, event=? WHERE id=?", (state.value, encode(event), number))
            slots = connection.execute("SELECT name, model, configured FROM slots").fetchall()
            last = connection.execute("SELECT coalesce(max(id), 0) FROM swaps").fetchone()[0]
            return slots, last

        stored, last = await self._database.run(job)
        self._next = last + 1
        for name, model, was_configured in stored:
            now_configured = configured.get(name, "")
            changed = now_configured and now_configured != was_configured
            self._routes.slots[name] = Slot(name, now_configured if changed else model, now_configured)
        for name, model in configured.items():
            self._routes.slots.setdefault(name, Slot(name, model, model))
        self._routes.slots.setdefault("default", Slot("default", "", ""))

    async def history(self) -> list[SwapEvent]:
        """The last swaps, the newest first, as far as each has come."""

        def job(connection: sqlite3.Connection) -> list[SwapEvent]:
            rows = connection.execute("SELECT event FROM swaps ORDER BY id DESC LIMIT ?", (HISTORY,))
            return [_decode_event(row[0]) for row in rows]

        return await self._database.run(job)

    async def bind(self, slot: Slot, unit: Unit) -> None:
        """Give a slot that serves nothing its first unit, and remember it."""
        self._routes.bind(slot, unit)
        await self._database.run(lambda connection: _write_slot(connection, slot))

    async def swap(self, request: SwapRequest, observe: Callable[[SwapEvent], None] | None = None) -> SwapEvent:
        """Swap, and return the event once new requests go to the target, or once the old model is gone.

        ``observe`` is called with each step.

        Raises:
            NotFound, InvalidRequest, Unavailable, Overloaded: why it failed; the slot is as it was.
        """
        slot = self._routes.slots.get(request.slot)
        if slot is None:
            self._routes.resolve(request.slot)
            raise InvalidRequest(f"{request.slot!r} is a model, not a slot; `byenatos slots` lists the slots")
        if slot.swap is not None and slot.swap.state not in ENDED:
            raise InvalidRequest(
                f"slot {slot.name!r} is being swapped to {slot.swap.target}; wait until it has switched"
            )
        swap = Swap(self._next, request, slot.model, observe)
        self._next += 1
        slot.swap = swap.event
        task = asyncio.get_running_loop().create_task(self._run(swap, slot))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, swap, slot))
        await asyncio.shield(swap.switched if request.until == "switched" else swap.ended)
        return swap.event

    def _done(self, task: asyncio.Task[None], swap: Swap, slot: Slot) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:  # a bug; whoever waits must not wait for ever
            log.error("swap %d failed", swap.event.id, exc_info=task.exception())
            slot.swap = None
            for future in (swap.switched, swap.ended):
                if not future.done():
                    future.set_exception(ByenatosError("the kernel failed during the swap; its log says how"))
                    future.exception()

    # ---- the arrows --------------------------------------------------------------------------------------------

    async def _run(self, swap: Swap, slot: Slot) -> None:
        """Take a swap through its states, one arrow after the other."""
        target: Unit | None = None
        try:
            await self._note(swap, slot)
            target = self._validate(swap, slot)
            await self._note(swap, slot)
            await self._prepare(swap, slot, target)
            copies = await self._copy(swap, slot, target)
            left = await self._switch(swap, slot, target, copies)
        except ByenatosError as error:
            slot.swap = None
            swap.advance(SwapState.FAILED, detail=error.message)
            if target is not None:
                target.slots.discard(_reservation(swap))
                self._drivers.release(target)
            try:
                await self._note(swap, None)
            finally:
                for future in (swap.switched, swap.ended):
                    future.set_exception(error)
                    future.exception()
            return
        await self._cut_over(swap, target, copies)
        slot.swap = None
        swap.switched.set_result(None)
        await self._drain(swap, left)
        swap.ended.set_result(None)

    def _validate(self, swap: Swap, slot: Slot) -> Unit:
        """Requested -> validated: the target is known, and there is room for it. Starts it or joins one that runs."""
        model = self._registry.model(swap.request.model)
        running = self._drivers.find(model.id)
        if running is None or running is slot.unit or running.dead:
            if running is not None and running.dead:
                self._drivers.drop(running)
            target = self._drivers.load(model, overlap=1)
        else:
            self._registry.plugin_for(model)
            target = running
        target.slots.add(_reservation(swap))
        swap.advance(SwapState.VALIDATED)
        return target

    async def _prepare(self, swap: Swap, slot: Slot, target: Unit) -> None:
        """Validated -> preparing -> prepared: the target is loaded and says that it is well."""
        swap.advance(SwapState.PREPARING)
        await self._note(swap, slot)
        instance = await target.until_ready()
        await _check_health(instance)
        swap.advance(SwapState.PREPARED)
        await self._note(swap, slot)

    async def _copy(self, swap: Swap, slot: Slot, target: Unit) -> "_Copies":
        """While the old still serves: give the target the state of what runs and of idle sessions, if it can read it.

        Whatever cannot be copied moves by text, as between any two models.
        """
        source = slot.unit.ready if slot.unit is not None else None
        new = target.ready
        if source is None or new is None or source is new or source.model.id != new.model.id:
            return _Copies(None, {})
        moves = self._switchboard.moves
        try:
            route = await moves.route(source, new)
        except ByenatosError as error:
            log.debug("swap %d moves by text: %s", swap.event.id, error.message)
            return _Copies(None, {})
        if self._states is not None:
            await self._states.move_idle(route)
        copied: dict[Stream, Copied] = {}
        if swap.request.strategy == "immediate":
            for stream in [one for one in source.streams.values() if one.slot == slot.name and not one.parts]:
                try:
                    copied[stream] = await moves.pre_copy(stream, route)
                except ByenatosError as error:
                    log.debug("stream %d moves by text: %s", stream.id, error.message)
        return _Copies(route, copied)

    async def _cut_over(self, swap: Swap, target: Unit, copies: "_Copies") -> None:
        """After the switch: move what was copied, one after the other; what cannot go with its state goes by text."""
        route = copies.route
        if route is None:
            return
        moved, warm = swap.event.moved_streams, 0
        for stream, copied in copies.streams.items():
            if await self._switchboard.moves.cut_over(copied, route, "swap"):
                warm += 1
            elif stream.instance is route.source and self._switchboard.move_by_text(stream, target, "swap"):
                moved += 1
        exact = "" if route.exact else ", not exact: another arithmetic"
        swap.event = msgspec.structs.replace(
            swap.event,
            moved_streams=moved + warm,
            warm_streams=warm,
            draining_streams=len(route.source.streams),
            detail=f"{warm} with their state{exact}" if warm else swap.event.detail,
        )

    async def _switch(self, swap: Swap, slot: Slot, target: Unit, copies: "_Copies") -> Unit | None:
        """Prepared -> switched: the one assignment, and the move of the streams.

        Those that move with their state go on at the old instance, as in a graceful swap, until it is their turn.
        """
        if target.ready is None:
            self._abandon(copies)
            raise Unavailable(f"{target.model.id} was lost just before the switch")
        left = self._routes.bind(slot, target)
        target.slots.discard(_reservation(swap))
        moved = stayed = 0
        if left is not None:
            moved, stayed = self._switchboard.take_over(
                slot.name, left, target, running=swap.request.strategy == "immediate", but=copies.streams
            )
        swap.advance(SwapState.SWITCHED, moved=moved, draining=stayed)
        slot.swap = swap.event
        swap.bound = slot
        self._announce(swap)
        try:
            await self._database.run(lambda connection: _record(connection, swap))
        except ByenatosError as error:
            # The switch stands; only its record is missing. The next steps try again.
            swap.event = msgspec.structs.replace(swap.event, detail=f"not recorded: {error.message}")
        return left

    def _abandon(self, copies: "_Copies") -> None:
        if copies.route is not None:
            for copied in copies.streams.values():
                self._switchboard.moves.abandon(copied, copies.route)

    async def _drain(self, swap: Swap, left: Unit | None) -> None:
        """Switched -> draining -> retired: the old unit goes once nothing needs it."""
        swap.advance(SwapState.DRAINING, draining=swap.event.draining_streams)
        await self._note(swap, None)
        if left is not None and not left.wanted:
            self._drivers.release(left)
            await left.gone.wait()
        swap.advance(SwapState.RETIRED)
        self._registry.forget_removed()
        await self._note(swap, None)

    async def _note(self, swap: Swap, slot: Slot | None) -> None:
        """Publish and journal where the swap stands."""
        if slot is not None:
            slot.swap = swap.event
        self._announce(swap)
        try:
            await self._database.run(lambda connection: _record(connection, swap))
        except ByenatosError:
            if TRANSITIONS[swap.event.state] >= {SwapState.FAILED}:
                raise

    def _announce(self, swap: Swap) -> None:
        self._publish(SwapAdvanced(swap.event.at, swap.event))
        if swap.observe is not None:
            swap.observe(swap.event)


async def _check_health(instance: Instance) -> None:
    """Raise unless the instance answers that it can serve."""
    try:
        health = _decode_health(await instance.call("health"))
    except UNREADABLE as error:
        raise Unavailable(f"{instance.model.id} gave no proper answer to how it feels: {error}") from None
    if health.status == "down":
        raise Unavailable(f"{instance.model.id} says that it is down: {health.detail or 'it does not say why'}")


def _reservation(swap: Swap) -> str:
    """What stands among a unit's slots while a swap prepares it, so that nothing else releases it."""
    return f"(swap {swap.event.id})"


def _record(connection: sqlite3.Connection, swap: Swap) -> None:
    """Write where a swap stands and, once it has switched, what its slot is bound to: together or not at all."""
    if swap.bound is not None:
        _write_slot(connection, swap.bound)
    _write_swap(connection, swap)


def _write_slot(connection: sqlite3.Connection, slot: Slot) -> None:
    connection.execute(
        "INSERT INTO slots VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE SET model=excluded.model, "
        "configured=excluded.configured",
        (slot.name, slot.model, slot.configured),
    )


def _write_swap(connection: sqlite3.Connection, swap: Swap) -> None:
    event = swap.event
    connection.execute(
        "INSERT INTO swaps VALUES (?, ?, ?, ?) "
        "ON CONFLICT(id) DO UPDATE SET state=excluded.state, event=excluded.event",
        (event.id, event.slot, event.state.value, encode(event)),
    )
