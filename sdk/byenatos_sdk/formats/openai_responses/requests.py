"""Requests of the Responses API."""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for, kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat.own_fields import family_extra
from byenatos_sdk.formats.openai_chat.sampling import read_reasoning
from byenatos_sdk.formats.openai_chat.tools import CUSTOM_SCHEMA, CUSTOM_TOOLS, write_format
from byenatos_sdk.formats.openai_responses.items import NAME, read_input, write_input
from byenatos_sdk.formats.wire import Decoded, Encoded, WireRequest, json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, ReasoningOptions, Sampling, Tool

__all__ = ["CAPABILITIES", "decode_request", "encode_request", "request_body"]

CAPABILITIES = MATRIX["openai_responses"]

_EXTRA = frozenset(
    {
        "background",
        "context_management",
        "conversation",
        "include",
        "max_tool_calls",
        "metadata",
        "moderation",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "store",
        "truncation",
    }
)
_LOGPROBS = "message.output_text.logprobs"


def request_body(request: InferenceRequest) -> dict[str, Any]:
    """Write a request that is fitted already."""
    body: dict[str, Any] = {"model": request.model} | write_input(request.messages)
    sampling = request.sampling
    for name in ("temperature", "top_p"):
        if getattr(sampling, name) is not None:
            body[name] = getattr(sampling, name)
    if sampling.max_tokens is not None:
        body["max_output_tokens"] = sampling.max_tokens
    known = family_extra(request.extra)
    extra = {name: value for name, value in known.items() if name in _EXTRA}
    if sampling.logprobs is not None:
        body["top_logprobs"] = sampling.logprobs
        asked = extra.get("include")
        others = [one for one in asked if one != _LOGPROBS] if isinstance(asked, list) else []
        extra["include"] = [*others, _LOGPROBS]
    body |= _written_tools(request, extras_for(NAME, request.extra))
    text: dict[str, Any] = {}
    if request.response_format is not None:
        form = write_format(request.response_format)
        text["format"] = {"type": form["type"]} | form.get("json_schema", {})
    if isinstance(known.get("verbosity"), str):
        text["verbosity"] = known["verbosity"]
    if text:
        body["text"] = text
    options = request.reasoning
    if options is not None:
        said = {"effort": options.effort, "summary": options.summary}
        body["reasoning"] = {name: value for name, value in said.items() if value is not None}
    if request.metadata.get("end_user"):
        body["user"] = request.metadata["end_user"]
    return extra | body


