"""The hot-swap manager: rebind a slot to another model while it serves.

One table (``swaps.py``), one method per arrow (``swap_steps.py``); every step is journaled before the next one begins::

    requested -> validated -> preparing -> prepared -> switched -> draining -> retired
        |            |            |            |                      |
        |            |            |            |                      +--> rolled back (the old binding again)
        +------------+------------+------------+--> failed      (the old binding was never touched)

What must stay true:

- Before ``switched`` nothing that serves is changed, so any failure, at any await, leaves the slot as it was.
- The switch itself is one assignment in the event loop (``Routes.bind``), with no await between it and the move of the
  streams: no request can see half of it. The journal entry and the new binding are one transaction.
- After ``switched`` there is nothing left that can fail: the old unit is kept for a while (``probation.py``), then
  drains for as long as its streams take, and until no conversation has its home there (``homes.py``). If the new one
  fails meanwhile, the slot is bound to the old one again, by one assignment and one transaction like those of the
  switch, and what runs at the new one follows.
- One swap at a time per slot, up to ``switched``; a drain may overlap the next swap, a probation may not.
- Where memory does not hold both models, the old one leaves between ``validated`` and ``preparing``: the slot stays
  bound to it, its requests wait, and a failure brings it back (``sequential.py``).

How a conversation gets to the target, the best way that the pair allows (``transfers.py``), chosen for each one and
told in the event (``SwapEvent.sessions``):

- ``kv``: between two instances whose warm state means the same in both, what runs moves with that state (``moves.py``).
  It is copied before the switch, while the old instance goes on, and the streams are cut over one by one behind it.
- ``tokens`` or ``text``: the target reads what was said (``text_moves.py``), behind the switch and while the old
  instance goes on, so that little is left to read when the stream is cut over. Whatever goes wrong with one stream's
  warm state moves that stream so.
- ``drain``: it ends where it is, because a tool call is out, or because the target let it wait too long for a first
  word (``trials.py``) and it went back.

Strategies: ``graceful`` lets running streams end on the old instance. ``immediate`` stops them at a token boundary and
continues them on the new one, with the text so far as prefix. The kernel's own copy of the text decides where that
boundary is: whatever the old driver still sends afterwards finds no stream. ``session_aware`` moves each conversation
between its own turns (``session_moves.py``): at the switch those that have something at the old instance stay at home
there, all else goes to the new one. ``background`` loads with low priority, waits in ``prepared`` until nothing of the
slot runs or waits, and then moves conversations likewise; until it has switched it can be given up, and any other swap
of the slot takes its place.

What was tried instead: moving streams one by one as they reach a boundary. It is no faster (a stop costs the driver one
message whatever it says) and it makes "which instance speaks for this stream" a question with two answers for a while.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

from byenatos_kernel.database import Database
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.instances import Instance
from byenatos_kernel.measurements import Measurements
from byenatos_kernel.registry import ModelRegistry
from byenatos_kernel.routes import Routes, Slot
from byenatos_kernel.session_moves import SessionMoves
from byenatos_kernel.session_states import SessionStates
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.swap_steps import SwapSteps
from byenatos_kernel.swaps import ENDED, TRANSITIONS, Swap
from byenatos_kernel.switchboard import Switchboard
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.control import Event
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    Cancelled,
    InvalidRequest,
    NotFound,
)
from byenatos_sdk.protocol.messages import SwapEvent, SwapRequest, SwapState

__all__ = ["HotSwapManager"]

log = logging.getLogger("byenatos")


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
        policy: Callable[[], SwapPolicy],
        states: SessionStates | None = None,
        *,
        measurements: Measurements,
    ) -> None:
        self._steps = SwapSteps(
            database,
            registry,
            drivers,
            routes,
            switchboard,
            publish,
            policy,
            states,
            measurements=measurements,
            forget=self._forget,
        )
        self.counts = self._steps.notes.counts
        self.rollbacks = self._steps.rollbacks
        self.probations = self.rollbacks.probations
        self._drivers = drivers
        self._routes = routes
        self._next = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._current: dict[str, Swap] = {}

    @property
    def conversations(self) -> SessionMoves:
        """What moves conversations between their turns."""
        return self._steps.transfers.sessions

    async def recover(self, configured: dict[str, str]) -> None:
        """Read the slots' bindings; a swap that a dead kernel left unfinished is undone or finished on paper.

        A binding that was switched to stays, unless the operator has changed the configuration of that slot since.
        """
        stored, last = await self._steps.journal.recover()
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
        return await self._steps.journal.history()

    async def bind(self, slot: Slot, unit: Unit) -> None:
        """Give a slot that serves nothing its first unit, and remember it."""
        self._routes.bind(slot, unit)
        await self._steps.journal.bind(slot)

    async def back(self, name: str) -> SwapEvent:
        """Roll the last swap of a slot back while its old unit is kept; return once all is at the old one again.

        Raises:
            NotFound, InvalidRequest: there is no such slot, or nothing is kept for it.
            Unavailable: what is kept cannot serve just now.
        """
        if name not in self._routes.slots:
            self._routes.resolve(name)
            raise InvalidRequest(f"{name!r} is a model, not a slot; `byenatos slots` lists the slots")
        swap = self.rollbacks.back(name)
        await asyncio.wait({swap.ended})
        return swap.event

    def give_up_kept(self, model: str | None = None) -> bool:
        """Let the old unit go that has been kept for the longest (of ``model``); return whether there was one."""
        return self.probations.give_up(model)

    def close(self) -> None:
        """The kernel stops: keep nothing any more, and go back to nothing."""
        while self.give_up_kept():
            pass

    async def try_out(self, unit: Unit) -> Instance:
        """Wait until a unit is loaded, says that it is well, and has shown that it can answer; return its instance.

        Raises:
            ByenatosError: why nothing should count on it.
        """
        return await self._steps.try_out(unit)

    async def swap(
        self,
        request: SwapRequest,
        observe: Callable[[SwapEvent], None] | None = None,
        *,
        avoid: Collection[Unit] = (),
    ) -> SwapEvent:
        """Swap, and return the event once new requests go to the target, or once the old model is gone.

        ``observe`` is called with each step. Units in ``avoid`` are not taken as the target.

        Raises:
            NotFound, InvalidRequest, Unavailable, Overloaded: why it failed; the slot is as it was.
        """
        slot = self._routes.slots.get(request.slot)
        if slot is None:
            self._routes.resolve(request.slot)
            raise InvalidRequest(f"{request.slot!r} is a model, not a slot; `byenatos slots` lists the slots")
        swap = Swap(self._next, request, slot.model, observe)
        swap.avoid = avoid
        if slot.swap is not None and slot.swap.state not in ENDED:
            self._supersede(slot, swap)
        self._next += 1
        slot.swap = swap.event
        self._current[slot.name] = swap
        task = asyncio.get_running_loop().create_task(self._steps.run(swap, slot))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, swap, slot))
        await asyncio.shield(swap.switched if request.until == "switched" else swap.ended)
        return swap.event

    async def cancel(self, name: str) -> SwapEvent:
        """Give up the swap of a slot that has not switched yet; return once the slot is as it was.

        Raises:
            NotFound: there is none.
        """
        swap = self._current.get(name)
        if swap is None or SwapState.FAILED not in TRANSITIONS[swap.event.state]:
            raise NotFound(f"no swap of slot {name!r} that could still be given up; `byenatos swaps` lists them")
        swap.give_up(Cancelled("given up by the operator"))
        await asyncio.wait({swap.ended})
        return swap.event

    def _supersede(self, slot: Slot, swap: Swap) -> None:
        """Give up a background swap that waits for its slot to be idle; what it has loaded stays for the next one.

        Where the old model has to leave first, it waits with nothing loaded.

        Raises:
            InvalidRequest: what runs is no such swap.
        """
        waiting = self._current[slot.name]
        event, sequential = waiting.event, waiting.event.mode == "sequential"
        left = sequential and slot.queue is not None  # the old model has, and requests wait: it goes on at once
        waits = SwapState.VALIDATED if sequential else SwapState.PREPARED
        if left or waiting.request.strategy != "background" or event.state is not waits:
            raise InvalidRequest(f"slot {slot.name!r} is being swapped to {event.target}; wait until it has switched")
        others = [unit for unit in (*swap.avoid, slot.unit) if unit is not None]  # no target of this swap
        prepared = self._drivers.find(swap.request.model, but=others)
        if prepared is not None:
            prepared.slots.add(swap.reservation)
        waiting.give_up(Cancelled(f"superseded by swap {swap.event.id} to {swap.request.model}"))

    def _done(self, task: asyncio.Task[None], swap: Swap, slot: Slot) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:  # a bug; whoever waits must not wait for ever
            log.error("swap %d failed", swap.event.id, exc_info=task.exception())
            self._forget(swap, slot)
            self._steps.unreserve(swap)
            self._steps.sequential.give_up(slot, ByenatosError("the kernel failed during a swap; its log says how"))
            for future in (swap.switched, swap.ended):
                if not future.done():
                    future.set_exception(ByenatosError("the kernel failed during the swap; its log says how"))
                    future.exception()

    def _forget(self, swap: Swap, slot: Slot) -> None:
        """The slot is not being swapped any more, unless another swap has taken over."""
        if self._current.get(slot.name) is swap:
            del self._current[slot.name]
            slot.swap = None
