"""A beginning that several sequences have in common, in the same cells of the context.

llama.cpp tags a cell with all sequences that it belongs to, so what begins alike is computed and kept once. ``Room``
has to know which sequences do so: it copies them out and in to close holes, and they must lie in the same cells again.

A prefix is a chain of cells: each member holds the first of them, as many as it says, and all members agree on those.
Only a member that holds the whole chain may make it longer, by cells of its own: two that went on in different ways
from the middle would not agree. Whoever cannot begins a prefix of its own.
"""

__all__ = ["Prefix", "count_shared"]


class Prefix:
    """``length`` is how many cells the chain ever had; members may hold fewer by now."""

    def __init__(self, length: int) -> None:
        self.length = length


def count_shared(held: list[int], wanted: list[int]) -> int:
    """Return how many tokens two lists have in common at their beginning."""
    low, high = 0, min(len(held), len(wanted))
    if held[:high] == wanted[:high]:
        return high
    while high - low > 1:  # they agree below ``low`` and not below ``high``
        middle = (low + high) // 2
        if held[low:middle] == wanted[low:middle]:
            low = middle
        else:
            high = middle
    return low
