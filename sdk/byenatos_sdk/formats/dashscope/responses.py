"""Whole answers, both ways: choices with messages, or with ``result_format`` ``text`` a text alone."""

from collections.abc import Mapping
from typing import Any

from byenatos_sdk.formats.dashscope.errors import decode_error
from byenatos_sdk.formats.dashscope.messages import content_text
from byenatos_sdk.formats.dashscope.requests import MULTIMODAL
from byenatos_sdk.formats.fragments import CallFragments
from byenatos_sdk.formats.openai_chat.logprobs import read_logprobs, write_logprobs
from byenatos_sdk.formats.openai_chat.messages import write_call
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
    "content_filter": "content_filter",
}


def read_usage(usage: Any) -> Usage:
    """Read counts; what is not said is unknown. Cached tokens are part of the input, reasoning is of the output."""
    if not isinstance(usage, dict):
        return Usage(None, None)
    cached = _detail(usage, "cached_tokens", "prompt_tokens_details", "input_tokens_details")
    stored = _detail(usage, "cache_creation_input_tokens", "prompt_tokens_details", "input_tokens_details")
    reasoning = _detail(usage, "reasoning_tokens", "output_tokens_details", "completion_tokens_details")
    return Usage(count(usage.get("input_tokens")), count(usage.get("output_tokens")), cached, stored, reasoning)


def _detail(usage: dict[str, Any], name: str, *places: str) -> int:
    for place in places:
        inner = usage.get(place)
        found = count(inner.get(name)) if isinstance(inner, dict) else None
        if found is not None:
            return found
    return 0


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write counts; what is not known is left out."""
    written: dict[str, Any] = {}
    if usage.input_tokens is not None:
        written["input_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        written["output_tokens"] = usage.output_tokens
    if usage.input_tokens is not None and usage.output_tokens is not None:
        written["total_tokens"] = usage.input_tokens + usage.output_tokens
    prompt: dict[str, int] = {}
    if usage.cached_tokens:
        prompt["cached_tokens"] = usage.cached_tokens
    if usage.cache_write_tokens:
        prompt["cache_creation_input_tokens"] = usage.cache_write_tokens
    if prompt:
        written["prompt_tokens_details"] = prompt
    if usage.reasoning_tokens:
        written["output_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return written


def finish_of(word: str, usage: Usage, *, called: bool) -> Finish:
    """Return the end that a word stands for; ``called``: whether the answer holds tool calls."""
    reason = _REASONS.get(word)
    if reason is None:
        return Finish("stop", usage, detail=word)
    return Finish("tool_calls" if called and reason == "stop" else reason, usage)


def is_word(word: Any) -> bool:
    """Say whether a finish reason is one: until the end it is ``null``, the word or the value."""
    return isinstance(word, str) and word not in {"", "null"}


def choice_of(output: Mapping[str, Any], choice: int = 0) -> dict[str, Any] | None:
    """Return an answer as a choice with a message, in whichever form it came; ``None`` if it is not in ``output``."""
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices:
        text = output.get("text")
        if choice or (not isinstance(text, str) and not is_word(output.get("finish_reason"))):
            return None
        message = {"role": "assistant", "content": text, "reasoning_content": output.get("reasoning_content")}
        return {"finish_reason": output.get("finish_reason"), "message": message}
    for at, one in enumerate(choices):
        if isinstance(one, dict) and one.get("index", at) == choice:
            return one
    return None


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer, the first if there are several.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        body = read_object(wire.body, "answer")
    except InvalidRequest as error:
        raise UpstreamFailed(error.message, vendor_status=wire.status) from None
    output = body.get("output")
    choice = choice_of(output) if isinstance(output, dict) else None
    if choice is None:
        if body.get("code"):
            raise decode_error(wire)
        raise UpstreamFailed("answer: expected output.choices or output.text, found neither", vendor_status=wire.status)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    parts: list[Part] = []
    thoughts = message.get("reasoning_content")
    if isinstance(thoughts, str) and thoughts:
        parts.append(Reasoning(thoughts))
    text = content_text(message.get("content"))
    if text:
        parts.append(Text(text))
    calls = CallFragments()
    add_calls(calls, message)
    parts += [ToolCall(call.id, call.name, call.arguments) for call in calls.take()]
    word = choice.get("finish_reason")
    called = any(isinstance(part, ToolCall) for part in parts)
    finish = finish_of(
        word if isinstance(word, str) and is_word(word) else "stop", read_usage(body.get("usage")), called=called
    )
    return InferenceResponse(
        Message("assistant", tuple(parts)),
        finish.reason,
        finish.usage,
        str(body.get("model") or ""),
        detail=finish.detail,
        logprobs=read_logprobs(choice.get("logprobs")),
    )


def add_calls(calls: CallFragments, message: Mapping[str, Any]) -> None:
    """Add a message's calls, or fragments of calls, to ``calls``."""
    found = message.get("tool_calls")
    for at, call in enumerate(found if isinstance(found, list) else ()):
        if isinstance(call, dict):
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            calls.add(call.get("index", at), call.get("id"), function.get("name"), function.get("arguments"))


def wire_message(
    reply: Reply, text: str, thoughts: str | None, calls: list[ToolCall], first: int = 0
) -> dict[str, Any]:
    """Return a message as the path that was asked has it; ``thoughts`` are ``None`` where there were never any.

    ``first`` is the number of the first of the ``calls`` in the whole answer.
    """
    multimodal = reply.asked is not None and reply.asked.path.endswith(MULTIMODAL)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if multimodal:
        message["content"] = [{"text": text}] if text else []
    if thoughts is not None:
        message["reasoning_content"] = thoughts
    if calls:
        message["tool_calls"] = [write_call(call) | {"index": at} for at, call in enumerate(calls, first)]
    return message


def wants_text(reply: Reply) -> bool:
    """Say whether the client asked for a text alone."""
    return reply.asked is not None and reply.asked.request.extra.get("result_format") == "text"


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer in the form that was asked for."""
    parts = response.message.parts
    if wants_text(reply):
        output: dict[str, Any] = {"text": response.text, "finish_reason": response.reason}
    else:
        thoughts = "".join(part.text for part in parts if isinstance(part, Reasoning)) or None
        calls = [part for part in parts if isinstance(part, ToolCall)]
        choice = {
            "finish_reason": response.reason,
            "index": 0,
            "message": wire_message(reply, response.text, thoughts, calls),
        }
        if response.logprobs:
            choice["logprobs"] = write_logprobs(response.logprobs)
        output = {"choices": [choice]}
    body = {"output": output, "usage": write_usage(response.usage), "request_id": reply.id}
    return WireResponse(json_body(body), 200, {"content-type": "application/json"})
