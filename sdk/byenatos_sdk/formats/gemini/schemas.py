"""Schemas of tools and answers that came in Gemini's dialect of OpenAPI: types in capitals, no references.

Outward nothing is turned: ``parametersJsonSchema`` and ``responseJsonSchema`` take JSON schemas as they are.
"""

from typing import Any

from byenatos_sdk.formats.gemini.names import word_of
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["json_schema_of"]

_WHOLE = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_NAMES = {
    "any_of": "anyOf",
    "additional_properties": "additionalProperties",
    "max_items": "maxItems",
    "max_length": "maxLength",
    "max_properties": "maxProperties",
    "min_items": "minItems",
    "min_length": "minLength",
    "min_properties": "minProperties",
    "property_ordering": "propertyOrdering",
}


def json_schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema that allows what ``schema`` allows; ``nullable`` becomes another type.

    Raises:
        InvalidRequest: it is nested too deeply.
    """
    try:
        return _turned(schema)
    except RecursionError:
        raise InvalidRequest("body: expected schemas that are nested less deeply") from None


def _turned(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in schema.items():
        name = _NAMES.get(key, key)
        if value is None or name in {"nullable", "propertyOrdering"}:
            continue
        found[name] = _converted(name, value)
    if found.get("type") == "type_unspecified":
        del found["type"]
    if schema.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        if isinstance(found.get("enum"), list) and None not in found["enum"]:
            found["enum"] = [*found["enum"], None]
    return found


def _converted(name: str, value: Any) -> Any:
    if name == "type":
        value = word_of(name, value)
        return value.lower() if isinstance(value, str) else value
    if name in _WHOLE:
        return _whole(value)
    if name == "properties" and isinstance(value, dict):
        return {key: _inner(one) for key, one in value.items()}
    if name == "anyOf" and isinstance(value, list):
        return [_inner(one) for one in value]
    if name in {"items", "additionalProperties"}:
        return _inner(value)
    return value


def _inner(value: Any) -> Any:
    return _turned(value) if isinstance(value, dict) else value


def _whole(value: Any) -> Any:
    """Return a count: 64-bit numbers may come as text, and as floats from clients that know no others."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
