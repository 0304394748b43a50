"""Requests to ``:generateContent``, ``:streamGenerateContent`` and ``:countTokens``, as the vendor wants them.

Whether an answer streams stands in the path. Calls of one step are one turn, and so are their results, each with the
name of its tool; ids that were made up for calls without one stay away, for then order tells which is which.
"""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.adapt import adapt, schema_of
from byenatos_sdk.formats.calls import CallBook
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for
from byenatos_sdk.formats.gemini.names import model_path
from byenatos_sdk.formats.gemini.parts import (
    call_part,
    invented,
    media_part,
    reasoning_part,
    result_object,
    signature_of,
)
from byenatos_sdk.formats.gemini.shapes import JSON, NAME
from byenatos_sdk.formats.gemini.thinking import generation_of, write_thinking
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import Action, Encoded, Loss, WireRequest, json_body
from byenatos_sdk.protocol.errors import Unsupported
from byenatos_sdk.protocol.messages import (
    Audio,
    File,
    Image,
    InferenceRequest,
    Message,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

__all__ = ["CAPABILITIES", "GENERATION", "TOP", "encode_count_request", "encode_request"]

CAPABILITIES = MATRIX[NAME]
"""What the format can say."""
TOP = ("cachedContent", "continuationToken", "labels", "safetySettings", "serviceTier", "store")
"""Fields of a request that only this API knows."""
GENERATION = (
    "audioTimestamp",
    "enableAffectiveDialog",
    "enableEnhancedCivicAnswers",
    "imageConfig",
    "mediaResolution",
    "modelSelectionConfig",
    "responseModalities",
    "routingConfig",
    "speechConfig",
)
"""Fields of ``generationConfig`` that only this API knows."""
_SAMPLING = (
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("max_tokens", "maxOutputTokens"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("seed", "seed"),
)
_UNSIGNED = "skip_thought_signature_validator"
"""Stands for the signature that a call of another model lacks: models from Gemini 3 on refuse a step without one."""
_EMPTY = "…"
"""Stands where the API wants content and the conversation has none."""


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request; a stream is asked for as server-sent events.

    Raises:
        InvalidRequest: the API cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    writing = _Writing(request, strict=strict, capabilities=capabilities)
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    wire = WireRequest(f"/v1beta/{model_path(request.model)}:{verb}", json_body(writing.body()), dict(JSON))
    return Encoded(wire, tuple(writing.losses), writing.stops, writing.tools)


def encode_count_request(request: InferenceRequest) -> WireRequest:
    """Ask how many tokens a request's input comes to, instructions and tools too.

    Raises:
        InvalidRequest: the API cannot say it.
    """
    body = _Writing(request, strict=False, capabilities=None).body()
    name = model_path(request.model)
    inner = {"model": name} | body
    return WireRequest(f"/v1beta/{name}:countTokens", json_body({"generateContentRequest": inner}), dict(JSON))


class _Writing:
    """One request on its way out."""

    def __init__(self, request: InferenceRequest, *, strict: bool, capabilities: Capabilities | None) -> None:
        self.extra: Mapping[str, Any] = extras_for(NAME, request.extra)
        self.strict = strict
        adapted = adapt(request, CAPABILITIES if capabilities is None else capabilities, strict=strict)
        self.request = adapted.request
        self.losses: list[Loss] = list(adapted.losses)
        self.stops = adapted.stops
        self.tools = adapted.tools
        self.calls = CallBook()
        self.order: dict[str, int] = {}

    def _lose(self, parameter: str, action: Action, reason: str) -> None:
        if self.strict:
            raise Unsupported(f"{parameter}: {reason}; leave it out, or allow adaptation")
        self.losses.append(Loss(parameter, action, reason))

    def body(self) -> dict[str, Any]:
        request = self.request
        messages = request.messages
        leading = next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))
        body: dict[str, Any] = {}
        instructions = [{"text": one.text} for one in messages[:leading] if one.text]
        if instructions:
            body["systemInstruction"] = {"parts": instructions}
        body["contents"] = self._contents(messages[leading:])
        config = self._config()
        if config:
            body["generationConfig"] = config
        self._tools(body)
        return body | {name: self.extra[name] for name in TOP if name in self.extra}

    # ---- the conversation ----------------------------------------------------------------------------------------

    def _contents(self, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
        current = max((at for at, one in enumerate(messages) if one.role == "user"), default=-1)
        newer = (generation_of(self.request.model) or 0) >= 3
        contents: list[dict[str, Any]] = []
        before = ""
        for at, message in enumerate(messages):
            parts = self._results(message) if message.role == "tool" else self._parts(message)
            if not parts:
                continue
            if message.role == "tool" and before == "tool":
                contents[-1]["parts"] += parts
                continue
            if message.role == "assistant" and newer and at > current:
                _sign_first_call(parts)
            contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
            before = message.role
        return contents or [{"role": "user", "parts": [{"text": _EMPTY}]}]

    def _parts(self, message: Message) -> list[Any]:
        parts: list[Any] = []
        for part in message.parts:
            written = self._part(part)
            if written is None:
                continue
            last = parts[-1] if parts else None
            lone = isinstance(written, dict) and written.keys() == {"text", "thoughtSignature"}
            if lone and isinstance(last, dict) and last.keys() == {"text"}:
                last["thoughtSignature"] = written["thoughtSignature"]
            else:
                parts.append(written)
        return parts

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text):
            return {"text": part.text} if part.text else None
        if isinstance(part, Image | Audio | File):
            return media_part(part)
        if isinstance(part, Reasoning):
            return reasoning_part(part)
        if isinstance(part, ToolCall):
            call = self.calls.called(part.name, part.id)
            self.order.setdefault(call.id, len(self.order))
            written = call_part(part, named=not (call.invented or invented(part.id, part.name)))
            signature = None if (part.signature or "").startswith("{") else signature_of(part)
            return written if signature is None else written | {"thoughtSignature": signature}
        return self._result(part)[1]

    def _results(self, message: Message) -> list[Any]:
        """Return the results of a step; where calls have no ids, in the order of the calls."""
        found = [
            self._result(part) if isinstance(part, ToolResult) else (0, self._part(part)) for part in message.parts
        ]
        if any("id" not in part.get("functionResponse", {}) for _, part in found if part is not None):
            found.sort(key=lambda one: one[0])
        return [part for _, part in found if part is not None]

    def _result(self, result: ToolResult) -> tuple[int, dict[str, Any]]:
        call_id, known = self.calls.answered(result.name, result.call_id)
        name = result.name or known or call_id
        response: dict[str, Any] = {} if invented(call_id, name) or not call_id else {"id": call_id}
        response |= {"name": name, "response": result_object(result)}
        return self.order.get(call_id, len(self.order)), {"functionResponse": response}

    # ---- parameters ----------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        request, sampling = self.request, self.request.sampling
        config = {wire: getattr(sampling, name) for name, wire in _SAMPLING if getattr(sampling, name) is not None}
        if sampling.stop:
            config["stopSequences"] = sampling.stop
        if sampling.logprobs is not None:
            config["responseLogprobs"] = True
            if sampling.logprobs:
                config["logprobs"] = sampling.logprobs
        form = request.response_format
        if form is not None and form.get("type") != "text":
            config["responseMimeType"] = "application/json"
            schema = schema_of(form)
            if schema is not None:
                config["responseJsonSchema"] = schema
        kept = self.extra.get("generationConfig")
        own: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
        thinking = write_thinking(request.reasoning, request.model, own.pop("thinkingConfig", None), self._lose)
        if thinking:
            config["thinkingConfig"] = thinking
        return own | config

    def _tools(self, body: dict[str, Any]) -> None:
        request = self.request
        tools: list[Any] = []
        if request.tools:
            if any(tool.strict for tool in request.tools) and request.tool_choice == "auto":
                self._lose("tools.strict", "dropped", "the API holds calls to their schemas where one is required only")
            tools.append({"functionDeclarations": [_declaration(tool) for tool in request.tools]})
        own = self.extra.get("tools")
        tools += own if isinstance(own, list) else []
        if tools:
            body["tools"] = tools
        kept = self.extra.get("toolConfig")
        config: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
        if request.tools and request.tool_choice != "auto":
            modes = {"required": "ANY", "none": "NONE"}
            calling: dict[str, Any] = {"mode": modes.get(request.tool_choice, "ANY")}
            if request.tool_choice not in modes:
                calling["allowedFunctionNames"] = [request.tool_choice]
            config["functionCallingConfig"] = calling
        if config:
            body["toolConfig"] = config


def _declaration(tool: Tool) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declaration["description"] = tool.description
    if tool.parameters:
        declaration["parametersJsonSchema"] = tool.parameters
    return declaration


def _sign_first_call(parts: list[Any]) -> None:
    """See to it that the first call of a step has a signature."""
    first = next((part for part in parts if isinstance(part, dict) and "functionCall" in part), None)
    if first is not None:
        first.setdefault("thoughtSignature", _UNSIGNED)
