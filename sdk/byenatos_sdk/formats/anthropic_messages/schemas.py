"""JSON schemas for structured answers: the API wants every object closed (``additionalProperties: false``)."""

from typing import Any

__all__ = ["closed"]

_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``schema`` with every object closed: what it allows then, it allowed before."""
    found = dict(schema)
    for name in _MAPS:
        inner = found.get(name)
        if isinstance(inner, dict):
            found[name] = {key: closed(one) if isinstance(one, dict) else one for key, one in inner.items()}
    for name in _LISTS:
        inner = found.get(name)
        if isinstance(inner, list):
            found[name] = [closed(one) if isinstance(one, dict) else one for one in inner]
    if isinstance(found.get("items"), dict):
        found["items"] = closed(found["items"])
    if found.get("type") == "object" or "properties" in found:
        found["additionalProperties"] = False
    return found
