"""Whole answers, both ways, in the envelope ``Response``."""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.fragments import CallFragments
from byenatos_sdk.formats.hunyuan.errors import decode_error, envelope_of
from byenatos_sdk.formats.hunyuan.messages import write_call
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Finish,
    FinishReason,
    InferenceResponse,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

__all__ = ["decode_response", "encode_response"]

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "sensitive": "content_filter",
}
WORDS: Mapping[FinishReason, str] = {reason: word for word, reason in _REASONS.items()}


def read_usage(usage: Any) -> Usage:
    """Read counts, of which the cached ones are text."""
    if not isinstance(usage, dict):
        return Usage(None, None)
    details = usage.get("PromptTokensDetails")
    cached = details.get("CachedTokens") if isinstance(details, dict) else None
    if isinstance(cached, str):
        cached = int(cached) if cached.isascii() and cached.isdigit() and len(cached) < 16 else None
    return Usage(count(usage.get("PromptTokens")), count(usage.get("CompletionTokens")), count(cached) or 0)


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write counts; what is not known is left out."""
    written: dict[str, Any] = {}
    if usage.input_tokens is not None:
        written["PromptTokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        written["CompletionTokens"] = usage.output_tokens
    if usage.input_tokens is not None and usage.output_tokens is not None:
        written["TotalTokens"] = usage.input_tokens + usage.output_tokens
    if usage.cached_tokens:
        written["PromptTokensDetails"] = {"CachedTokens": str(usage.cached_tokens)}
    return written


def finish_of(word: str, usage: Usage, *, called: bool) -> Finish:
    """Return the end that a word stands for; ``called``: whether the answer holds tool calls."""
    reason = _REASONS.get(word)
    if reason is None:
        return Finish("stop", usage, detail=word)
    return Finish("tool_calls" if called and reason == "stop" else reason, usage)


def choice_of(body: Mapping[str, Any], choice: int = 0) -> dict[str, Any] | None:
    """Return one of the answers; ``None`` if it is not there."""
    choices = body.get("Choices")
    for at, one in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(one, dict) and (at if one.get("Index") is None else one["Index"]) == choice:
            return one
    return None


def add_calls(calls: CallFragments, message: Mapping[str, Any]) -> None:
    """Add a message's calls, or fragments of calls, to ``calls``."""
    found = message.get("ToolCalls")
    for at, call in enumerate(found if isinstance(found, list) else ()):
        if isinstance(call, dict):
            function = call.get("Function")
            function = function if isinstance(function, dict) else {}
            index = at if call.get("Index") is None else call["Index"]
            calls.add(index, call.get("Id"), function.get("Name"), function.get("Arguments"))


def text_in(message: Mapping[str, Any], name: str) -> str:
    """Return a text of a message; empty if there is none."""
    text = message.get(name)
    return text if isinstance(text, str) else ""


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer, the first if there are several.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        body = envelope_of(read_object(wire.body, "answer"))
    except InvalidRequest as error:
        raise UpstreamFailed(error.message, vendor_status=wire.status) from None
    if isinstance(body.get("Error"), dict) or isinstance(body.get("ErrorMsg"), dict):
        raise decode_error(wire)
    choice = choice_of(body)
    message = choice.get("Message") if choice is not None else None
    if choice is None or not isinstance(message, dict):
        raise UpstreamFailed("answer: expected Response.Choices with a Message, found none", vendor_status=wire.status)
    parts: list[Part] = []
    thoughts, text = text_in(message, "ReasoningContent"), text_in(message, "Content")
    if thoughts:
        parts.append(Reasoning(thoughts))
    if text:
        parts.append(Text(text))
    calls = CallFragments()
    add_calls(calls, message)
    taken = calls.take()
    parts += [ToolCall(call.id, call.name, call.arguments) for call in taken]
    finish = finish_of(text_in(choice, "FinishReason") or "stop", read_usage(body.get("Usage")), called=bool(taken))
    return InferenceResponse(
        Message("assistant", tuple(parts)), finish.reason, finish.usage, text_in(body, "Model"), detail=finish.detail
    )


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    parts = response.message.parts
    message: dict[str, Any] = {"Role": "assistant", "Content": response.text}
    thoughts = "".join(part.text for part in parts if isinstance(part, Reasoning))
    if thoughts:
        message["ReasoningContent"] = thoughts
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if calls:
        message["ToolCalls"] = [write_call(call) | {"Index": at} for at, call in enumerate(calls)]
    body = {
        "RequestId": reply.id,
        "Note": "",
        "Choices": [{"Index": 0, "Message": message, "FinishReason": WORDS[response.reason]}],
        "Created": reply.created,
        "Id": reply.id,
        "Usage": write_usage(response.usage),
    }
    return WireResponse(json_body({"Response": body}), 200, {"content-type": "application/json"})
