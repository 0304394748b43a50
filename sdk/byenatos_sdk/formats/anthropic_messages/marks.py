"""Marks on single blocks and tools (``cache_control`` and the like), kept in ``extra["block_fields"]`` by place.

Places are counted from the end of the conversation, so that a transcript that is put before it moves none of them:
``messages.-1.0`` is the last message's first part, ``tools.-1`` the last tool. A mark whose part is gone when the
request is written is left out: it changes what an answer costs, not what is asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from byenatos_sdk.protocol.messages import InferenceRequest, Part, Tool

__all__ = ["BLOCK_FIELDS", "Marks", "place_marks"]

BLOCK_FIELDS = "block_fields"
"""The key in ``extra``."""


class Marks:
    """The marks of one request, found by the part or tool that they stand on."""

    def __init__(self, request: InferenceRequest, extra: Mapping[str, Any]) -> None:
        self._by_part: dict[int, dict[str, Any]] = {}
        found = extra.get(BLOCK_FIELDS)
        for place, fields in found.items() if isinstance(found, dict) else ():
            marked = _at(request, place)
            if marked is not None and isinstance(fields, dict):
                self._by_part[id(marked)] = fields

    def of(self, part: Part | Tool) -> dict[str, Any]:
        """Return the fields that stand beside ``part``'s own; the request that it is of must still be alive."""
        return self._by_part.get(id(part), {})


def _at(request: InferenceRequest, place: str) -> Part | Tool | None:
    kind, *numbers = place.split(".")
    try:
        at = [int(number) for number in numbers]
        if kind == "tools" and len(at) == 1:
            return request.tools[at[0]]
        if kind == "messages" and len(at) == 2:
            return request.messages[at[0]].parts[at[1]]
    except (ValueError, IndexError):
        pass
    return None


def place_marks(
    request_parts: Sequence[Sequence[Part]], tools: Sequence[Tool], fields: Mapping[int, dict[str, Any]]
) -> dict[str, dict[str, Any]] | None:
    """Return marks by place; ``fields`` holds them by the identity of the part or tool."""
    placed: dict[str, dict[str, Any]] = {}
    for turn, parts in enumerate(request_parts, -len(request_parts)):
        for at, part in enumerate(parts):
            if id(part) in fields:
                placed[f"messages.{turn}.{at}"] = fields[id(part)]
    for at, tool in enumerate(tools, -len(tools)):
        if id(tool) in fields:
            placed[f"tools.{at}"] = fields[id(tool)]
    return placed or None
