"""A client's requests to ``/api/chat`` and ``/api/generate``, as they were meant."""

from collections.abc import Iterator
from typing import Any

import msgspec

from byenatos_sdk.formats.calls import CallBook, arguments_text
from byenatos_sdk.formats.extras import kept
from byenatos_sdk.formats.media import from_base64, media_type_of, parse_data_url
from byenatos_sdk.formats.ollama.requests import CAPABILITIES, GENERATE, NAME, OPTIONS, TOP
from byenatos_sdk.formats.ollama.shapes import Request, WireMessage, WireTool
from byenatos_sdk.formats.wire import Decoded, WireRequest, read_as
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Effort,
    Image,
    InferenceRequest,
    Message,
    Part,
    Reasoning,
    ReasoningOptions,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["arguments_of", "decode_request"]

_decoder = msgspec.json.Decoder(Request)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_EFFORT: dict[bool | str, Effort] = {
    False: "none",
    True: "medium",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
}


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request to ``/api/chat`` or ``/api/generate``; ``stream`` is true unless it says otherwise.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    path = wire.path.partition("?")[0].rstrip("/")
    read = read_as(_decoder, wire.body)
    if not read.model:
        raise InvalidRequest("model: expected a model's name, found none")
    extra: dict[str, Any] = {name: getattr(read, name) for name in TOP if getattr(read, name) is not None}
    messages = _prompt(read, extra) if path.endswith("/generate") else tuple(_decoded_messages(read.messages or []))
    sampling = _sampling(read, extra)
    request = InferenceRequest(
        messages,
        model=read.model,
        sampling=sampling,
        tools=tuple(_decoded_tool(tool, at) for at, tool in enumerate(read.tools or ())),
        response_format=_response_format(read.format),
        extra=kept(NAME, extra),
        reasoning=_reasoning(read.think),
        raw=bool(read.raw) and path.endswith("/generate"),
    )
    decoded = Decoded(request, stream=read.stream is not False, path=path)
    if messages:
        return decoded
    unload = str(read.keep_alive) in {"0", "0.0", "0s", "0m", "0h"}
    return msgspec.structs.replace(decoded, action="unload" if unload else "load")


def _prompt(read: Request, extra: dict[str, Any]) -> tuple[Message, ...]:
    extra |= {name: value for name in GENERATE if (value := getattr(read, name)) not in (None, "", [])}
    if not read.prompt:
        return ()
    parts = (Text(read.prompt), *_decoded_images(read.images, "images"))
    messages = (Message("user", parts),)
    return (Message("system", (Text(read.system),)), *messages) if read.system else messages


def _decoded_messages(messages: list[WireMessage]) -> Iterator[Message]:
    """Read messages; results of tools that follow each other become one message."""
    book = CallBook()
    results: list[ToolResult] = []
    for at, message in enumerate(messages):
        role = _ROLES.get(message.role)
        if role is None:
            known = ", ".join(_ROLES)
            raise InvalidRequest(f"messages[{at}].role: expected one of {known}, found {message.role!r}")
        if role == "tool":
            answered, name = book.answered(message.tool_name or message.name or "", message.tool_call_id)
            results.append(ToolResult(answered, message.content or "", name=name))
            continue
        if results:
            yield Message("tool", tuple(results))
            results = []
        parts: list[Part] = []
        if message.thinking:
            parts.append(Reasoning(message.thinking))
        if message.content:
            parts.append(Text(message.content))
        parts += _decoded_images(message.images, f"messages[{at}].images")
        for call in message.tool_calls or ():
            name = call.function.name
            parts.append(ToolCall(book.called(name, call.id).id, name, arguments_of(call.function.arguments)))
        yield Message(role, tuple(parts))
    if results:
        yield Message("tool", tuple(results))


def arguments_of(raw: msgspec.Raw) -> str:
    """Return a call's arguments as text: an object as it was written; text, as others send it, as it is."""
    written = bytes(raw).strip()
    if written in {b"", b"null"}:
        return "{}"
    if written.startswith(b'"'):
        return msgspec.json.decode(written, type=str) or "{}"
    return arguments_text(written)


def _decoded_images(images: list[str] | None, where: str) -> list[Part]:
    decoded: list[Part] = []
    for at, image in enumerate(images or ()):
        found = parse_data_url(image, f"{where}[{at}]")
        if found is None:
            data = from_base64(image, f"{where}[{at}]")
            found = media_type_of(data), data
        decoded.append(Image(*found))
    return decoded


def _decoded_tool(tool: WireTool, at: int) -> Tool:
    if tool.function is None or not tool.function.name:
        raise InvalidRequest(f"tools[{at}].function.name: expected a function's name, found none")
    return Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})


def _sampling(read: Request, extra: dict[str, Any]) -> Sampling:
    options = {name: value for name, value in (read.options or {}).items() if value is not None}
    extra |= {name: options[name] for name in options if name in OPTIONS}
    values: dict[str, Any] = {}
    for name, limit in CAPABILITIES.parameters.items():
        if limit.wire not in options:
            continue
        value = options[limit.wire]
        if name == "stop":
            values[name] = _stop(value)
        elif name in {"max_tokens", "top_k", "seed"}:
            values[name] = _integer(value, limit.wire)
        else:
            values[name] = _number(value, limit.wire)
    if values.get("max_tokens", 1) <= 0:  # -1: no limit, -2: until the context is full
        del values["max_tokens"]
    if values.get("seed") == -1:  # a random one
        del values["seed"]
    if read.logprobs or read.top_logprobs:
        values["logprobs"] = read.top_logprobs or 0
    return Sampling(**values)


def _stop(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise InvalidRequest(f"options.stop: expected a list of strings, found {type(value).__name__}")
    return tuple(stops)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"options.{name}: expected a number, found {type(value).__name__}")
    return float(value)


def _integer(value: Any, name: str) -> int:
    number = _number(value, name)
    if not number.is_integer() or not -(2**63) <= number < 2**63:
        raise InvalidRequest(f"options.{name}: expected an integer, found {value}")
    return int(value)


def _response_format(form: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if form is None or form == "":
        return None
    if isinstance(form, dict):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}
    if form != "json":
        raise InvalidRequest(f"format: expected 'json' or a JSON schema, found {form!r}")
    return {"type": "json_object"}


def _reasoning(think: bool | str | None) -> ReasoningOptions | None:  # noqa: FBT001 - the field's own type
    if think is None or think == "":
        return None
    effort = _EFFORT.get(think)
    if effort is None:
        raise InvalidRequest(f"think: expected true, false, low, medium, high or max, found {think!r}")
    return ReasoningOptions(effort)
