"""Requests to DashScope's native API, both ways: a model, its ``input`` and its ``parameters``.

Whether the answer is streamed stands in a header; whether its pieces are new text only (``incremental_output``) in a
parameter, which is false unless it is set. Multimodal models have a path of their own.
"""

import re
from typing import Any

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.dashscope.messages import is_multimodal, read_messages, write_messages
from byenatos_sdk.formats.extras import extras_for, kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat.tools import read_format, read_tools, write_tools
from byenatos_sdk.formats.wire import Decoded, Encoded, WireRequest, json_body, read_object
from byenatos_sdk.protocol.messages import InferenceRequest, ReasoningOptions, Sampling

__all__ = ["CAPABILITIES", "EXTRA", "MULTIMODAL", "NAME", "TEXT", "decode_request", "encode_request"]

NAME = "dashscope"
CAPABILITIES = MATRIX[NAME]

TEXT = "/services/aigc/text-generation/generation"
MULTIMODAL = "/services/aigc/multimodal-generation/generation"

EXTRA = frozenset({
    "enable_search", "search_options", "vl_high_resolution_images", "vl_enable_image_hw_output", "translation_options",
    "preserve_thinking", "enable_code_interpreter", "thinking_format", "modalities", "voice",
})  # fmt: skip
"""Parameters without a canonical place: they travel in ``extra`` under their own names."""

_SHAPE = ("incremental_output", "result_format")
"""Parameters that decide an answer's form; they stay with the request for whoever answers it."""

_MULTIMODAL_MODEL = re.compile(r"-(?:vl|omni|audio|ocr)\b|^(?:qvq|qwen-vl)", re.IGNORECASE)


# ---- outward ---------------------------------------------------------------------------------------------------


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request; a stream is always asked for in pieces of new text.

    Raises:
        InvalidRequest: the format cannot say it, and ``strict`` is set or there is nothing to replace it by.
    """
    adapted = adapt(request, capabilities or CAPABILITIES, strict=strict)
    fitted = adapted.request
    multimodal = is_multimodal(fitted.messages) or _MULTIMODAL_MODEL.search(fitted.model) is not None
    parameters: dict[str, Any] = {} if multimodal else {"result_format": "message"}
    if stream:
        parameters["incremental_output"] = True
    parameters |= _sampling(fitted.sampling)
    parameters |= write_tools(fitted)
    if fitted.response_format is not None:
        parameters["response_format"] = fitted.response_format
    parameters |= _reasoning(fitted.reasoning)
    extra = extras_for(NAME, fitted.extra)
    parameters |= {name: value for name, value in extra.items() if name in EXTRA}
    if "stop_token_ids" in extra:
        parameters["stop"] = [*fitted.sampling.stop, *extra["stop_token_ids"]]
    body = {
        "model": fitted.model,
        "input": {"messages": list(write_messages(fitted.messages, multimodal=multimodal))},
        "parameters": parameters,
    }
    headers = {"content-type": "application/json"}
    if stream:
        headers |= {"x-dashscope-sse": "enable", "accept": "text/event-stream"}
    wire = WireRequest(MULTIMODAL if multimodal else TEXT, json_body(body), headers)
    return Encoded(wire, adapted.losses, adapted.stops, adapted.tools)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, limit in CAPABILITIES.parameters.items():
        value = getattr(sampling, name)
        if value not in (None, ()) and name != "logprobs":
            parameters[limit.wire] = value
    if sampling.logprobs is not None:
        parameters |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    return parameters


def _reasoning(options: ReasoningOptions | None) -> dict[str, Any]:
    if options is None:
        return {}
    if options.effort == "none":
        return {"enable_thinking": False}
    budget = {} if options.budget is None else {"thinking_budget": options.budget}
    return {"enable_thinking": True, **budget}


# ---- inward ----------------------------------------------------------------------------------------------------


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    body = Fields(read_object(wire.body))
    parameters = body.inner("parameters") or Fields({}, "parameters")
    model = body.need_text("model")
    if not model:
        raise body.wrong("model", "a model's name")
    extra = {name: parameters.values[name] for name in (*EXTRA, *_SHAPE) if name in parameters}
    sampling = _read_sampling(parameters, extra)
    request = InferenceRequest(
        read_messages(body.need_inner("input")),
        model=model,
        sampling=sampling,
        response_format=read_format(parameters),
        reasoning=_read_reasoning(parameters),
        extra=kept(NAME, extra),
        **read_tools(parameters),
    )
    accept = wire.headers.get("accept", "")
    stream = wire.headers.get("x-dashscope-sse", "").lower() == "enable" or "text/event-stream" in accept
    choices = parameters.whole("n") or 1
    return Decoded(request, stream=stream, choices=max(1, choices), path=wire.path.partition("?")[0].rstrip("/"))


def _read_sampling(parameters: Fields, extra: dict[str, Any]) -> Sampling:
    values: dict[str, Any] = {}
    for name, limit in CAPABILITIES.parameters.items():
        if name in {"max_tokens", "top_k", "seed"}:
            values[name] = parameters.whole(limit.wire)
        elif name not in {"stop", "logprobs"}:
            number = parameters.number(limit.wire)
            values[name] = None if number is None else float(number)
    if parameters.flag("logprobs") or parameters.whole("top_logprobs") is not None:
        values["logprobs"] = parameters.whole("top_logprobs") or 0
    stops = parameters.get("stop")
    if isinstance(stops, list):
        ids = [stop for stop in stops if isinstance(stop, int) and not isinstance(stop, bool)]
        if ids:
            extra["stop_token_ids"] = ids
        parameters = Fields({"stop": [stop for stop in stops if stop not in ids]}, parameters.path)
    return Sampling(stop=parameters.texts("stop"), **values)


def _read_reasoning(parameters: Fields) -> ReasoningOptions | None:
    enabled, budget = parameters.flag("enable_thinking"), parameters.whole("thinking_budget")
    if enabled is False:
        return ReasoningOptions("none")
    if budget is not None:
        return ReasoningOptions(budget=budget)
    return ReasoningOptions("medium") if enabled else None
