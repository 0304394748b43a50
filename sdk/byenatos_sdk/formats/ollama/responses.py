"""Whole answers and errors, both ways. A tool call's end is called ``stop`` here; missing counts are unknown, not 0."""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from byenatos_sdk.formats.calls import arguments_object, invented_id
from byenatos_sdk.formats.failures import body_of, failure, is_context, text_of
from byenatos_sdk.formats.ollama.incoming import arguments_of
from byenatos_sdk.formats.ollama.shapes import Answer, Call, Function, Logprob, TopLogprob, WireMessage
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from byenatos_sdk.protocol.messages import (
    Finish,
    FinishReason,
    InferenceResponse,
    Logprobs,
    Message,
    Part,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)

__all__ = ["decode_error", "decode_response", "encode_error", "encode_response"]

decoder = msgspec.json.Decoder(Answer)
JSON = {"content-type": "application/json; charset=utf-8"}

_STATUSES: dict[type[ByenatosError], int] = {
    Unauthenticated: 401,
    QuotaExceeded: 402,
    PermissionDenied: 403,
    NotFound: 404,
    RequestTooLarge: 413,
    ContentFiltered: 400,
    InvalidRequest: 400,
    RateLimited: 429,
    UpstreamTimeout: 504,
    UpstreamFailed: 500,
    Overloaded: 503,
    Unavailable: 503,
}


def created_at(created: int) -> str:
    """Return a moment, in seconds since the epoch, as Ollama writes it."""
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- answers ---------------------------------------------------------------------------------------------------


def finish_of(answer: Answer, *, called: bool) -> Finish:
    """Return the end that an answer's last line says; ``called``: whether it holds tool calls."""
    usage = Usage(answer.prompt_eval_count, answer.eval_count)
    word = answer.done_reason or "stop"
    reason: FinishReason = "stop"
    if word == "length":
        reason = "length"
    elif word == "stop":
        reason = "tool_calls" if called else "stop"
    return Finish(reason, usage, detail="" if word in {"stop", "length"} else word)


def parts_of(answer: Answer, calls: int = 0) -> list[Part]:
    """Return what an answer, or a line of one, says; ``calls`` tool calls went before."""
    message = answer.message or WireMessage()
    parts: list[Part] = []
    thinking = message.thinking or answer.thinking
    if thinking:
        parts.append(Reasoning(thinking))
    text = message.content or answer.response
    if text:
        parts.append(Text(text))
    for at, call in enumerate(message.tool_calls or (), calls):
        name = call.function.name
        parts.append(ToolCall(call.id or invented_id(at, name), name, arguments_of(call.function.arguments)))
    return parts


def logprobs_of(answer: Answer) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities that came with an answer or a line of one."""
    return tuple(
        TokenLogprob(one.token, one.logprob, tuple((top.token, top.logprob) for top in one.top_logprobs or ()))
        for one in answer.logprobs or ()
    )


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer of ``/api/chat`` or ``/api/generate``.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        answer = read_as(decoder, wire.body)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None
    if answer.error is not None:
        raise decode_error(wire)
    if answer.message is None and answer.response is None:
        raise UpstreamFailed("answer: expected message or response, found neither", vendor_status=wire.status)
    parts = parts_of(answer)
    finish = finish_of(answer, called=any(isinstance(part, ToolCall) for part in parts))
    return InferenceResponse(
        Message("assistant", tuple(parts)),
        finish.reason,
        finish.usage,
        answer.model or "",
        detail=finish.detail,
        logprobs=logprobs_of(answer),
    )


def done_fields(finish: Finish) -> dict[str, Any]:
    """Return what an answer's last line says beyond its message; counts that are not known are left out."""
    word = finish.detail if finish.detail in {"load", "unload"} else "length" if finish.reason == "length" else "stop"
    fields: dict[str, Any] = {"done": True, "done_reason": word}
    if word not in {"load", "unload"}:
        counts = {"prompt_eval_count": finish.usage.input_tokens, "eval_count": finish.usage.output_tokens}
        fields |= {name: count for name, count in counts.items() if count is not None}
    return fields


