"""Requests to ``/api/chat`` and ``/api/generate``, both ways.

A conversation goes to ``chat``; a raw prompt, and one with a template, suffix or context of its own, to ``generate``.
A request without messages (or prompt) is about the model itself: load it, or with ``keep_alive`` 0 unload it.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from byenatos_sdk.formats.adapt import adapt, schema_of
from byenatos_sdk.formats.calls import CallBook, arguments_object, arguments_text
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for, kept
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.media import from_base64, media_type_of, parse_data_url, to_base64
from byenatos_sdk.formats.ollama.shapes import Call, Function, Request, WireMessage, WireTool
from byenatos_sdk.formats.wire import Decoded, Encoded, WireRequest, json_body, read_as
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

__all__ = ["CAPABILITIES", "NAME", "decode_request", "encode_request"]

NAME = "ollama"
CAPABILITIES = MATRIX[NAME]

_decoder = msgspec.json.Decoder(Request)

OPTIONS = frozenset({
    "num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "use_mmap",
    "use_mlock", "vocab_only", "logits_all", "embedding_only", "typical_p", "tfs_z", "repeat_last_n", "mirostat",
    "mirostat_tau", "mirostat_eta", "penalize_newline",
})  # fmt: skip
"""Options without a canonical place: they travel in ``extra`` under their own names."""

_TOP = ("keep_alive", "truncate", "shift")
_GENERATE = ("template", "suffix", "context")
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_THINK: dict[Effort, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": True,  # what every thinking model takes; most refuse the word
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_EFFORT: dict[bool | str, Effort] = {
    False: "none",
    True: "medium",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
}


# ---- outward ---------------------------------------------------------------------------------------------------


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request for ``/api/chat``, or for ``/api/generate`` where the prompt is raw.

    Without messages it asks to load the model, or with ``keep_alive`` 0 in ``extra`` to unload it.

    Raises:
        InvalidRequest: the format cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    if not request.messages:
        return Encoded(_wire("/api/chat", {"model": request.model, "messages": [], "stream": stream} | _top(request)))
    adapted = adapt(request, capabilities or CAPABILITIES, strict=strict)
    fitted = adapted.request
    body: dict[str, Any] = {"model": fitted.model}
    generate = _as_generate(fitted)
    if generate is None:
        body["messages"] = list(_messages(fitted.messages))
    else:
        body |= generate
    body["stream"] = stream
    if fitted.tools:
        body["tools"] = [_tool(tool) for tool in fitted.tools]
    form = fitted.response_format or {}
    if form.get("type") == "json_object":
        body["format"] = "json"
    elif form.get("type") == "json_schema":
        body["format"] = schema_of(form)
    if fitted.reasoning is not None and fitted.reasoning.effort is not None:
        body["think"] = _THINK[fitted.reasoning.effort]
    if fitted.sampling.logprobs is not None:
        body["logprobs"] = True
        if fitted.sampling.logprobs:
            body["top_logprobs"] = fitted.sampling.logprobs
    options = _options(fitted.sampling)
    options |= {name: value for name, value in extras_for(NAME, fitted.extra).items() if name in OPTIONS}
    if options:
        body["options"] = options
    body |= _top(fitted)
    wire = _wire("/api/chat" if generate is None else "/api/generate", body)
    return Encoded(wire, adapted.losses, adapted.stops)


def _wire(path: str, body: dict[str, Any]) -> WireRequest:
    return WireRequest(path, json_body(body), {"content-type": "application/json"})


def _top(request: InferenceRequest) -> dict[str, Any]:
    extra = extras_for(NAME, request.extra)
    return {name: extra[name] for name in _TOP if name in extra}


def _as_generate(request: InferenceRequest) -> dict[str, Any] | None:
    """Return a prompt's own fields, or ``None`` where the request is a conversation."""
    extra = extras_for(NAME, request.extra)
    own = {name: extra[name] for name in _GENERATE if name in extra}
    messages = request.messages
    if not request.raw:
        system = messages[0].text if messages and messages[0].role == "system" else None
        prompts = messages[system is not None :]
        if not own or len(prompts) != 1 or prompts[0].role != "user":
            return None
        if system is not None:
            own["system"] = system
    body: dict[str, Any] = {"prompt": "".join(message.text for message in messages if message.role != "system")}
    if request.raw:
        body = {"prompt": "".join(message.text for message in messages), "raw": True}
    images = [image for message in messages for image in _images(message)]
    if images:
        body["images"] = images
    return body | own


def _messages(messages: tuple[Message, ...]) -> Iterator[WireMessage]:
    book = CallBook()
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            yield _result(result, book)
        if message.role == "tool" or (results and len(results) == len(message.parts)):
            continue
        wire = WireMessage(message.role, message.text, images=list(_images(message)) or None)
        thoughts = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
        wire.thinking = thoughts or None
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        if calls:
            wire.content = message.text or None
            wire.tool_calls = [_call(call, book) for call in calls]
        yield wire


def _result(result: ToolResult, book: CallBook) -> WireMessage:
    expected = book.expected(result.name)
    inferred = expected is not None and expected.invented and expected.id == result.call_id
    _, name = book.answered(result.name, result.call_id)
    own = None if inferred and name else result.call_id or None
    return WireMessage("tool", result.text, tool_name=name or None, tool_call_id=own)


def _call(call: ToolCall, book: CallBook) -> Call:
    noted = book.called(call.name, call.id)
    return Call(None if noted.invented else call.id, Function(call.name, arguments_object(call.arguments)))


def _images(message: Message) -> Iterator[str]:
    return (to_base64(part.data) for part in message.parts if isinstance(part, Image) and part.data is not None)


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _options(sampling: Sampling) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, limit in CAPABILITIES.parameters.items():
        value = getattr(sampling, name)
        if value not in (None, ()) and name != "logprobs":
            options[limit.wire] = value
    return options


# ---- inward ----------------------------------------------------------------------------------------------------


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request to ``/api/chat`` or ``/api/generate``; ``stream`` is true unless it says otherwise.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    path = wire.path.partition("?")[0].rstrip("/")
    read = read_as(_decoder, wire.body)
    if not read.model:
        raise InvalidRequest("model: expected a model's name, found none")
    extra: dict[str, Any] = {name: getattr(read, name) for name in _TOP if getattr(read, name) is not None}
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
    extra |= {name: value for name in _GENERATE if (value := getattr(read, name)) not in (None, "", [])}
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