def _written_tools(request: InferenceRequest, extra: Mapping[str, Any]) -> dict[str, Any]:
    own = extra.get("tools")
    tools: list[dict[str, Any]] = [_written_tool(tool) for tool in request.tools]
    tools += own if isinstance(own, list) else []
    if not tools:
        return {}
    body: dict[str, Any] = {"tools": tools}
    if request.tool_choice in {"none", "required"}:
        body["tool_choice"] = request.tool_choice
    elif request.tool_choice != "auto":
        body["tool_choice"] = {"type": "function", "name": request.tool_choice}
    elif isinstance(extra.get("tool_choice"), dict):
        body["tool_choice"] = extra["tool_choice"]
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _written_tool(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        written["description"] = tool.description
    written["parameters"] = tool.parameters
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request.

    Raises:
        InvalidRequest: the API cannot be told, and ``strict`` is set or there is nothing to replace it by.
    """
    fitted, losses, stops, tools = adapt(request, capabilities or CAPABILITIES, strict=strict)
    body = request_body(fitted) | ({"stream": True} if stream else {})
    wire = WireRequest("/responses", json_body(body), {"content-type": "application/json"})
    return Encoded(wire, losses, stops, tools)


def _tools(request: Fields) -> tuple[tuple[Tool, ...], list[dict[str, Any]]]:
    """Read the functions, and apart from them the vendor's own tools."""
    tools: list[Tool] = []
    own: list[dict[str, Any]] = []
    for one in request.objects("tools"):
        match one.need_text("type"):
            case "function":
                schema = one.mapping("parameters") or {}
                tools.append(Tool(one.need_text("name"), one.text("description") or "", schema, one.flag("strict")))
            case "custom":
                tools.append(Tool(one.need_text("name"), one.text("description") or "", CUSTOM_SCHEMA))
            case _:
                own.append(dict(one.values))
    return tuple(tools), own


def _choice(request: Fields, tools: tuple[Tool, ...], extra: dict[str, Any]) -> tuple[str, tuple[Tool, ...]]:
    choice = request.get("tool_choice")
    if choice is None:
        return "auto", tools
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            raise request.wrong("tool_choice", "none, auto, required or a function")
        if choice == "required" and not (tools or extra.get("tools")):
            raise request.wrong("tool_choice", "tools to choose from, or auto")
        return choice, tools
    fields = request.need_inner("tool_choice")
    kind = fields.need_text("type")
    if kind == "allowed_tools":
        kept = {one.text("name") for one in fields.objects("tools")}
        mode = fields.text("mode") or "auto"
        if mode not in {"auto", "required"}:
            raise fields.wrong("mode", "auto or required")
        return mode, tuple(tool for tool in tools if tool.name in kept)
    if kind not in {"function", "custom"}:
        extra["tool_choice"] = choice
        return "auto", tools
    name = fields.need_text("name")
    if name not in {tool.name for tool in tools}:
        names = ", ".join(tool.name for tool in tools) or "none"
        raise InvalidRequest(f"tool_choice: expected one of the tools ({names}), found {name[:80]!r}")
    return name, tools


def _format(text: Fields | None) -> dict[str, Any] | None:
    form = None if text is None else text.inner("format")
    if form is None:
        return None
    match form.need_text("type"):
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            if form.mapping("schema") is None:
                raise form.wrong("schema", "a JSON schema")
            inner = {key: value for key, value in form.values.items() if key != "type" and value is not None}
            return {"type": "json_schema", "json_schema": inner}
    raise form.wrong("type", "text, json_object or json_schema")


def _logprobs(request: Fields) -> int | None:
    wanted = _LOGPROBS in request.items("include")
    top = request.whole("top_logprobs")
    return (top or 0) if wanted or top is not None else None


def _reasoning(request: Fields) -> ReasoningOptions | None:
    own = request.inner("reasoning")
    return None if own is None else read_reasoning(Fields({"reasoning": own.values}))


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request; what the vendor would keep between requests goes through ``extra``.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    request = Fields(read_object(wire.body))
    extra = {name: value for name, value in request.values.items() if name in _EXTRA and value is not None}
    if isinstance(extra.get("include"), list):
        extra["include"] = [one for one in extra["include"] if one != _LOGPROBS]
        if not extra["include"]:
            del extra["include"]
    tools, own = _tools(request)
    if own:
        extra["tools"] = own
    custom = [one.need_text("name") for one in request.objects("tools") if one.text("type") == "custom"]
    if custom:
        extra[CUSTOM_TOOLS] = custom
    choice, tools = _choice(request, tools, extra)
    text = request.inner("text")
    if text is not None and "verbosity" in text:
        extra["verbosity"] = text.text("verbosity")
    end_user = request.text("safety_identifier") or request.text("user")
    return Decoded(
        InferenceRequest(
            read_input(request),
            model=request.text("model") or "default",
            sampling=Sampling(
                temperature=request.number("temperature"),
                top_p=request.number("top_p"),
                max_tokens=request.whole("max_output_tokens"),
                logprobs=_logprobs(request),
            ),
            tools=tools,
            tool_choice=choice,
            response_format=_format(text),
            metadata={"end_user": end_user} if end_user else {},
            extra=kept(NAME, extra),
            parallel_tool_calls=request.flag("parallel_tool_calls"),
            reasoning=_reasoning(request),
        ),
        stream=bool(request.flag("stream")),
        path=wire.path.partition("?")[0].rstrip("/"),
    )
