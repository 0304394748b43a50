"""Items of OpenAI's Responses as they are listed: each with a type and an id, in pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["in_full", "item_page", "items_of"]

_MOST = 100
_USUAL = 20
_ORDERS = ("asc", "desc")
_STATED = frozenset({"message", "function_call", "function_call_output"})
"""Types of items that have a status."""


def items_of(text: str) -> list[dict[str, Any]]:
    """Return the items that a text alone stands for."""
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


def in_full(item: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Return an item as it is listed: with a type, with ``id`` if it has none, and a message's content in parts."""
    kind = item.get("type") or "message"
    full = {**item, "id": item.get("id") or id, "type": kind}
    if kind in _STATED and not full.get("status"):
        full["status"] = "completed"
    if kind == "message" and isinstance(item.get("content"), str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        full["content"] = [{"type": part, "text": item["content"]}]
    return full


def item_page(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Return the page of ``items``, the earliest first, that ``query`` asks for: the latest first if it says nothing.

    Raises:
        InvalidRequest: a field of it is wrong, or there is no item of that id.
    """
    order = query.get("order", "desc")
    if order not in _ORDERS:
        raise InvalidRequest(f"order: expected asc or desc, found {order[:20]!r}")
    limit = query.get("limit", str(_USUAL))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MOST):
        raise InvalidRequest(f"limit: expected 1 to {_MOST}, found {limit[:20]!r}")
    listed = list(items) if order == "asc" else list(reversed(items))
    if after := query.get("after"):
        found = [at for at, item in enumerate(listed) if item["id"] == after]
        if not found:
            raise InvalidRequest(f"after: expected the id of one of the items, found {after[:80]!r}")
        listed = listed[found[0] + 1 :]
    page = listed[: int(limit)]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(listed) > len(page)}
