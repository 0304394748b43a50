"""One swap: where it stands, who waits for it, and the table of where it may go."""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

import msgspec

from byenatos_kernel.routes import Slot
from byenatos_kernel.slot_queue import SlotQueue
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import (
    MOST_SESSION_MOVES,
    SessionLevel,
    SessionMove,
    SwapEvent,
    SwapRequest,
    SwapState,
)

T = TypeVar("T")

__all__ = ["ENDED", "TRANSITIONS", "Swap"]

TRANSITIONS: dict[SwapState, frozenset[SwapState]] = {
    SwapState.REQUESTED: frozenset({SwapState.VALIDATED, SwapState.FAILED}),
    SwapState.VALIDATED: frozenset({SwapState.PREPARING, SwapState.FAILED}),
    SwapState.PREPARING: frozenset({SwapState.PREPARED, SwapState.FAILED}),
    SwapState.PREPARED: frozenset({SwapState.SWITCHED, SwapState.FAILED}),
    SwapState.SWITCHED: frozenset({SwapState.DRAINING}),
    SwapState.DRAINING: frozenset({SwapState.RETIRED, SwapState.ROLLED_BACK}),
    SwapState.RETIRED: frozenset(),
    SwapState.FAILED: frozenset(),
    SwapState.ROLLED_BACK: frozenset(),
}
ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)


class Swap:
    """One swap: its current event, who waits for it, and the slot once it is ``bound`` to the target.

    ``forced`` says what is cut off because it was forced. ``avoid`` are units that cannot be its target, though they
    serve the model. ``queue`` is what the slot's requests wait in because of this swap. ``levels`` counts the
    conversations that moved, also those of which the event does not tell.
    """

    def __init__(
        self, number: int, request: SwapRequest, source: str, observe: Callable[[SwapEvent], None] | None = None
    ) -> None:
        now = time.time()
        self.request = request
        self.observe = observe
        self.forced = ""
        self.bound: Slot | None = None
        self.avoid: Collection[Unit] = ()
        self.queue: SlotQueue | None = None
        self.levels: dict[SessionLevel, int] = {}
        self.started = time.monotonic()
        self.event = SwapEvent(
            number,
            request.slot,
            source,
            request.model,
            request.strategy,
            SwapState.REQUESTED,
            now,
            cause=request.reason,
        )
        self.switched: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(self, error: ByenatosError) -> None:
        """Have a swap that has not switched yet fail for ``error``; what it waits for is not waited for any longer."""
        if not self.given_up.done():
            self.given_up.set_exception(error)
            self.given_up.exception()

    def check(self) -> None:
        """Raise what the swap was given up for, if it was."""
        if self.given_up.done():
            self.given_up.result()

    async def unless_given_up(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for ``work``, but not beyond :meth:`give_up`, whose error is raised."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody looks at it
        either: set[asyncio.Future[Any]] = {task, self.given_up}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            return task.result()
        finally:
            task.cancel()

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

    def note_move(self, move: SessionMove) -> None:
        """Add to what the event tells of conversations; those beyond ``MOST_SESSION_MOVES`` are counted only."""
        self.levels[move.level] = self.levels.get(move.level, 0) + 1
        if len(self.event.sessions) < MOST_SESSION_MOVES:
            self.event = msgspec.structs.replace(self.event, sessions=(*self.event.sessions, move))

    @property
    def reservation(self) -> str:
        """What stands among a unit's slots while this swap needs it, so that nothing else releases it."""
        return f"(swap {self.event.id})"
