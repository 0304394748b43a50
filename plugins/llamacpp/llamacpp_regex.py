"""GBNF expressions for JSON strings: literals, regular expressions, and all strings but a few.

A regular expression is read with Python's parser, which agrees with ECMAScript on what is taken here: characters,
classes, groups, alternatives, repetitions, and anchors at the ends. As in JSON schema it may match anywhere in the
string unless it is anchored.
"""

import json
import re
from collections.abc import Iterable
from re import _parser as parser  # type: ignore[attr-defined]  # the tree of a pattern has no public reader
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["literal", "pattern_to_gbnf", "strings_but"]

MAX_PATTERN = 2000
MAX_REPEAT = 1000
_TOP = 0x10FFFF
_FORBIDDEN = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), (0xD800, 0xDFFF))
"""What does not stand in a JSON string as it is, and half a surrogate pair."""

_ESCAPED = (0x22, 0x5C, 0x09, 0x0A, 0x0D)
"""What a class lets through escaped."""

_LINE_ENDS = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_BEYOND_ASCII = [(0x80, _TOP)]
_DIGITS = [(0x30, 0x39)]
_WORDS = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES = [(0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0)]
_ALL_SPACES = [*_SPACES, (0x85, 0x85), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F)]
_ALL_SPACES += [(0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)]
_CATEGORIES = {
    "DIGIT": (_DIGITS, _DIGITS + _BEYOND_ASCII),
    "WORD": (_WORDS, _WORDS + _BEYOND_ASCII),
    "SPACE": (_SPACES, _ALL_SPACES),
}
"""What is in a category by every reading of it, and what by some: languages differ beyond ASCII."""


def literal(text: str) -> str:
    """Return the GBNF literal of ``text``."""
    escaped = "".join(
        f"\\{character}" if character in '"\\' else character if character.isprintable() else f"\\U{ord(character):08X}"
        for character in text
    )
    return f'"{escaped}"'


def strings_but(texts: Iterable[str]) -> str:
    """Return an expression for all JSON strings but ``texts``; up to where they differ, without escapes."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return rf'"\"" ({_unlike(tree)}) "\""'


def _unlike(node: dict[str, Any]) -> str:
    children = {character: child for character, child in node.items() if character}
    apart = _class(_complement([(ord(character), ord(character)) for character in children]))
    parts = [f"{apart} char*"]
    for character, child in children.items():
        if _as_it_is(character):
            parts.append(f"{literal(character)} ({_unlike(child)})")
    if "" not in node:
        parts.append('""')
    return " | ".join(parts)


def _as_it_is(character: str) -> bool:
    return not any(low <= ord(character) <= high for low, high in _FORBIDDEN)


def pattern_to_gbnf(pattern: Any) -> str:
    """Return an expression for the JSON strings that ``pattern`` matches.

    Raises:
        InvalidRequest: it is no regular expression, or holds what a grammar cannot express.
    """
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise InvalidRequest(f"expected pattern to be a regular expression of at most {MAX_PATTERN} characters")
    try:
        tree = list(parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidRequest(f"pattern: not a regular expression: {error}") from None
    before = after = "char*"
    if tree and _is(tree[0], "AT", "AT_BEGINNING", "AT_BEGINNING_STRING"):
        before, tree = "", tree[1:]
    if tree and _is(tree[-1], "AT", "AT_END", "AT_END_STRING"):
        after, tree = "", tree[:-1]
    return " ".join(part for part in (r'"\""', before, _sequence(tree), after, r'"\""') if part)


def _is(item: Any, name: str, *kinds: str) -> bool:
    return str(item[0]) == name and str(item[1]) in kinds


def _sequence(items: Iterable[Any]) -> str:
    return " ".join(_item(*item) for item in items) or '""'


def _item(operation: Any, value: Any) -> str:
    match str(operation):
        case "LITERAL":
            return _character(value)
        case "NOT_LITERAL":
            return _class(_complement([(value, value)]))
        case "ANY":
            return f"({_class(_complement(_LINE_ENDS))} | {_character(0x22)} | {_character(0x5C)})"
        case "IN":
            return _set(value)
        case "BRANCH":
            return "(" + " | ".join(_sequence(branch) for branch in value[1]) + ")"
        case "SUBPATTERN":
            return f"({_sequence(value[3])})"
        case "MAX_REPEAT" | "MIN_REPEAT":
            low, high, inner = value
            unbounded = str(high) == "MAXREPEAT"
            if low > MAX_REPEAT or (not unbounded and high > MAX_REPEAT):
                raise InvalidRequest(f"pattern: expected at most {MAX_REPEAT} repetitions")
            return f"({_sequence(inner)}){{{low},{'' if unbounded else high}}}"
    raise InvalidRequest(f"pattern: a grammar cannot express {str(operation).lower()} in a regular expression")


def _character(code: int) -> str:
    if any(low <= code <= high for low, high in _FORBIDDEN):
        return literal(json.dumps(chr(code))[1:-1])
    return literal(chr(code))


def _set(items: list[Any]) -> str:
    negated = bool(items) and str(items[0][0]) == "NEGATE"
    ranges: list[tuple[int, int]] = []
    for operation, value in items[1:] if negated else items:
        match str(operation):
            case "LITERAL":
                ranges.append((value, value))
            case "RANGE":
                ranges.append(value)
            case "CATEGORY":
                name = str(value).removeprefix("CATEGORY_")
                surely, perhaps = _CATEGORIES[name.removeprefix("NOT_")]
                if name.startswith("NOT_"):
                    ranges += _complement(surely if negated else perhaps)
                else:
                    ranges += perhaps if negated else surely
            case other:
                raise InvalidRequest(f"pattern: a grammar cannot express {other.lower()} in a class")
    if negated:
        return _class(_complement(ranges))
    parts = [
        _class(ranges),
        *(_character(code) for code in _ESCAPED if any(low <= code <= high for low, high in ranges)),
    ]
    parts = [part for part in parts if part]
    if not parts:
        raise InvalidRequest("pattern: a class holds no character that can stand in a JSON string")
    return f"({' | '.join(parts)})"


def _complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    result, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    return [*result, (start, _TOP)] if start <= _TOP else result


def _class(ranges: list[tuple[int, int]]) -> str:
    """Return the class of ``ranges`` without what must be escaped in a JSON string; empty if nothing is left."""
    allowed = _complement(list(_FORBIDDEN))
    kept = [
        (max(low, start), min(high, end))
        for low, high in ranges
        for start, end in allowed
        if max(low, start) <= min(high, end)
    ]
    return "[" + "".join(f"\\U{low:08X}-\\U{high:08X}" for low, high in kept) + "]" if kept else ""
