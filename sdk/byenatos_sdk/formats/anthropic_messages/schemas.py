"""JSON schemas for structured answers: the API wants every object closed (``additionalProperties: false``)."""

from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["closed"]

_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``schema`` with every object closed: what it allows then, it allowed before.

    Raises:
        InvalidRequest: it is nested too deeply.
    """
    try:
        return _closed(schema)
    except RecursionError:
        raise InvalidRequest("response_format: expected a schema that is nested less deeply") from None


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    found = dict(schema)
    for name in _MAPS:
        inner = found.get(name)
        if isinstance(inner, dict):
            found[name] = {key: _closed(one) if isinstance(one, dict) else one for key, one in inner.items()}
    for name in _LISTS:
        inner = found.get(name)
        if isinstance(inner, list):
            found[name] = [_closed(one) if isinstance(one, dict) else one for one in inner]
    if isinstance(found.get("items"), dict):
        found["items"] = _closed(found["items"])
    if found.get("type") == "object" or "properties" in found:
        found["additionalProperties"] = False
    return found
