"""What is wrong with a manifest, in its author's words: the line, the key, what was expected and what was found."""

import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

__all__ = ["fault"]

_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_NUMBER = re.compile(r"\[\d+\]")
_NAMED = re.compile(r"(?:unknown|missing required) field `([^`]*)`")
_HEADER = re.compile(r"\s*\[\[?\s*([\w.-]+)\s*\]\]?")
_MOST = 60


def fault(
    error: msgspec.ValidationError, table: Mapping[str, Any], text: str, kinds: Mapping[str, type[Struct]]
) -> str:
    """Return what follows the file's name in a message.

    ``table`` is what ``text`` says. ``kinds`` are the structs of its tables by their place, without numbers.
    """
    said = str(error)
    found = _PLACE.search(said)
    place = found["path"] if found else ""
    said = said[: found.start()] if found else said
    named = _NAMED.search(said)
    if named is None:
        key, value = place, _at(table, place)
        expected = said[:1].lower() + said[1:].partition(", got ")[0]
        if said.startswith("Invalid enum"):
            owner, _, name = _NUMBER.sub("", place).rpartition(".")
            expected = f"expected one of {', '.join(map(repr, get_args(get_type_hints(kinds[owner])[name])))}"
        shown = "" if value is None else f", found {value!r:.{_MOST}}"
    else:
        key = f"{place}.{named[1]}" if place else named[1]
        if "missing" in said:
            return f"{_line(text, place, '')}: {key}: expected a value, found none"
        known = msgspec.structs.fields(kinds[_NUMBER.sub("", place)])
        expected = f"expected one of {', '.join(field.encode_name for field in known)}"
        shown = ", found a key that there is not"
    table_place, _, name = key.rpartition(".")
    return f"{_line(text, table_place, name)}: {key}: {expected}{shown}"


def _at(table: Any, place: str) -> Any:
    for name, number in _STEP.findall(place):
        if number and isinstance(table, list):
            table = table[int(number)]
        elif isinstance(table, dict):
            table = table.get(name)
        else:
            return None
    return table


def _line(text: str, table: str, key: str) -> str:
    """Return ``:`` and the number of the line of ``key`` in ``table``, or of the table; nothing if it has none."""
    key = key.partition("[")[0]
    sought = re.compile(rf"\s*(?:{re.escape(key)}|\"{re.escape(key)}\")\s*=") if key else None
    now, counts = "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line.partition("#")[0].rstrip())
        if header is not None:
            now = header[1]
            if line.lstrip().startswith("[["):
                counts[now] = counts.get(now, -1) + 1
                now = f"{now}[{counts[now]}]"
            elif (parent := now.partition("."))[0] in counts:
                now = f"{parent[0]}[{counts[parent[0]]}].{parent[2]}"
            if now == f"{table}.{key}".lstrip(".") or (not key and now == table):
                return f":{number}"
        elif sought is not None and now == table and sought.match(line):
            return f":{number}"
    return ""
