"""References to items that are kept: clients that leave the state to the server send an item's id in its place."""

from collections.abc import Sequence
from typing import Any

from byenatos_sdk.protocol.errors import NotFound
from http_front.items import in_full
from http_front.kept import Keeper

__all__ = ["References", "listed"]


class References:
    """Finds what is meant, by the answer whose id is in the item's own."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def resolve(self, items: Sequence[Any], before: Sequence[dict[str, Any]], owner: str) -> list[Any]:
        """Return ``items`` with what references stand for; an item that is among those ``before`` is not said again.

        Raises:
            NotFound: an item is not kept here, or is somebody else's.
        """
        if not any(_is_reference(item) for item in items):
            return list(items)
        said = {item.get("id") for item in before}
        known: dict[str, dict[str, Any]] = {}
        found: list[Any] = []
        for at, item in enumerate(items):
            if not _is_reference(item):
                found.append(item)
            elif item["id"] not in said:
                found.append(await self._item(item["id"], f"input[{at}].id", known, owner))
        return found

    async def _item(self, id: str, where: str, known: dict[str, dict[str, Any]], owner: str) -> dict[str, Any]:
        if id not in known:
            within = id.partition("_")[2].rpartition("_")[0]
            try:
                kept = await self._keeper.find(f"resp_{within}", owner)
            except NotFound:
                raise NotFound(f"{where}: item {id[:80]!r} is not kept here") from None
            known |= {item["id"]: item for item in kept.answer["output"]}
            known |= {item["id"]: item for item in listed(kept.request["input"], within)}
        if id not in known:
            raise NotFound(f"{where}: item {id[:80]!r} is not kept here")
        return known[id]


def listed(items: Sequence[dict[str, Any]], within: str) -> list[dict[str, Any]]:
    """Return the items before the answer ``resp_{within}`` as they are listed."""
    return [in_full(item, f"item_{within}_{at}") for at, item in enumerate(items)]


def _is_reference(item: Any) -> bool:
    """Say whether an item is a reference; it need not have a type."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return False
    return item.get("type", "item_reference" if item.keys() == {"id"} else None) == "item_reference"
