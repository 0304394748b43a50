"""Requests to Hunyuan's native API, both ways: one address, the action in a header, names in PascalCase.

The key signs each request over its exact bytes (``protocol.tc3``); whoever holds the key does that, the broker for
drivers. The native API was closed on 30 September 2026; its successor, TokenHub, speaks OpenAI's format.
"""

from typing import Any

import msgspec

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.extras import extras_for, kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.hunyuan.messages import read_messages, write_messages
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import Decoded, Encoded, WireRequest, json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, ReasoningOptions, Sampling, Tool

__all__ = ["CAPABILITIES", "NAME", "VERSION", "decode_request", "encode_request", "headers"]

NAME = "hunyuan"
CAPABILITIES = MATRIX[NAME]
VERSION = "2023-09-01"

EXTRA = frozenset({
    "StreamModeration", "EnableEnhancement", "SearchInfo", "Citation", "EnableSpeedSearch", "EnableMultimedia",
    "EnableDeepSearch", "ForceSearchEnhancement", "EnableRecommendedQuestions", "EnableDeepRead", "WebSearchOptions",
    "TopicChoice",
})  # fmt: skip
"""Fields without a canonical place: they travel in ``extra`` under their own names."""


def headers(action: str) -> dict[str, str]:
    """Return the headers that name an action; the signature is not among them."""
    return {"content-type": "application/json", "x-tc-action": action, "x-tc-version": VERSION}


# ---- outward ---------------------------------------------------------------------------------------------------


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request.

    Hunyuan stops after a stop sequence and leaves it in the text: ``stops`` are there to be cut by whoever reads.

    Raises:
        InvalidRequest: the format cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    adapted = adapt(request, capabilities or CAPABILITIES, strict=strict)
    fitted = adapted.request
    body: dict[str, Any] = {"Model": fitted.model, "Messages": write_messages(fitted.messages), "Stream": stream}
    for name, limit in CAPABILITIES.parameters.items():
        value = getattr(fitted.sampling, name)
        if value not in (None, ()):
            body[limit.wire] = value
    body |= _tools(fitted)
    if fitted.reasoning is not None and fitted.reasoning.effort is not None:
        body["EnableThinking"] = fitted.reasoning.effort != "none"
    body |= {name: value for name, value in extras_for(NAME, fitted.extra).items() if name in EXTRA}
    wire = WireRequest("/", json_body(body), headers("ChatCompletions"))
    return Encoded(wire, adapted.losses, (*fitted.sampling.stop, *adapted.stops), adapted.tools)


def _tools(request: InferenceRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    tools = {tool.name: _tool(tool) for tool in request.tools}
    written: dict[str, Any] = {"Tools": list(tools.values())}
    if request.tool_choice == "none":
        written["ToolChoice"] = "none"
    elif request.tool_choice != "auto":
        written |= {"ToolChoice": "custom", "CustomTool": tools[request.tool_choice]}
    return written


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"Name": tool.name}
    if tool.description:
        function["Description"] = tool.description
    function["Parameters"] = json_body(tool.parameters).decode()
    return {"Type": "function", "Function": function}


# ---- inward ----------------------------------------------------------------------------------------------------


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request for an answer.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    body = Fields(read_object(wire.body))
    model = body.need_text("Model")
    if not model:
        raise body.wrong("Model", "a model's name")
    tools = tuple(_read_tool(one) for one in body.objects("Tools"))
    choice = body.text("ToolChoice") or "auto"
    if choice == "custom":
        chosen = _read_tool(body.need_inner("CustomTool"))
        tools += () if any(tool.name == chosen.name for tool in tools) else (chosen,)
        choice = chosen.name
    elif choice not in {"none", "auto"}:
        raise body.wrong("ToolChoice", "none, auto or custom")
    thinking = body.flag("EnableThinking")
    temperature, top_p = body.number("Temperature"), body.number("TopP")
    request = InferenceRequest(
        read_messages(body),
        model=model,
        sampling=Sampling(
            temperature=None if temperature is None else float(temperature),
            top_p=None if top_p is None else float(top_p),
            stop=body.texts("Stop"),
            seed=body.whole("Seed"),
        ),
        tools=tools,
        tool_choice=choice,
        reasoning=None if thinking is None else ReasoningOptions("medium" if thinking else "none"),
        extra=kept(NAME, {name: body.values[name] for name in EXTRA if name in body}),
    )
    return Decoded(request, stream=bool(body.flag("Stream")), path=wire.path.partition("?")[0])


def _read_tool(tool: Fields) -> Tool:
    function = tool.need_inner("Function")
    written = function.text("Parameters") or "{}"
    try:
        parameters = msgspec.json.decode(written, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"{function.name('Parameters')}: expected a JSON schema as text, found: {error}") from None
    return Tool(function.need_text("Name"), function.text("Description") or "", parameters)
