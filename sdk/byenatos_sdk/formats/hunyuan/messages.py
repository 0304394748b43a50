"""Conversations: Hunyuan's messages and canonical ones, both ways.

A message's content must not be empty: where there is none, a placeholder stands, which is read as nothing again.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from byenatos_sdk.formats.calls import CallBook
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.fragments import arguments_text
from byenatos_sdk.formats.media import data_url, parse_data_url
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import File, Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult

__all__ = ["MAX_MESSAGES", "PLACEHOLDER", "read_messages", "write_call", "write_messages"]

MAX_MESSAGES = 40
"""Messages that one request may hold."""
PLACEHOLDER = "…"
"""Stands where there is no text and there must be one."""

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


# ---- outward ---------------------------------------------------------------------------------------------------


def write_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Write a conversation; results of tools become a message each.

    Raises:
        InvalidRequest: there are more messages than one request may hold.
    """
    written = [one for message in messages for one in _written(message)]
    if len(written) > MAX_MESSAGES:
        raise InvalidRequest(
            f"messages: expected at most {MAX_MESSAGES} for hunyuan, found {len(written)}; shorten the conversation"
        )
    return written


def _written(message: Message) -> Iterator[dict[str, Any]]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:
        yield {"Role": "tool", "ToolCallId": result.call_id, "Content": result.text or PLACEHOLDER}
    if message.role == "tool" or (results and len(results) == len(message.parts)):
        return
    written: dict[str, Any] = {"Role": message.role}
    if any(isinstance(part, Image) for part in message.parts):
        written["Contents"] = [content for part in message.parts for content in _content(part)]
    else:
        written["Content"] = message.text or PLACEHOLDER
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if calls:
        written["ToolCalls"] = [write_call(call) for call in calls]
    files = [part.file_id for part in message.parts if isinstance(part, File)]
    if files:
        written["FileIDs"] = files
    yield written


def _content(part: Part) -> Iterator[dict[str, Any]]:
    if isinstance(part, Text):
        yield {"Type": "text", "Text": part.text}
    elif isinstance(part, Image):
        url = part.url or data_url(part.media_type, part.data or b"")
        yield {"Type": "image_url", "ImageUrl": {"Url": url}}


def write_call(call: ToolCall) -> dict[str, Any]:
    """Write a call, of an earlier turn or of an answer."""
    return {"Id": call.id, "Type": "function", "Function": {"Name": call.name, "Arguments": call.arguments}}


# ---- inward ----------------------------------------------------------------------------------------------------


def read_messages(request: Fields) -> tuple[Message, ...]:
    """Read a request's conversation.

    Raises:
        InvalidRequest: something in it is wrong; the message says where.
    """
    book = CallBook()
    found: list[Message] = []
    for message in request.objects("Messages"):
        word = message.need_text("Role")
        role = _ROLES.get(word)
        if role is None:
            raise InvalidRequest(f"{message.name('Role')}: expected one of {', '.join(_ROLES)}, found {word[:40]!r}")
        if role == "tool":
            call, name = book.answered("", message.text("ToolCallId"))
            result = ToolResult(call, _text(message), name=name)
            earlier = found.pop().parts if found and found[-1].role == "tool" else ()
            found.append(Message("tool", (*earlier, result)))
            continue
        parts: list[Part] = []
        thoughts = message.text("ReasoningContent")
        if thoughts:
            parts.append(Reasoning(thoughts))
        parts += _parts(message)
        parts += [File(file_id=file) for file in message.texts("FileIDs")]
        for one in message.objects("ToolCalls"):
            function = one.need_inner("Function")
            name = function.need_text("Name")
            arguments = arguments_text(function.text("Arguments"))
            parts.append(ToolCall(book.called(name, one.text("Id")).id, name, arguments))
        found.append(Message(role, tuple(parts)))
    if not found:
        raise request.wrong("Messages", "at least one message")
    return tuple(found)


def _text(message: Fields) -> str:
    text = message.text("Content") or ""
    return "" if text == PLACEHOLDER else text


def _parts(message: Fields) -> list[Part]:
    contents = message.objects("Contents")
    if not contents:
        text = _text(message)
        return [Text(text)] if text else []
    parts: list[Part] = []
    for content in contents:
        kind = content.need_text("Type")
        if kind == "text":
            parts.append(Text(content.need_text("Text")))
        elif kind == "image_url":
            image = content.need_inner("ImageUrl")
            url = image.need_text("Url")
            found = parse_data_url(url, image.name("Url"))
            parts.append(Image(url=url) if found is None else Image(*found))
        else:
            raise content.wrong("Type", "text or image_url")
    return parts
