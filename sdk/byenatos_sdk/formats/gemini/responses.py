"""Whole answers, both ways; how answers end, and what they cost.

``candidatesTokenCount`` leaves out the thoughts; the canonical count of what was written includes them, and that of
what was read includes what the vendor's own tools put into the prompt. A count that is missing beside others is 0.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from byenatos_sdk.formats.gemini.errors import decode_error
from byenatos_sdk.formats.gemini.parts import answer_deltas, call_part, media_part, reasoning_part, signature_of
from byenatos_sdk.formats.gemini.shapes import JSON, Answer, Candidate, LogprobsResult, WireUsage
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_as
from byenatos_sdk.protocol.answer import Answer as Sum
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Audio,
    Delta,
    File,
    Finish,
    Image,
    InferenceResponse,
    Part,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

__all__ = [
    "candidate_of",
    "decode_response",
    "deltas_of_candidate",
    "encode_choices",
    "encode_response",
    "finish_of",
    "finish_reason",
    "logprobs_fields",
    "logprobs_of",
    "usage_fields",
    "usage_of",
]

answers = msgspec.json.Decoder(Answer)

_FILTERED = frozenset(
    {
        "BLOCKLIST",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "JAILBREAK",
        "LANGUAGE",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
_BROKEN = frozenset(
    {
        "IMAGE_OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "NO_IMAGE",
        "OTHER",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)
"""Reasons for which what there is of an answer is none."""
_LOWEST = -9999.0
"""What stands for the log probability of the impossible, which JSON has no number for."""
_FINISHES = {"STOP": Finish("stop"), "MAX_TOKENS": Finish("length"), "CONTINUATION": Finish("stop", detail="pause")}


# ---- reading ---------------------------------------------------------------------------------------------------


def usage_of(found: WireUsage | None) -> Usage:
    """Return what an answer cost."""
    if found is None or found == WireUsage():
        return Usage(None, None)
    thoughts = found.thoughts_token_count or 0
    return Usage(
        (found.prompt_token_count or 0) + (found.tool_use_prompt_token_count or 0),
        (found.candidates_token_count or 0) + thoughts,
        found.cached_content_token_count or 0,
        0,
        thoughts,
    )


def finish_of(reason: str, message: str, usage: Usage, *, called: bool) -> Finish | UpstreamFailed:
    """Return how an answer ended, or the error that it ended in."""
    if reason in _BROKEN:
        return UpstreamFailed(f"{reason}: {message or 'the vendor broke the answer off'}", vendor_code=reason)
    if reason in _FILTERED:
        return Finish("content_filter", usage)
    finish = _FINISHES.get(reason or "STOP", Finish("stop", detail=reason))
    if finish == _FINISHES["STOP"] and called:
        return Finish("tool_calls", usage)
    return Finish(finish.reason, usage, detail=finish.detail)


def logprobs_of(found: LogprobsResult | None) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities of two parallel lists."""
    chosen = (found.chosen_candidates if found is not None else None) or []
    tops = (found.top_candidates if found is not None else None) or []
    return tuple(
        TokenLogprob(
            one.token,
            _number(one.log_probability),
            tuple(
                (top.token, _number(top.log_probability))
                for top in (tops[at].candidates if at < len(tops) else None) or ()
            ),
        )
        for at, one in enumerate(chosen)
    )


def _number(logprob: float | None) -> float:
    return 0.0 if logprob is None else logprob


def candidate_of(answer: Answer, choice: int) -> Candidate | None:
    """Return the answer of that index; one without an index is the first."""
    return next((one for one in answer.candidates or () if (one.index or 0) == choice), None)


