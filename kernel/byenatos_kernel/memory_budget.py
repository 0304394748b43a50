"""The memory budget: what a model will take is known before it is loaded, and whether there is room for it.

A model takes its weights and what is private to each of its processes: the context, and what a step computes in. The
weights are the file's pages, which all processes of one model share. Drivers say both, from the header of the file and
the configured settings (``ModelSpecification.memory_bytes``); of one that says nothing the size of the file counts, and
of a vendor's model nothing.

The budget is ``[memory] budget_mib`` of ``swap.toml``; what is loaded counts against it with what it was said to take.
Without one, the machine's free memory counts, within the limits of control groups. That figure holds the weights of
running models to be free, since the system could drop them, and does not know yet what a model that is being loaded
will take: both are subtracted. Layers that go to a GPU count as if they stayed: the figure is then too large.

What a driver says is a word: of a model that runs no more counts than the size of its files and the memory that its
processes are granted.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from byenatos_kernel.free_memory import free_bytes
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.swap_policy import SwapPolicy
from byenatos_kernel.units import Unit

__all__ = ["MemoryBudget", "MemoryNeed"]

_MIB = 1 << 20


class MemoryNeed(Struct, frozen=True):
    """Bytes that a model takes: ``shared`` by its processes, and ``private`` to each."""

    shared: int = 0
    private: int = 0

    @classmethod
    def of(cls, model: ModelEntry) -> "MemoryNeed":
        """What ``model`` is said to take."""
        found = model.specification or model.declared
        if found is None:
            return cls()
        size, taken = max(found.size_bytes, 0), max(found.memory_bytes, 0)  # a driver's word
        if not taken:
            return cls(private=size)
        shared = size if size < taken else 0
        return cls(shared, taken - shared)


class MemoryBudget:
    """Says whether a model fits beside what is loaded. ``free`` tells what the machine has, in bytes."""

    def __init__(self, policy: Callable[[], SwapPolicy], free: Callable[[], int] = free_bytes) -> None:
        self._policy = policy
        self._free = free

    def lack(
        self,
        model: ModelEntry,
        units: Iterable[Unit],
        *,
        gone: Iterable[Unit] = (),
        claims: Iterable[ModelEntry] = (),
        kept_bytes: int = 0,
    ) -> str:
        """Say in a sentence with all figures why one more process of ``model`` does not fit; empty if it does.

        ``units`` are those whose processes hold memory or will; ``kept_bytes`` is held beside them (by templates). What
        the units in ``gone`` hold now is counted as free, and what the models in ``claims`` will take as taken.
        """
        need = MemoryNeed.of(model)
        loaded = [(unit, _held(unit)) for unit in units]
        weights = {unit.model.id: one.shared for unit, one in loaded}
        wanted = need.private + (0 if model.id in weights else need.shared)
        if not wanted:
            return ""
        claimed = sum(one.shared + one.private for one in map(MemoryNeed.of, claims))
        budget = self._policy().memory.budget_mib * _MIB
        if budget:
            taken = sum(weights.values()) + sum(one.private for _, one in loaded) + kept_bytes + claimed
            left, of_what = budget - taken, f"of the {_mib(budget)} of [memory] budget_mib in swap.toml"
        else:
            coming = sum(one.private for unit, one in loaded if unit.ready is None and not unit.leaving)
            freed = sum(_held(unit).private for unit in gone if unit.ready is not None)
            left, of_what = self._free() + freed - sum(weights.values()) - coming - claimed, "free on this machine"
        if wanted <= left:
            return ""
        shown = ", ".join(f"{unit.model.id} ({_mib(one.shared + one.private)})" for unit, one in loaded) or "nothing"
        return (
            f"{model.id} takes {_mib(wanted)} of memory, and {_mib(max(left, 0))} are left {of_what}; loaded: {shown}"
        )


def _held(unit: Unit) -> MemoryNeed:
    """What a unit is said to take, and no more than it can: else a driver's word could keep all others out."""
    said, file = MemoryNeed.of(unit.model), unit.model.file
    weights = sum(one.identity[2] for one in (file, *file.further)) if file is not None else 0
    granted = unit.grant.memory_mib * _MIB
    return MemoryNeed(min(said.shared, weights), min(said.private, granted) if granted else said.private)


def _mib(count: int) -> str:
    return f"{count / _MIB:.0f} MiB"
