"""Conversations: DashScope's messages and canonical ones, both ways.

Multimodal models take a list of items that tell what they are by their only key: ``{"text"}``, ``{"image"}``,
``{"audio"}``; the others take a string. Everything else is as in OpenAI's format.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from byenatos_sdk.formats.calls import CallBook
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.media import data_url, media_type_of, parse_data_url
from byenatos_sdk.formats.openai_chat.messages import read_call, write_call
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Audio, Image, Message, Part, Role, Text, ToolCall, ToolResult

__all__ = ["content_text", "is_multimodal", "read_messages", "write_messages"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def is_multimodal(messages: Iterable[Message]) -> bool:
    """Say whether there is anything but text in a conversation."""
    return any(isinstance(part, Image | Audio) for message in messages for part in message.parts)


def content_text(content: Any) -> str:
    """Return the text of an answer's content: a string, or a list of items."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (item.get("text") for item in content if isinstance(item, dict))
    return "".join(text for text in texts if isinstance(text, str))


# ---- outward ---------------------------------------------------------------------------------------------------


def write_messages(messages: Iterable[Message], *, multimodal: bool) -> Iterator[dict[str, Any]]:
    """Write a conversation; results of tools become a message each."""
    names: dict[str, str] = {}
    for message in messages:
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        names |= {call.id: call.name for call in calls}
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            yield _result(result, names, multimodal=multimodal)
        if message.role == "tool" or (results and len(results) == len(message.parts)):
            continue
        content = list(_items(message.parts)) if multimodal else message.text
        written: dict[str, Any] = {"role": message.role, "content": content}
        if calls:
            written["tool_calls"] = [write_call(call) for call in calls]
        yield written


def _result(result: ToolResult, names: dict[str, str], *, multimodal: bool) -> dict[str, Any]:
    content = [{"text": result.text}] if multimodal else result.text
    written: dict[str, Any] = {"role": "tool", "content": content, "tool_call_id": result.call_id}
    name = result.name or names.get(result.call_id)
    if name:
        written["name"] = name
    return written


def _items(parts: Iterable[Part]) -> Iterator[dict[str, str]]:
    for part in parts:
        if isinstance(part, Text):
            yield {"text": part.text}
        elif isinstance(part, Image):
            yield {"image": part.url or data_url(part.media_type, part.data or b"")}
        elif isinstance(part, Audio):
            yield {"audio": data_url(part.media_type, part.data)}


# ---- inward ----------------------------------------------------------------------------------------------------


def read_messages(input: Fields) -> tuple[Message, ...]:
    """Read ``input``: messages, or a prompt with the older ``history`` before it.

    Raises:
        InvalidRequest: something in it is wrong; the message says where.
    """
    if "messages" not in input:
        return _prompt(input)
    book = CallBook()
    found: list[Message] = []
    for message in input.objects("messages"):
        word = message.need_text("role")
        role = _ROLES.get(word)
        if role is None:
            raise InvalidRequest(f"{message.name('role')}: expected one of {', '.join(_ROLES)}, found {word[:40]!r}")
        if role == "tool":
            call, name = book.answered(message.text("name") or "", message.text("tool_call_id"))
            result = ToolResult(call, content_text(message.get("content")), name=name)
            earlier = found.pop().parts if found and found[-1].role == "tool" else ()
            found.append(Message("tool", (*earlier, result)))
            continue
        parts = _content(message)
        for fields in message.objects("tool_calls"):
            call_read = read_call(fields, book.count)
            book.called(call_read.name, call_read.id)
            parts.append(call_read)
        found.append(Message(role, tuple(parts)))
    if not found:
        raise input.wrong("messages", "at least one message")
    return tuple(found)


def _prompt(input: Fields) -> tuple[Message, ...]:
    messages: list[Message] = []
    for turn in input.objects("history"):
        for key, role in (("user", "user"), ("bot", "assistant")):
            text = turn.text(key)
            if text:
                messages.append(Message(_ROLES[role], (Text(text),)))
    messages.append(Message("user", (Text(input.need_text("prompt")),)))
    return tuple(messages)


def _content(message: Fields) -> list[Part]:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return [Text(content)] if content else []
    return [part for item in message.objects("content") for part in _item(item)]


def _item(item: Fields) -> Iterator[Part]:
    known = False
    if item.text("text") is not None:
        known = True
        yield Text(item.need_text("text"))
    if item.text("image") is not None:
        known = True
        url = item.need_text("image")
        found = parse_data_url(url, item.name("image"))
        yield Image(url=url) if found is None else Image(*found)
    if item.text("audio") is not None:
        known = True
        found = parse_data_url(item.need_text("audio"), item.name("audio"))
        if found is None:
            raise item.wrong("audio", "a data: address")
        media_type, data = found
        yield Audio(data, media_type or media_type_of(data, "audio/wav"))
    if not known:
        raise InvalidRequest(f"{item.path}: expected text, image or audio, found {sorted(item.values)[:4]}")
