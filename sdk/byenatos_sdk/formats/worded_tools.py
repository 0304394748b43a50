"""Tools for models that know none: they are told of them in an instruction, and call and are answered in words.

The words are those of the Hermes family, which most models have seen::

    <tool_call>
    {"name": "look", "arguments": {"at": "the sky"}}
    </tool_call>

A call becomes a call again when it is whole; what only looked like one is text after all, and what was cut off is
left out. A model may ignore the instruction: nothing forces it, and an answer without a call is an answer.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from byenatos_sdk.formats.calls import arguments_object
from byenatos_sdk.formats.fragments import MAX_CALLS, invented_id
from byenatos_sdk.formats.stops import overlap
from byenatos_sdk.formats.wire import Action, ToolReading, json_body
from byenatos_sdk.protocol.messages import (
    FinishReason,
    Message,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)

__all__ = ["WordedCalls", "in_words", "reading_of", "tool_instruction"]

_OPENING = "<tool_call>"
_CLOSING = "</tool_call>"
_RESULT = "<tool_response>"
_RESULT_END = "</tool_response>"
MAX_CALL = 256 << 10
"""Characters of one call; what is longer is text."""
_ERROR = "Error: "

Lose = Callable[[str, Action, str], None]


def tool_instruction(tools: Sequence[Tool], choice: str, *, several: bool) -> str:
    """Return what a model is told of its tools; ``choice`` as in ``InferenceRequest.tool_choice``, but not ``none``."""
    listed = "\n".join(
        json_body({"name": tool.name, "description": tool.description, "parameters": tool.parameters}).decode()
        for tool in tools
    )
    how = {"auto": "", "required": "\nYou must call one of them now."}.get(choice, f"\nYou must call {choice} now.")
    once = "" if several else "\nMake one call at most."
    return (
        f"You can call tools. These are their names, and their parameters as JSON schemas:\n{listed}\n"
        f"To call one, write a JSON object with its name and its arguments between {_OPENING} and {_CLOSING}:\n"
        f'{_OPENING}\n{{"name": "the tool\'s name", "arguments": {{"a parameter": "its value"}}}}\n{_CLOSING}\n'
        f"Then stop: what it answers comes in the next message, between {_RESULT} and {_RESULT_END}.{how}{once}"
    )


def reading_of(messages: Iterable[Message], tools: Sequence[Tool], *, several: bool | None) -> ToolReading:
    """Return how calls of ``tools`` are read from the text that answers ``messages``."""
    made = sum(isinstance(part, ToolCall) for message in messages for part in message.parts)
    return ToolReading(worded=tuple(tool.name for tool in tools), several=several is not False, made=made)


def in_words(messages: Iterable[Message], lose: Lose) -> tuple[Message, ...]:
    """Return a conversation with its calls and results as text; ``lose`` hears what is left out."""
    written: list[Message] = []
    for message in messages:
        if message.role == "tool":
            parts: list[Part] = [Text(_result(part, lose)) for part in message.parts if isinstance(part, ToolResult)]
            if written and written[-1].role == "user" and _is_result(written[-1]):
                parts = [*written.pop().parts, *parts]
            written.append(Message("user", tuple(parts)))
        elif any(isinstance(part, ToolCall) for part in message.parts):
            written.append(Message(message.role, tuple(_called(message.parts))))
        else:
            written.append(message)
    return tuple(written)


def _is_result(message: Message) -> bool:
    return bool(message.parts) and isinstance(message.parts[0], Text) and message.parts[0].text.startswith(_RESULT)


def _result(result: ToolResult, lose: Lose) -> str:
    if result.images:
        lose("tool_result.images", "dropped", "what a tool answers goes as text")
    said: dict[str, Any] = {"name": result.name} if result.name else {}
    said["content"] = f"{_ERROR}{result.text}" if result.is_error else result.text
    return f"{_RESULT}\n{json_body(said).decode()}\n{_RESULT_END}\n"


def _called(parts: Iterable[Part]) -> Iterable[Part]:
    for part in parts:
        if isinstance(part, ToolCall):
            call = {"name": part.name, "arguments": arguments_object(part.arguments)}
            yield Text(f"\n{_OPENING}\n{json_body(call).decode()}\n{_CLOSING}")
        else:
            yield part


class WordedCalls:
    """Finds the calls in one answer's text. ``found`` is how many there were."""

    def __init__(self, reading: ToolReading) -> None:
        self.found = 0
        self._reading = reading
        self._held = ""
        self._inside = False
        self._called = False  # nothing but white space has come since a call
        self._over = False  # what follows is no part of the answer

    def feed(self, text: str) -> list[str | ToolCallDelta]:
        """Take the next piece of text; return what is certain by now, in order."""
        self._held += text
        out: list[str | ToolCallDelta] = []
        while self._held and not self._over:
            before = len(self._held), self._inside
            out += self._inner() if self._inside else self._outer()
            if (len(self._held), self._inside) == before:
                break
        if self._over:
            self._held = ""
        return out

    def end(self, reason: FinishReason | None) -> list[str | ToolCallDelta]:
        """Hear that no more text comes, and why (``None``: it broke off); a call that was cut off is left out."""
        held, self._held = self._held, ""
        if not self._inside:
            return [held] if held else []
        calls = self._calls(held[len(_OPENING) :])
        return calls or ([held] if reason == "stop" else [])

    def _outer(self) -> list[str | ToolCallDelta]:
        """Give out the text up to where a call may begin."""
        if self._called:
            self._held = self._held.lstrip()  # between calls, and behind the last one
            self._over = self._held.startswith(_RESULT)  # the model invents what the tool answers
            if self._over or _RESULT.startswith(self._held):
                return []
        at = self._held.find(_OPENING)
        self._inside = at >= 0
        cut = at if self._inside else len(self._held) - overlap(self._held, _OPENING)
        text, self._held = self._held[:cut], self._held[cut:]
        self._called = self._called and not text
        return [text] if text else []

    def _inner(self) -> list[str | ToolCallDelta]:
        """Read the call that was begun, if it is whole."""
        end = self._held.find(_CLOSING, len(_OPENING))
        if end < 0 and len(self._held) <= MAX_CALL:
            return []
        after = end + len(_CLOSING) if end >= 0 else len(self._held)
        raw, self._held = self._held[:after], self._held[after:]
        self._inside = False
        calls = self._calls(raw[len(_OPENING) : end]) if end >= 0 else []
        return calls or [raw]

    def _calls(self, body: str) -> list[str | ToolCallDelta]:
        """Return the calls that ``body`` says, one or a list of them; none if one is not of a known tool."""
        try:
            value = msgspec.json.decode(body.encode("utf-8", "surrogatepass"))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return []
        calls = value if isinstance(value, list) else [value]
        read = [_read(call, self._reading.worded) for call in calls]
        known = [one for one in read if one is not None]
        if len(known) < len(read) or self.found + len(read) > MAX_CALLS:
            return []
        out: list[str | ToolCallDelta] = []
        for name, arguments in known[: None if self._reading.several else 1]:
            out.append(ToolCallDelta(invented_id(self._reading.made + self.found, name), name, arguments))
            self.found += 1
        self._over = not self._reading.several
        self._called = bool(out)
        return out


def _read(call: Any, known: Sequence[str]) -> tuple[str, str] | None:
    """Return a call's name and arguments, ``None`` if it is none of a known tool."""
    if not isinstance(call, dict):
        return None
    name, arguments = call.get("name"), call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return None
    if not isinstance(name, str) or name not in known or not isinstance(arguments, dict):
        return None
    return name, json_body(arguments).decode()