def deltas_of_candidate(candidate: Candidate, calls: int, response_id: str) -> list[Delta]:
    """Return what a candidate says; ``calls`` is how many calls came before it.

    Raises:
        InvalidRequest: a part of it is not as the API writes parts.
    """
    found: list[Delta] = []
    parts = (candidate.content.parts if candidate.content is not None else None) or ()
    for raw in parts:
        deltas = list(answer_deltas(bytes(raw), calls, response_id))
        calls += sum(isinstance(delta, ToolCallDelta) for delta in deltas)
        found += deltas
    return found


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer: the first candidate.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        answer = read_as(answers, wire.body)
        candidate = candidate_of(answer, 0)
        deltas = [] if candidate is None else deltas_of_candidate(candidate, 0, answer.response_id or "")
    except InvalidRequest as error:
        raise _not_an_answer(wire, error) from None
    if answer.error is not None:
        raise decode_error(wire)
    reason = (candidate.finish_reason if candidate is not None else None) or ""
    if candidate is None and answer.prompt_feedback is not None:
        reason = "SAFETY"
    elif candidate is None:
        raise UpstreamFailed("answer: expected candidates or promptFeedback, found neither", vendor_status=wire.status)
    summed = Sum()
    for delta in deltas:
        summed.add(delta)
    called = any(isinstance(delta, ToolCallDelta) for delta in deltas)
    message = (candidate.finish_message if candidate is not None else None) or ""
    finish = finish_of(reason, message, usage_of(answer.usage_metadata), called=called)
    if isinstance(finish, ByenatosError):
        raise finish
    summed.add(finish)
    logprobs = logprobs_of(candidate.logprobs_result if candidate is not None else None)
    return msgspec.structs.replace(summed.response(), model=answer.model_version or "", logprobs=logprobs)


def _not_an_answer(wire: WireResponse, error: InvalidRequest) -> ByenatosError:
    """Return the error of a body that is not as the API writes answers: a list of one error, perhaps."""
    told = decode_error(wire)
    if wire.body.lstrip().startswith(b"[") and told.vendor_code:
        return told
    return UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status)


# ---- writing ---------------------------------------------------------------------------------------------------


def finish_reason(finish: Finish) -> str:
    """Write how an answer ended. A reason that another vendor alone knows becomes the nearest one of this API."""
    if finish.detail == "pause":
        return "CONTINUATION"
    return {"length": "MAX_TOKENS", "content_filter": "SAFETY"}.get(finish.reason, "STOP")


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Write token counts; those that are not known are left out."""
    fields: dict[str, Any] = {}
    if usage.input_tokens is not None:
        fields["promptTokenCount"] = usage.input_tokens
    if usage.cached_tokens:
        fields["cachedContentTokenCount"] = usage.cached_tokens
    if usage.output_tokens is not None:
        fields["candidatesTokenCount"] = max(0, usage.output_tokens - usage.reasoning_tokens)
    if usage.reasoning_tokens:
        fields["thoughtsTokenCount"] = usage.reasoning_tokens
    if fields:
        fields["totalTokenCount"] = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return fields


def logprobs_fields(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    """Write log probabilities as two parallel lists."""
    return {
        "chosenCandidates": [{"token": one.token, "logProbability": _finite(one.logprob)} for one in tokens],
        "topCandidates": [
            {"candidates": [{"token": token, "logProbability": _finite(value)} for token, value in one.top]}
            for one in tokens
        ],
    }


def _finite(logprob: float) -> float:
    return max(logprob, _LOWEST)


def _part(part: Part) -> Any:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Reasoning):
        return reasoning_part(part)
    if isinstance(part, ToolCall):
        signature = signature_of(part)
        return call_part(part) if signature is None else call_part(part) | {"thoughtSignature": signature}
    return media_part(part) if isinstance(part, Image | Audio | File) else None


def _candidate(response: InferenceResponse, index: int) -> dict[str, Any]:
    parts = [written for part in response.message.parts if (written := _part(part)) is not None]
    finish = Finish(response.reason, detail=response.detail)
    candidate: dict[str, Any] = {
        "content": {"parts": parts, "role": "model"},
        "finishReason": finish_reason(finish),
        "index": index,
    }
    if response.logprobs:
        candidate["logprobsResult"] = logprobs_fields(response.logprobs)
        values = [_finite(one.logprob) for one in response.logprobs]
        candidate["avgLogprobs"] = sum(values) / len(values)
    return candidate


def encode_choices(answers: Sequence[InferenceResponse], reply: Reply) -> WireResponse:
    """Write several answers to one request; what they read counts once, what they wrote adds up."""
    body: dict[str, Any] = {"candidates": [_candidate(answer, at) for at, answer in enumerate(answers)]}
    written = [answer.usage.output_tokens for answer in answers if answer.usage.output_tokens is not None]
    output = sum(written) if len(written) == len(answers) else None
    thoughts = sum(answer.usage.reasoning_tokens for answer in answers)
    usage = usage_fields(replace(answers[0].usage, output_tokens=output, reasoning_tokens=thoughts))
    if usage:
        body["usageMetadata"] = usage
    body |= {"modelVersion": reply.model, "responseId": reply.id}
    return WireResponse(json_body(body), 200, dict(JSON))


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    return encode_choices([response], reply)
