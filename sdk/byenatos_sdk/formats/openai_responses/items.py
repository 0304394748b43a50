"""Conversations: the items of the Responses API and canonical messages, both ways.

What the model did in one turn comes as items of their own (its reasoning, its text, each call) and is one message of
the assistant here. Items of the vendor's own tools (searches, interpreters) are results of what only the vendor can
run; they are passed over.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from byenatos_sdk.formats.calls import CallBook
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.fragments import arguments_text, invented_id
from byenatos_sdk.formats.media import data_url
from byenatos_sdk.formats.openai_chat.parts import read_content, read_file, read_image
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)

__all__ = ["NAME", "read_input", "read_items", "reasoning_text", "write_input", "write_reasoning"]

NAME = "openai_responses"


def _content(item: Fields, key: str = "content") -> list[Part]:
    """Read a content: parts that chats have too are read as there."""
    if not isinstance(item.get(key), list):
        return read_content(item, key)
    parts: list[Part] = []
    for part in item.objects(key):
        match part.text("type"):
            case "input_image":
                if "file_id" in part:
                    parts.append(Image(file_id=part.need_text("file_id")))
                else:
                    url = part.need_text("image_url")
                    parts.append(read_image(url, part.text("detail"), part.name("image_url")))
            case "input_file":
                parts.append(_file(part))
            case _:
                parts += read_content(Fields({key: [part.values]}, item.path), key)
    return [part for part in parts if part != Text("")]


def _file(part: Fields) -> File:
    name = part.text("filename") or ""
    if "file_data" in part:
        return read_file(part.need_text("file_data"), name, part.name("file_data"))
    if "file_url" in part:
        return File(name, url=part.need_text("file_url"))
    return File(name, file_id=part.need_text("file_id"))


def reasoning_text(item: dict[str, Any]) -> str:
    """Return the text of a reasoning item: of the summary, or of the thoughts themselves where a server shows them."""
    for field in ("summary", "content"):
        found = item.get(field)
        parts = found if isinstance(found, list) else []
        texts = [one["text"] for one in parts if isinstance(one, dict) and isinstance(one.get("text"), str)]
        if any(texts):
            return "\n\n".join(texts)
    return ""


def _reasoning(item: Fields) -> Reasoning:
    text, signature = reasoning_text(dict(item.values)), item.text("encrypted_content")
    if signature is None:
        return Reasoning(text)
    return Reasoning(text, signature, NAME, redacted=not text)


def _call(item: Fields, position: int) -> ToolCall:
    name = item.need_text("name")
    call_id = item.text("call_id") or item.text("id") or invented_id(position, name)
    if item.text("type") == "custom_tool_call":
        return ToolCall(call_id, name, arguments_text({"input": item.text("input") or ""}))
    return ToolCall(call_id, name, arguments_text(item.text("arguments")))


def _result(item: Fields, calls: CallBook) -> ToolResult:
    call_id, name = calls.answered("", item.need_text("call_id"))
    content = _content(item, "output")
    images = tuple(part for part in content if isinstance(part, Image))
    text = "".join(part.text for part in content if isinstance(part, Text))
    return ToolResult(call_id, text, name=name, images=images)


class _Conversation:
    """Messages that grow item by item."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls = CallBook()

    def add(self, role: Any, *parts: Part, joins: bool = False) -> None:
        """Add parts to the conversation: to its last message if they belong to the same turn."""
        if joins and self.messages and self.messages[-1].role == role:
            parts = (*self.messages.pop().parts, *parts)
        self.messages.append(Message(role, parts))


def read_input(request: Fields) -> tuple[Message, ...]:
    """Read ``instructions`` and ``input``.

    Raises:
        InvalidRequest: something in them is wrong; the message says where.
    """
    found = _Conversation()
    instructions = request.text("instructions")
    if instructions:
        found.add("system", Text(instructions))
    given = request.get("input")
    if isinstance(given, str):
        found.add("user", Text(given))
        return tuple(found.messages)
    if given is None and ("previous_response_id" in request or "conversation" in request or "prompt" in request):
        return tuple(found.messages)
    items = request.objects("input")
    if not items:
        raise request.wrong("input", "a text or a list of items")
    for item in items:
        _take(item, found)
    return tuple(found.messages)


def read_items(items: Iterable[Fields]) -> tuple[Message, ...]:
    """Read the items of a conversation that is kept; there may be none.

    Raises:
        InvalidRequest: something in them is wrong; the message says where.
    """
    found = _Conversation()
    for item in items:
        _take(item, found)
    return tuple(found.messages)


def _take(item: Fields, found: _Conversation) -> None:
    match item.text("type") or "message":
        case "message":
            role = item.need_text("role")
            if role not in {"user", "assistant", "system", "developer"}:
                raise item.wrong("role", "user, assistant, system or developer")
            known = "system" if role == "developer" else role
            found.add(known, *_content(item), joins=known == "assistant")
        case "function_call" | "custom_tool_call":
            call = _call(item, found.calls.count)
            found.calls.called(call.name, call.id)
            found.add("assistant", call, joins=True)
        case "function_call_output" | "custom_tool_call_output":
            found.add("tool", _result(item, found.calls), joins=True)
        case "reasoning":
            found.add("assistant", _reasoning(item), joins=True)
        case "item_reference":
            raise InvalidRequest(f"{item.name('type')}: expected items themselves, found a reference to a stored one")


def _written(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        if part.file_id is not None:
            return {"type": "input_image", "file_id": part.file_id, "detail": part.detail}
        url = part.url if part.data is None else data_url(part.media_type, part.data)
        return {"type": "input_image", "image_url": url, "detail": part.detail}
    assert isinstance(part, File)
    name = {"filename": part.name} if part.name else {}
    if part.data is not None:
        return {"type": "input_file", **name, "file_data": data_url(part.media_type, part.data)}
    if part.url is not None:
        return {"type": "input_file", **name, "file_url": part.url}
    return {"type": "input_file", **name, "file_id": part.file_id}


def _content_of(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_written(part) for part in parts]


def write_reasoning(part: Reasoning) -> dict[str, Any]:
    """Write reasoning that goes back with its signature."""
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}


def _assistant(parts: Iterable[Part]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Text):
            items.append({"type": "message", "role": "assistant", "content": part.text})
        elif isinstance(part, Reasoning):
            items.append(write_reasoning(part))
        elif isinstance(part, ToolCall):
            items.append({"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments})
    return items


def write_input(messages: Sequence[Message]) -> dict[str, Any]:
    """Write a conversation: the first instruction in its own field, one text of the user alone as a string."""
    body: dict[str, Any] = {}
    if messages and messages[0].role == "system" and len(messages[0].parts) == 1:
        body["instructions"] = messages[0].text
        messages = messages[1:]
    if len(messages) == 1 and messages[0].role == "user" and messages[0].parts == (Text(messages[0].text),):
        return body | {"input": messages[0].text}
    items: list[dict[str, Any]] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolResult):
                content = _content_of((Text(part.text), *part.images))
                items.append({"type": "function_call_output", "call_id": part.call_id, "output": content})
        if message.role == "assistant":
            items += _assistant(message.parts)
            continue
        others = [part for part in message.parts if isinstance(part, Text | Image | File)]
        if others or message.role == "user":
            role = "user" if message.role == "tool" else message.role
            items.append({"type": "message", "role": role, "content": _content_of(others)})
    return body | {"input": items}
