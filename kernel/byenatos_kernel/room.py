"""Room for one more model: how many may be loaded, what memory holds, and what goes to make room.

Two bounds count: ``max_concurrent_models`` and the memory budget. What is only kept in case it is needed goes first,
and nothing goes in vain.
"""

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence

from byenatos_kernel.memory_budget import MemoryBudget
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_kernel.units import KEPT, PRELOADED, Unit
from byenatos_sdk.protocol.errors import Overloaded

__all__ = ["IN_CASE", "Room"]

IN_CASE = (KEPT, PRELOADED)
"""How the reservations of units begin that are kept in case they are needed."""


class Room:
    """What there is beside the ``units``.

    Whoever keeps units that could go if need be (see :meth:`evictable`) adds a function to ``evictors``. It gives one
    up, so that it is let go, and returns whether it had one to give. For the models in ``claims`` room is being made.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        nurseries: Nurseries | None,
        most_models: int,
        budget: MemoryBudget | None,
        release: Callable[[Unit], None],
    ) -> None:
        self.evictors: list[Callable[[], bool]] = []
        self.claims: list[ModelEntry] = []
        self.not_needed: Callable[[ModelEntry], list[Unit]] = lambda _: []
        """Which units nobody needs once there is room for a model, beside those that are kept in case."""
        self._units = units
        self._nurseries = nurseries
        self._most_models = most_models
        self._budget = budget
        self._release = release

    @property
    def full(self) -> bool:
        """Whether as many models are loaded as may be."""
        return len(_counted(unit for unit in self._units if unit.sockets is None)) >= self._most_models

    def lack(self, model: ModelEntry, *, overlap: int = 0, without: Container[Unit] = ()) -> str:
        """Say why there is no room for one more process of ``model``; empty if there is.

        ``without``: as if these units were gone.
        """
        models = [unit for unit in self._units if unit.sockets is None]
        units = [unit for unit in models if unit not in without]
        claims = [claimed for claimed in self.claims if claimed is not model]
        loaded = _counted(units) | {claimed.id for claimed in claims}
        if model.id not in loaded and len(loaded) >= self._most_models + overlap:
            return (
                f"{len(loaded)} models are loaded ({', '.join(sorted(loaded))}) and max_concurrent_models is "
                f"{self._most_models}; unload one or raise it"
            )
        if self._budget is None:
            return ""
        return self._budget.lack(
            model,
            [unit for unit in units if not unit.dead or unit.instance is not None],
            gone=[unit for unit in models if unit in without],
            claims=claims,
            kept_bytes=self._nurseries.idle_bytes if self._nurseries is not None else 0,
        )

    def evictable(self, model: ModelEntry) -> list[Unit]:
        """The units that make room for ``model``: those that somebody keeps in case, and those that it replaces.

        Reservations are the names in ``Unit.slots`` that stand in parentheses; those of such a unit begin with one of
        ``IN_CASE``. It is given up where its room is needed. What a swap keeps to be rolled back to does not count
        against ``max_concurrent_models``.
        """
        unneeded = [unit for unit in self._units if unit.slots and not (unit.pinned or unit.leaving)]
        in_case = [unit for unit in unneeded if all(name.startswith(IN_CASE) for name in unit.slots)]
        return [*in_case, *self.not_needed(model)]

    async def make(
        self, model: ModelEntry, *, overlap: int = 0, patient: bool = False, without: Sequence[Unit] = ()
    ) -> None:
        """Have room for one more process of ``model``, by giving up what is only kept in case.

        Idle templates go first, then what the ``evictors`` give; what is being stopped already is waited for. Nothing
        goes in vain: if all that could go would not suffice, nothing is given up. ``patient``: what leaves once its
        requests have ended is waited for, too. ``without``: as if these units were gone.

        Raises:
            Overloaded: that does not suffice, with all figures.
        """
        while lack := self.lack(model, overlap=overlap, without=without):
            stopping = [
                unit for unit in self._units if unit.leaving and (patient or not unit.busy) and unit not in without
            ]
            if stopping:
                await _first_gone(stopping)
            elif self._nurseries is not None and await self._nurseries.end_idle():
                continue
            elif self.lack(model, overlap=overlap, without=[*without, *self.evictable(model)]) or not self._evict(
                model
            ):
                raise Overloaded(lack)

    def _evict(self, model: ModelEntry) -> bool:
        """Let one unit go that makes room for ``model``; return whether there was one."""
        if any(evict() for evict in self.evictors):
            return True
        for unit in self.not_needed(model)[:1]:
            unit.slots.clear()
            self._release(unit)
            return True
        return False


def _counted(units: Iterable[Unit]) -> set[str]:
    """The models that count against ``max_concurrent_models``: not those on their way out, dead or spare."""
    return {unit.model.id for unit in units if not (unit.leaving or unit.dead or unit.spare)}


async def _first_gone(units: list[Unit]) -> None:
    """Wait until one of them is gone."""
    waits = [asyncio.ensure_future(unit.gone.wait()) for unit in units]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
