"""What vendors and clients send, with something wrong in it: values of other types, fields that are gone."""

import json
from contextlib import suppress
from random import Random
from typing import Any

from tests.sdk.formats.cases import Case

__all__ = ["mutated", "mutated_stream"]

_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "{}",
    "text",
    "tool_use",
    "gemini:x",
    "e30=",
    [],
    [None],
    [[]],
    {},
    {"type": "text"},
    {"a": {"b": [1]}},
)


def mutated(value: Any, random: Random, rate: float = 0.05) -> Any:
    """Return JSON in which some values are others and some are gone."""
    if random.random() < rate:
        return random.choice(_ODD)
    if isinstance(value, dict):
        return {key: mutated(inner, random, rate) for key, inner in value.items() if random.random() > rate / 2}
    if isinstance(value, list):
        return [mutated(inner, random, rate) for inner in value if random.random() > rate / 2]
    return value


def mutated_stream(case: Case, random: Random) -> bytes:
    """Return a case's server-sent events, or its lines of JSON, with their data mutated."""
    lines = case.wire["raw"].replace("\r\n", "\n").split("\n")
    for at, line in enumerate(lines):
        start = line[: len(line) - len(line.removeprefix("data:").removeprefix(" "))]
        if start or line.startswith("{"):
            with suppress(ValueError):  # one case writes its JSON over several lines
                lines[at] = start + json.dumps(mutated(json.loads(line.removeprefix(start)), random))
    return "\n".join(lines).encode()
