"""What a JSON schema needs to know of others: two at once (``allOf``), none twice (``oneOf``), a value's types."""

from itertools import combinations
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["ANNOTATIONS", "disjoint", "kinds_of", "merged"]

# fmt: off
ANNOTATIONS = frozenset({
    "title", "description", "default", "examples", "$comment", "$schema", "$id", "deprecated", "readOnly", "writeOnly",
})
# fmt: on
"""Keywords that constrain nothing."""

_HIGHER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems"})
_LOWER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems"})


def merged(one: Any, other: Any, where: str, path: str) -> Any:
    """Return a schema for what matches both.

    Raises:
        InvalidRequest: two of their keywords cannot be put into one.
    """
    if one is True:
        return other
    if other is True:
        return one
    if not isinstance(one, dict) or not isinstance(other, dict):
        raise InvalidRequest(f"{where}: {path}: expected schemas (objects) in allOf, anyOf and oneOf")
    result = dict(one)
    for key, value in other.items():
        if key not in result or key in ANNOTATIONS:
            result[key] = value
        elif result[key] != value:
            result[key] = _both(key, result[key], value, where, path)
    return result


def _both(key: str, one: Any, other: Any, where: str, path: str) -> Any:
    try:
        if key in {"properties", "$defs", "definitions"}:
            shared = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
            return {**one, **other, **shared}
        if key == "required":
            return list(dict.fromkeys([*one, *other]))
        if key == "allOf":
            return [*one, *other]
        if key in _HIGHER:
            return max(one, other)
        if key in _LOWER:
            return min(one, other)
        if key == "type":
            both = [kind for kind in _listed(one) if kind in _listed(other)]
            if both:
                return both
        if key == "enum":
            return [value for value in one if value in other]
        if key == "additionalProperties" and False in (one, other):
            return False
    except TypeError:
        pass
    raise InvalidRequest(f"{where}: {path}: a grammar cannot express two different '{key}' at once")


def disjoint(branches: list[Any]) -> bool:
    """Say whether it is plain that no value matches two of ``branches``: by type, by constant, or by a member."""
    return all(_apart(one, other) for one, other in combinations(branches, 2))


def _apart(one: Any, other: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    values, others = _values(one), _values(other)
    if values is not None and others is not None:
        return not any(value in others for value in values)
    kinds, other_kinds = _listed(one.get("type")), _listed(other.get("type"))
    if kinds and other_kinds:
        numeric = {"number", "integer"}
        overlap = set(kinds) & set(other_kinds) or (numeric & set(kinds) and numeric & set(other_kinds))
        if not overlap:
            return True
    shared = set(one.get("required", ())) & set(other.get("required", ()))
    mine, theirs = one.get("properties", {}), other.get("properties", {})
    return any(_apart(mine[name], theirs[name]) for name in shared if name in mine and name in theirs)


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _listed(kind: Any) -> list[Any]:
    return [] if kind is None else [kind] if isinstance(kind, str) else list(kind)


def kinds_of(value: Any) -> set[str]:
    """Return the names of the JSON types that ``value`` has."""
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number", "integer"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
    return {"object"}
