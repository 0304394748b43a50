"""Where a swap stands, told to everybody who wants to know: its slot, the counts, clients, and the journal."""

from collections.abc import Callable

from byenatos_kernel.routes import Slot
from byenatos_kernel.swap_counts import SwapCounts
from byenatos_kernel.swap_journal import SwapJournal
from byenatos_kernel.swaps import TRANSITIONS, Swap
from byenatos_sdk.protocol.control import Event, SwapAdvanced
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import SwapState

__all__ = ["SwapNotes"]


class SwapNotes:
    """Tells of the steps of swaps."""

    def __init__(self, journal: SwapJournal, publish: Callable[[Event], None]) -> None:
        self.counts = SwapCounts()
        self._journal = journal
        self._publish = publish

    async def note(self, swap: Swap, slot: Slot | None = None) -> None:
        """Publish and journal where a swap stands; ``slot`` says so as well.

        Raises:
            ByenatosError: it has not switched yet and cannot be journaled.
        """
        if slot is not None:
            slot.swap = swap.event
        self.announce(swap)
        await self.record(swap)

    async def record(self, swap: Swap) -> None:
        """Journal where a swap stands; from ``switched`` on that may fail, and the next step tries again.

        Raises:
            ByenatosError: it has not switched yet and cannot be journaled.
        """
        try:
            await self._journal.record(swap)
        except ByenatosError:
            if TRANSITIONS[swap.event.state] >= {SwapState.FAILED}:
                raise

    def announce(self, swap: Swap) -> None:
        """Publish where a swap stands."""
        self.counts.advanced(swap)
        self._publish(SwapAdvanced(swap.event.at, swap.event))
        if swap.observe is not None:
            swap.observe(swap.event)
