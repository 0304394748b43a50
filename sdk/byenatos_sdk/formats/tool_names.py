"""Names of tools that a format refuses: another name goes out, and calls come back under the application's own.

The other name is one that every vendor takes: letters, digits, ``_`` and ``-``, at most 64 of them. The same request
always gets the same names, so that a vendor who caches the beginning of a conversation finds it again.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.wire import Action
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Part, ToolCall, ToolResult

__all__ = ["fit_tool_names"]

_LENGTH = 64
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")

Lose = Callable[[str, Action, str], None]


def fit_tool_names(request: InferenceRequest, to: Capabilities, lose: Lose) -> tuple[InferenceRequest, dict[str, str]]:
    """Return ``request`` with names that ``to`` takes, and by each name that was put in the one that it stands for."""
    if not to.tool_name:
        return request, {}
    names = dict.fromkeys((*(tool.name for tool in request.tools), *_named(request.messages)))
    takes = re.compile(to.tool_name).fullmatch
    taken = {name for name in names if takes(name)}
    told: dict[str, str] = {}
    for name in names:
        if name and name not in taken:
            told[name] = _free(name, taken)
            taken.add(told[name])
    if not told:
        return request, {}
    first, called = next(iter(told.items()))
    others = f", and so on for {len(told) - 1} more" if len(told) > 1 else ""
    lose("tools.name", "renamed", f"{to.format} refuses {first!r}: it is called {called!r} there{others}")
    renamed = replace(
        request,
        tools=tuple(replace(tool, name=told[tool.name]) if tool.name in told else tool for tool in request.tools),
        tool_choice=told.get(request.tool_choice, request.tool_choice),
        messages=tuple(_renamed(message, told) for message in request.messages),
    )
    return renamed, {new: name for name, new in told.items()}


def _named(messages: Iterable[Message]) -> Iterable[str]:
    """Yield the tools' names in a conversation."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCall | ToolResult):
                yield part.name


def _renamed(message: Message, told: Mapping[str, str]) -> Message:
    parts: list[Part] = [
        replace(part, name=told[part.name]) if isinstance(part, ToolCall | ToolResult) and part.name in told else part
        for part in message.parts
    ]
    return replace(message, parts=tuple(parts))


def _free(name: str, taken: set[str]) -> str:
    """Return a name like ``name`` that every vendor takes and no other tool has."""
    like = _FOREIGN.sub("_", name)
    like = like if like[0].isalpha() or like[0] == "_" else f"_{like}"
    if like[:_LENGTH] not in taken:
        return like[:_LENGTH]
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{like[: _LENGTH - 9]}_{digest}"
