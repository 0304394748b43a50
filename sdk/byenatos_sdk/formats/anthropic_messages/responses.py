"""Whole answers, both ways; how answers end, and what they cost.

``usage.input_tokens`` leaves out what was read from a cache or written to one; the canonical count includes both. The
API has no way to say that a count is not known: 0 stands for it there.
"""

from typing import Any

import msgspec

from byenatos_sdk.formats.anthropic_messages.answers import Answer, WireUsage
from byenatos_sdk.formats.anthropic_messages.blocks import opaque, parts_of, raw_blocks, reasoning_block, tool_block
from byenatos_sdk.formats.anthropic_messages.errors import decode_error
from byenatos_sdk.formats.anthropic_messages.shapes import read_block
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Finish,
    InferenceResponse,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

__all__ = ["decode_response", "encode_response", "finish_of", "stop_fields", "usage_fields", "usage_of"]

_answers = msgspec.json.Decoder(Answer)

_FINISHES = {
    "end_turn": Finish("stop"),
    "max_tokens": Finish("length"),
    "stop_sequence": Finish("stop", detail="stop_sequence"),
    "tool_use": Finish("tool_calls"),
    "pause_turn": Finish("stop", detail="pause"),
    "refusal": Finish("content_filter", detail="refusal"),
    "model_context_window_exceeded": Finish("length", detail="context_length"),
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_DETAILS = {
    "stop_sequence": "stop_sequence",
    "pause": "pause_turn",
    "refusal": "refusal",
    "context_length": "model_context_window_exceeded",
}


# ---- reading ---------------------------------------------------------------------------------------------------


def usage_of(*found: WireUsage | None) -> Usage:
    """Return what a message's usage comes to; a later one's counts replace an earlier one's, for they are totals."""

    def last(name: str) -> int | None:
        values = [getattr(one, name) for one in found if one is not None]
        return next((value for value in reversed(values) if value is not None), None)

    read, written = last("cache_read_input_tokens") or 0, last("cache_creation_input_tokens") or 0
    plain = last("input_tokens")
    details = [one.output_tokens_details for one in found if one is not None and one.output_tokens_details is not None]
    thoughts = (details[-1].thinking_tokens if details else None) or 0
    return Usage(None if plain is None else plain + read + written, last("output_tokens"), read, written, thoughts)


def finish_of(stop_reason: str | None, stop_sequence: str | None, usage: Usage, *, called: bool) -> Finish:
    """Return how an answer ended; ``called``: it holds calls, whatever a server that imitates this API says."""
    finish = _FINISHES.get(stop_reason or "end_turn", Finish("stop", detail=stop_reason or ""))
    if finish == _FINISHES["end_turn"] and stop_sequence is not None:
        finish = _FINISHES["stop_sequence"]
    if finish == _FINISHES["end_turn"] and called:
        finish = _FINISHES["tool_use"]
    sequence = stop_sequence if finish.detail == "stop_sequence" else None
    return Finish(finish.reason, usage, detail=finish.detail, stop_sequence=sequence)


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        answer = read_as(_answers, wire.body)
        parts = _parts(answer)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None
    if answer.error is not None:
        raise decode_error(wire)
    if parts is None:
        raise UpstreamFailed("answer: expected content, found none", vendor_status=wire.status)
    called = any(isinstance(part, ToolCall) for part in parts)
    finish = finish_of(answer.stop_reason, answer.stop_sequence, usage_of(answer.usage), called=called)
    return InferenceResponse(
        Message("assistant", tuple(parts)),
        finish.reason,
        finish.usage,
        answer.model or "",
        detail=finish.detail,
        stop_sequence=finish.stop_sequence,
    )


def _parts(answer: Answer) -> list[Part] | None:
    if answer.content is None:
        return None
    parts: list[Part] = []
    for raw, at in raw_blocks(answer.content, "content"):
        kind, block = read_block(raw, at)
        parts += [opaque(bytes(raw))] if block is None else parts_of(block, kind, at)
    return parts


# ---- writing ---------------------------------------------------------------------------------------------------


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Write token counts; one that is not known becomes 0, for clients want a number."""
    cached = usage.cached_tokens + usage.cache_write_tokens
    fields: dict[str, Any] = {
        "input_tokens": max(0, (usage.input_tokens or 0) - cached),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.reasoning_tokens:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return fields


def stop_fields(finish: Finish, *, called: bool) -> dict[str, Any]:
    """Write how an answer ended. A reason that another vendor alone knows becomes the nearest one of this API."""
    reason = _DETAILS.get(finish.detail) or _STOPS[finish.reason]
    if reason == "end_turn" and called:
        reason = "tool_use"
    return {"stop_reason": reason, "stop_sequence": finish.stop_sequence if reason == "stop_sequence" else None}


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    content: list[Any] = []
    called = False
    for part in response.message.parts:
        if isinstance(part, Text) and part.text:
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Reasoning):
            content.append(reasoning_block(part))
        elif isinstance(part, ToolCall):
            content.append(tool_block(part, foreign=True))
            called = True
    finish = Finish(response.reason, detail=response.detail, stop_sequence=response.stop_sequence)
    body = {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        **stop_fields(finish, called=called),
        "usage": usage_fields(response.usage),
    }
    return WireResponse(json_body(body), 200, {"content-type": "application/json"})
