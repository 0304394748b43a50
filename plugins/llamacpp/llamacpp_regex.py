"""GBNF expressions for texts: literals, regular expressions, and all JSON strings but a few.

A regular expression is read with Python's parser, which agrees with ECMAScript on what is taken here: characters,
classes, groups, alternatives, repetitions, and anchors at the ends. What it matches stands in a JSON string, where it
may match anywhere unless it is anchored (as JSON schema has it), or is a whole answer, which it matches as a whole (as
Hugging Face's and vLLM's servers have it).
"""

import json
import re
from collections.abc import Iterable
from re import _parser as parser  # type: ignore[attr-defined]  # the tree of a pattern has no public reader
from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["literal", "pattern_to_gbnf", "regex_to_gbnf", "strings_but"]

MAX_PATTERN = 2000
MAX_REPEAT = 1000
_TOP = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
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


class _Alphabet(NamedTuple):
    """How characters stand in one kind of text."""

    name: str
    forbidden: tuple[tuple[int, int], ...]
    """What does not stand in it as it is."""
    escaped: tuple[int, ...]
    """What of that a class lets through all the same, escaped as in JSON."""

    def stands(self, character: str) -> bool:
        """Whether ``character`` stands in the text as it is."""
        return not any(low <= ord(character) <= high for low, high in self.forbidden)


_JSON = _Alphabet(
    "a JSON string",
    ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), _SURROGATES),
    (0x22, 0x5C, 0x09, 0x0A, 0x0D),
)
_PLAIN = _Alphabet("an answer", ((0, 0), _SURROGATES), ())


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
    apart = _class(_JSON, _complement([(ord(character), ord(character)) for character in children]))
    parts = [f"{apart} char*"]
    for character, child in children.items():
        if _JSON.stands(character):
            parts.append(f"{literal(character)} ({_unlike(child)})")
    if "" not in node:
        parts.append('""')
    return " | ".join(parts)


def pattern_to_gbnf(pattern: Any) -> str:
    """Return an expression for the JSON strings in which ``pattern`` matches.

    Raises:
        InvalidRequest: it is no regular expression, or holds what a grammar cannot express.
    """
    tree, begins, ends = _parse(pattern)
    parts = (r'"\""', "" if begins else "char*", _Writer(_JSON).sequence(tree), "" if ends else "char*", r'"\""')
    return " ".join(part for part in parts if part)


def regex_to_gbnf(pattern: Any) -> str:
    """Return an expression for the texts that ``pattern`` matches from their beginning to their end.

    Raises:
        InvalidRequest: see :func:`pattern_to_gbnf`.
    """
    return _Writer(_PLAIN).sequence(_parse(pattern)[0])


def _parse(pattern: Any) -> tuple[list[Any], bool, bool]:
    """Return the tree of ``pattern`` without its anchors, and whether one stood at its beginning and at its end."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise InvalidRequest(f"expected pattern to be a regular expression of at most {MAX_PATTERN} characters")
    try:
        tree = list(parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidRequest(f"pattern: not a regular expression: {error}") from None
    begins = bool(tree) and _is(tree[0], "AT", "AT_BEGINNING", "AT_BEGINNING_STRING")
    tree = tree[1:] if begins else tree
    ends = bool(tree) and _is(tree[-1], "AT", "AT_END", "AT_END_STRING")
    return tree[:-1] if ends else tree, begins, ends


def _is(item: Any, name: str, *kinds: str) -> bool:
    return str(item[0]) == name and str(item[1]) in kinds


class _Writer:
    """Writes the tree of a pattern down for texts of one alphabet."""

    def __init__(self, alphabet: _Alphabet) -> None:
        self._alphabet = alphabet

    def sequence(self, items: Iterable[Any]) -> str:
        """Return the expression of ``items`` one after the other."""
        return " ".join(self._item(*item) for item in items) or '""'

    def _item(self, operation: Any, value: Any) -> str:
        match str(operation):
            case "LITERAL":
                return self._character(value)
            case "NOT_LITERAL":
                return self._without([(value, value)])
            case "ANY":
                return self._within(_complement(_LINE_ENDS))
            case "IN":
                return self._set(value)
            case "BRANCH":
                return "(" + " | ".join(self.sequence(branch) for branch in value[1]) + ")"
            case "SUBPATTERN":
                return f"({self.sequence(value[3])})"
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, inner = value
                unbounded = str(high) == "MAXREPEAT"
                if low > MAX_REPEAT or (not unbounded and high > MAX_REPEAT):
                    raise InvalidRequest(f"pattern: expected at most {MAX_REPEAT} repetitions")
                return f"({self.sequence(inner)}){{{low},{'' if unbounded else high}}}"
        raise InvalidRequest(f"pattern: a grammar cannot express {str(operation).lower()} in a regular expression")

    def _character(self, code: int) -> str:
        if self._alphabet.stands(chr(code)):
            return literal(chr(code))
        if not self._alphabet.escaped:
            raise InvalidRequest(f"pattern: U+{code:04X} cannot stand in {self._alphabet.name}")
        return literal(json.dumps(chr(code))[1:-1])

    def _set(self, items: list[Any]) -> str:
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
        return self._without(ranges) if negated else self._within(ranges)

    def _without(self, ranges: list[tuple[int, int]]) -> str:
        return self._some(_class(self._alphabet, _complement(ranges)))

    def _within(self, ranges: list[tuple[int, int]]) -> str:
        escaped = (code for code in self._alphabet.escaped if any(low <= code <= high for low, high in ranges))
        return self._some(_class(self._alphabet, ranges), *map(self._character, escaped))

    def _some(self, *parts: str) -> str:
        parts = tuple(part for part in parts if part)
        if not parts:
            raise InvalidRequest(f"pattern: a class holds no character that can stand in {self._alphabet.name}")
        return f"({' | '.join(parts)})"


def _complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    result, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            result.append((start, low - 1))
        start = max(start, high + 1)
    return [*result, (start, _TOP)] if start <= _TOP else result


def _class(alphabet: _Alphabet, ranges: list[tuple[int, int]]) -> str:
    """Return the class of what of ``ranges`` stands in a text as it is; empty if nothing does."""
    allowed = _complement(list(alphabet.forbidden))
    kept = [
        (max(low, start), min(high, end))
        for low, high in ranges
        for start, end in allowed
        if max(low, start) <= min(high, end)
    ]
    return "[" + "".join(f"\\U{low:08X}-\\U{high:08X}" for low, high in kept) + "]" if kept else ""
