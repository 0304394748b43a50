"""Requests to ``/api/chat`` and ``/api/generate``, as the server wants them.

A conversation goes to ``chat``; a raw prompt, and one with a template, suffix or context of its own, to ``generate``.
A request without messages (or prompt) is about the model itself: load it, or with ``keep_alive`` 0 unload it.
"""

from collections.abc import Iterator
from typing import Any

from byenatos_sdk.formats.adapt import adapt, schema_of
from byenatos_sdk.formats.calls import CallBook, arguments_object
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.media import to_base64
from byenatos_sdk.formats.ollama.shapes import Call, Function, WireMessage
from byenatos_sdk.formats.wire import Encoded, WireRequest, json_body
from byenatos_sdk.protocol.messages import (
    Effort,
    Image,
    InferenceRequest,
    Message,
    Reasoning,
    Sampling,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["CAPABILITIES", "GENERATE", "NAME", "OPTIONS", "TOP", "encode_request"]

NAME = "ollama"
CAPABILITIES = MATRIX[NAME]

OPTIONS = frozenset({
    "num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv", "use_mmap",
    "use_mlock", "vocab_only", "logits_all", "embedding_only", "typical_p", "tfs_z", "repeat_last_n", "mirostat",
    "mirostat_tau", "mirostat_eta", "penalize_newline",
})  # fmt: skip
"""Options without a canonical place: they travel in ``extra`` under their own names."""

TOP = ("keep_alive", "truncate", "shift")
"""The same, beside the options."""
GENERATE = ("template", "suffix", "context")
"""The same, in ``/api/generate`` only."""

_THINK: dict[Effort, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": True,  # what every thinking model takes; most refuse the word
    "high": "high",
    "xhigh": "max",
    "max": "max",
}


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
    return Encoded(wire, adapted.losses, adapted.stops, adapted.tools)


def _wire(path: str, body: dict[str, Any]) -> WireRequest:
    return WireRequest(path, json_body(body), {"content-type": "application/json"})


def _top(request: InferenceRequest) -> dict[str, Any]:
    extra = extras_for(NAME, request.extra)
    return {name: extra[name] for name in TOP if name in extra}


def _as_generate(request: InferenceRequest) -> dict[str, Any] | None:
    """Return a prompt's own fields, or ``None`` where the request is a conversation."""
    extra = extras_for(NAME, request.extra)
    own = {name: extra[name] for name in GENERATE if name in extra}
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
