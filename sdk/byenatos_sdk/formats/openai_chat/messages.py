"""Conversations: OpenAI's messages and canonical ones, both ways.

Canonical messages keep all results of one step in one message of the role ``tool``; OpenAI has one message for each.
"""

from collections.abc import Iterable
from typing import Any

from byenatos_sdk.formats.calls import CallBook
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.fragments import arguments_text, invented_id
from byenatos_sdk.formats.openai_chat.parts import read_content, write_content
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.openai_chat.tools import custom_input
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)

__all__ = ["read_call", "read_messages", "write_call", "write_messages"]

REASONING_TEXTS = ("reasoning_content", "reasoning", "thinking")
"""Where reasoning may stand, in the order in which these fields are believed."""


def read_call(fields: Fields, position: int) -> ToolCall:
    """Read a call of an earlier turn; one without an id is given one.

    Raises:
        InvalidRequest: it has no name.
    """
    if "custom" in fields:
        custom = fields.need_inner("custom")
        name, arguments = custom.need_text("name"), {"input": custom.text("input") or ""}
        return ToolCall(fields.text("id") or invented_id(position, name), name, arguments_text(arguments))
    function = fields.need_inner("function")
    name = function.need_text("name")
    arguments_found = function.get("arguments")
    if arguments_found is not None and not isinstance(arguments_found, str | dict):
        raise function.wrong("arguments", "JSON as text")
    return ToolCall(fields.text("id") or invented_id(position, name), name, arguments_text(arguments_found))


def _assistant(message: Fields, calls_before: int) -> list[Part]:
    parts: list[Part] = []
    for field in REASONING_TEXTS:
        thought = message.get(field)
        if isinstance(thought, str) and thought:
            parts.append(Reasoning(thought))
            break
    parts += read_content(message)
    refusal = message.text("refusal")
    if refusal:
        parts.append(Text(refusal))
    parts += [read_call(call, calls_before + at) for at, call in enumerate(message.objects("tool_calls"))]
    legacy = message.mapping("function_call")
    if legacy is not None:
        parts.append(read_call(Fields({"function": legacy}, message.path), calls_before))
    return parts


def _result(message: Fields, calls: CallBook) -> ToolResult:
    """Read a tool's answer and find the call that it answers: by id, or, for old ones, by name and order."""
    content = read_content(message)
    text = "".join(part.text for part in content if isinstance(part, Text))
    images = tuple(part for part in content if isinstance(part, Image))
    if message.text("role") == "function":
        call_id, name = calls.answered(message.need_text("name"), None)
    else:
        # Where ids repeat in a long history, the last call of that id is meant.
        call_id, name = calls.answered(message.text("name") or "", message.need_text("tool_call_id"))
    return ToolResult(call_id, text, name=name, images=images)


def read_messages(request: Fields) -> tuple[Message, ...]:
    """Read a request's conversation.

    Raises:
        InvalidRequest: something in it is wrong; the message says where.
    """
    found: list[Message] = []
    calls = CallBook()
    messages = request.objects("messages")
    if not messages:
        raise request.wrong("messages", "at least one message")
    for message in messages:
        role = message.need_text("role")
        match role:
            case "system" | "developer":
                found.append(Message("system", tuple(read_content(message))))
            case "user":
                if message.get("content") is None:
                    raise message.wrong("content", "a string or a list of parts")
                found.append(Message("user", tuple(read_content(message))))
            case "assistant":
                parts = _assistant(message, calls.count)
                for part in parts:
                    if isinstance(part, ToolCall):
                        calls.called(part.name, part.id)
                found.append(Message("assistant", tuple(parts)))
            case "tool" | "function":
                result = _result(message, calls)
                earlier = found.pop().parts if found and found[-1].role == "tool" else ()
                found.append(Message("tool", (*earlier, result)))
            case _:
                raise InvalidRequest(
                    f"{message.name('role')}: expected system, developer, user, assistant or tool, found {role[:40]!r}"
                )
    return tuple(found)


def write_call(call: ToolCall | ToolCallDelta, kind: str = "function", *, custom: bool = False) -> dict[str, Any]:
    """Write a call, of an earlier turn or of an answer; ``custom``: to a tool of free text."""
    if custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": custom_input(call.arguments)}}
    typed = {"type": kind} if kind else {}
    return {"id": call.id, **typed, "function": {"name": call.name, "arguments": call.arguments}}


def _results(parts: Iterable[Part]) -> list[dict[str, Any]]:
    return [
        {"role": "tool", "tool_call_id": part.call_id, "content": write_content((Text(part.text), *part.images))}
        for part in parts
        if isinstance(part, ToolResult)
    ]


def write_messages(messages: Iterable[Message], profile: Profile) -> list[dict[str, Any]]:
    """Write a conversation; results of tools that stand in a user's message come before its text."""
    written: list[dict[str, Any]] = []
    for message in messages:
        written += _results(message.parts)
        others = [part for part in message.parts if not isinstance(part, ToolResult)]
        if message.role == "assistant":
            one: dict[str, Any] = {"role": "assistant", "content": write_content(others)}
            thought = "".join(part.text for part in others if isinstance(part, Reasoning))
            if thought:
                one[profile.reasoning_text] = thought
            calls = [write_call(part, profile.call_type) for part in others if isinstance(part, ToolCall)]
            if calls:
                one["tool_calls"] = calls
                one["content"] = one["content"] or None
            written.append(one)
        elif others or message.role != "tool":
            written.append(
                {"role": "user" if message.role == "tool" else message.role, "content": write_content(others)}
            )
    if profile.continue_message and messages and written[-1]["role"] == "assistant":
        written[-1] |= profile.continue_message
    return written