def durations(asked_s: float, begun_s: float) -> dict[str, int]:
    """Return, in nanoseconds, how long an answer took that ends now: all of it, its prompt, its text.

    Both moments are of the monotonic clock. Loading is the kernel's own affair and not waited for apart.
    """
    if not asked_s:
        return {}
    now = time.monotonic()
    begun_s = begun_s or now
    return {
        "total_duration": _nanoseconds(now - asked_s),
        "load_duration": 0,
        "prompt_eval_duration": _nanoseconds(begun_s - asked_s),
        "eval_duration": _nanoseconds(now - begun_s),
    }


def _nanoseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e9))


def is_generate(reply: Reply) -> bool:
    """Say whether ``/api/generate`` was asked."""
    return reply.asked is not None and reply.asked.path.endswith("/generate")


def wire_call(call: ToolCall, at: int) -> Call:
    """Return a call as an answer holds it."""
    return Call(call.id or None, Function(call.name, arguments_object(call.arguments), at))


def wire_logprobs(tokens: tuple[TokenLogprob, ...]) -> list[Logprob]:
    """Return log probabilities as an answer holds them: finite, as JSON wants it."""
    return [
        Logprob(one.token, _finite(one.logprob), [TopLogprob(token, _finite(value)) for token, value in one.top])
        for one in tokens
    ]


def _finite(logprob: float) -> float:
    return max(-9999.0, logprob)


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer, in the form of the path that was asked."""
    body: dict[str, Any] = {"model": reply.model, "created_at": created_at(reply.created)}
    parts = response.message.parts
    thinking = "".join(part.text for part in parts if isinstance(part, Reasoning))
    if is_generate(reply):
        body["response"] = response.text
        if thinking:
            body["thinking"] = thinking
    else:
        calls = [part for part in parts if isinstance(part, ToolCall)]
        message = WireMessage("assistant", response.text, thinking or None)
        message.tool_calls = [wire_call(call, at) for at, call in enumerate(calls)] or None
        body["message"] = message
    body |= done_fields(Finish(response.reason, response.usage, detail=response.detail))
    body |= durations(reply.asked_s, reply.begun_s)
    if response.logprobs:
        body["logprobs"] = wire_logprobs(response.logprobs)
    return WireResponse(json_body(body), 200, dict(JSON))


def logprobs_delta(answer: Answer) -> list[Logprobs]:
    """Return a line's log probabilities as a delta, if it has any."""
    tokens = logprobs_of(answer)
    return [Logprobs(tokens)] if tokens else []


# ---- errors ----------------------------------------------------------------------------------------------------


def decode_error(wire: WireResponse) -> ByenatosError:
    """Read an error from any body: ``{"error": text}``, what its OpenAI layer says, or no JSON at all."""
    body = body_of(wire)
    found = body.get("error") if isinstance(body, dict) else None
    if isinstance(found, dict):
        found = found.get("message")
    message = found if isinstance(found, str) else text_of(wire)
    return error_of(message, wire)


def error_of(message: str, wire: WireResponse) -> ByenatosError:
    """Return the error that a text stands for; in a stream's line there is no status to tell it by."""
    lower = message.lower()
    if wire.status >= 400:
        never = "requires more system memory" in lower
        return failure(wire, message, retryable=False if never else None)
    if "server busy" in lower or "maximum pending requests" in lower:
        return Overloaded(message)
    if lower.startswith("model") and "not found" in lower:
        return NotFound(message)
    if "does not support" in lower:
        return InvalidRequest(message)
    told = failure(msgspec.structs.replace(wire, status=500), message)
    told.vendor_status = wire.status
    return told


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error with the status that Ollama's clients expect."""
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
    headers = dict(JSON)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(0, round(error.retry_after_s)))
    return WireResponse(json_body({"error": error_text(error)}), status, headers)


def error_text(error: ByenatosError) -> str:
    """Return the text that clients know an error by: there is nothing else."""
    if isinstance(error, ContextLengthExceeded) and not is_context(error.message):
        return f"input length exceeds the context length: {error.message}"
    return error.message or error.code
