"""How swaps ended since the kernel started, and how conversations moved in them, for whoever collects figures."""

from byenatos_kernel.swaps import ENDED, Swap
from byenatos_sdk.protocol.messages import SessionLevel

__all__ = ["SwapCounts"]


class SwapCounts:
    """Counts swaps by their last state (``ended``), and the conversations that they moved by level (``moves``)."""

    def __init__(self) -> None:
        self.ended: dict[str, int] = {}
        self.moves: dict[SessionLevel, int] = {}

    def advanced(self, swap: Swap) -> None:
        """A swap took a step; its last one counts."""
        state = swap.event.state
        if state not in ENDED:
            return
        self.ended[state.value] = self.ended.get(state.value, 0) + 1
        for level, count in swap.levels.items():
            self.moves[level] = self.moves.get(level, 0) + count
