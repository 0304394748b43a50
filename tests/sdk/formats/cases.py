"""The wire cases in ``cases/``, and their neutral meanings as canonical values to compare with.

``cases/*.json`` hold what vendors really send and accept, a list per vendor. ``meaning`` is turned into canonical
messages (``request_of``, ``response_of``, ``deltas_of_meaning``), and ``assert_*`` compare what a format decoded with
it: everything that the meaning names must be as it says, everything that it leaves out must be absent.
"""

import base64
import itertools
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from byenatos_sdk.formats.wire import Decoded, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.answer import Answer, deltas_of
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import (
    Audio,
    Delta,
    Failure,
    File,
    Finish,
    Image,
    InferenceRequest,
    InferenceResponse,
    Message,
    Part,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

__all__ = [
    "CODES",
    "Case",
    "assert_deltas",
    "assert_error",
    "assert_request",
    "assert_response",
    "deltas_of_meaning",
    "error_code",
    "finish_of",
    "load",
    "load_all",
    "pieces",
    "request_of",
    "response_of",
    "said",
    "usage_of",
    "wire_request",
    "wire_response",
]

_FOLDER = Path(__file__).with_name("cases")

CODES = {
    "authentication": "unauthenticated",
    "permission": "permission_denied",
    "timeout": "upstream_timeout",
    "server_error": "upstream_failed",
}
"""Classes of errors in the cases that have another name in the tree of errors."""

_SAMPLING = frozenset(Sampling.__struct_fields__)
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class Case(NamedTuple):
    """One case; ``str`` of it names its test."""

    id: str
    kind: str
    wire: dict[str, Any]
    meaning: dict[str, Any]

    def __str__(self) -> str:
        return self.id


@cache
def _all(vendor: str) -> tuple[Case, ...]:
    found = json.loads((_FOLDER / f"{vendor}.json").read_text())
    return tuple(Case(one["id"], one["kind"], one["wire"], one["meaning"]) for one in found)


def load(vendor: str, *kinds: str) -> list[Case]:
    """Return the cases in ``cases/<vendor>.json``, of these kinds only if any are named."""
    return [case for case in _all(vendor) if not kinds or case.kind in kinds]


def load_all(vendor: str, *kinds: str) -> list[Case]:
    """Return a vendor's cases, those that were given and our own (``cases/<vendor>_own.json``)."""
    return load(vendor, *kinds) + (load(f"{vendor}_own", *kinds) if (_FOLDER / f"{vendor}_own.json").exists() else [])


# ---- wire forms ------------------------------------------------------------------------------------------------


def _body(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json_body(body)


def _lower(headers: dict[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def wire_request(case: Case) -> WireRequest:
    """Return a case's request as it comes in."""
    wire = case.wire
    return WireRequest(wire["path"], _body(wire["body"]), _lower(wire.get("headers")), wire["method"])


def wire_response(case: Case) -> WireResponse:
    """Return a case's response or error."""
    wire = case.wire
    return WireResponse(_body(wire["body"]), wire["status"], _lower(wire.get("headers")))


def pieces(case: Case) -> list[bytes]:
    """Return a case's stream, cut as the case says; in one piece if it does not."""
    raw: bytes = case.wire["raw"].encode()
    cut = case.wire.get("split_at")
    if cut is None:
        return [raw]
    at = range(1, len(raw)) if cut == "every_byte" else cut
    edges = [0, *at, len(raw)]
    return [raw[first:last] for first, last in itertools.pairwise(edges)]


# ---- meanings as canonical values ------------------------------------------------------------------------------


def error_code(meaning: dict[str, Any]) -> str:
    """Return the stable code of a meaning's error."""
    found = meaning["error"]["class"]
    return CODES.get(found, found)


def _part(part: dict[str, Any]) -> Part:
    ((kind, value),) = part.items()
    data = base64.b64decode(value["b64"]) if isinstance(value, dict) and "b64" in value else None
    match kind:
        case "text":
            return Text(value)
        case "image":
            media_type = value.get("mime", "image/png")
            return Image(media_type, data, value.get("url"), value.get("detail", "auto"), value.get("file_id"))
        case "audio":
            assert data is not None
            return Audio(data, _AUDIO.get(value["format"], f"audio/{value['format']}"))
        case "file":
            media_type = value.get("mime", "application/octet-stream")
            return File(value.get("name", ""), media_type, data, value.get("url"), value.get("file_id"))
        case "thinking":
            opaque = value.get("opaque")
            return Reasoning(value.get("text", ""), value.get("signature", opaque), redacted=opaque is not None)
        case "tool_call":
            return ToolCall(value.get("id", ""), value["name"], _arguments(value))
        case "tool_result":
            text = value["content"] if isinstance(value["content"], str) else json.dumps(value["content"])
            return ToolResult(value.get("id", ""), text, value.get("is_error", False), value.get("name", ""))
    raise AssertionError(f"unknown kind of part: {kind}")


def _arguments(call: dict[str, Any]) -> str:
    """Return the arguments as text: what is no JSON as it came, nothing as an empty object."""
    raw: str = call.get("arguments_raw", json.dumps(call.get("arguments")))
    return raw or "{}"


def _response_format(output: dict[str, Any] | None) -> dict[str, Any] | None:
    if output is None or output["type"] not in {"json", "json_object", "json_schema"}:
        return None
    if output["type"] != "json_schema":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {key: output[key] for key in output if key != "type"}}


def _reasoning(reasoning: dict[str, Any] | None) -> ReasoningOptions | None:
    if reasoning is None:
        return None
    effort = reasoning.get("effort")
    if effort is None and "enabled" in reasoning and "budget" not in reasoning:
        effort = "medium" if reasoning["enabled"] else "none"
    return ReasoningOptions(effort, reasoning.get("budget"), reasoning.get("summary"))


def request_of(meaning: dict[str, Any]) -> InferenceRequest:
    """Return the request that a meaning describes; parameters without a canonical name go into ``extra``."""
    parameters = meaning.get("params", {})
    messages = [Message("system", (Text(text),)) for text in meaning.get("system", ())]
    if "prompt" in meaning:
        messages.append(Message("user", (Text(meaning["prompt"]),)))
    turns = meaning.get("turns", ())
    messages += [Message(turn["role"], tuple(_part(part) for part in turn["parts"])) for turn in turns]
    choice = meaning.get("tool_choice", "auto")
    sampling = {name: value for name, value in parameters.items() if name in _SAMPLING}
    sampling["stop"] = tuple(sampling.get("stop", ()))
    if "logit_bias" in sampling:
        sampling["logit_bias"] = {int(token): bias for token, bias in sampling["logit_bias"].items()}
    return InferenceRequest(
        tuple(messages),
        model=meaning.get("model", "default"),
        sampling=Sampling(**sampling),
        tools=tuple(
            Tool(one["name"], one.get("description", ""), one.get("schema", {}), one.get("strict"))
            for one in meaning.get("tools", ())
        ),
        tool_choice=choice["name"] if isinstance(choice, dict) else choice,
        response_format=_response_format(meaning.get("output")),
        metadata={"end_user": parameters["end_user"]} if "end_user" in parameters else {},
        extra={name: value for name, value in parameters.items() if name not in _SAMPLING | {"end_user"}},
        parallel_tool_calls=meaning.get("parallel_tools"),
        reasoning=_reasoning(meaning.get("reasoning")),
        raw="prompt" in meaning,
    )


def usage_of(usage: dict[str, int] | None) -> Usage:
    """Return a meaning's usage; what it does not name is unknown."""
    found = usage or {}
    return Usage(
        found.get("input"),
        found.get("output"),
        found.get("cached_read", 0),
        found.get("cache_write", 0),
        found.get("reasoning", 0),
    )


def finish_of(meaning: dict[str, Any]) -> Finish:
    """Return the end of the answer that a meaning describes."""
    word = meaning["finish"]
    usage = usage_of(meaning.get("usage"))
    if meaning.get("refusal") is not None or word == "refusal":
        return Finish("content_filter", usage, detail="refusal")
    match word:
        case "stop" | "length" | "tool_calls" | "content_filter":
            return Finish(word, usage)
        case "stop_sequence":
            return Finish("stop", usage, detail="stop_sequence", stop_sequence=meaning.get("stop_sequence"))
        case "context_length":
            return Finish("length", usage, detail="context_length")
        case "pause" | "load" | "unload":
            return Finish("stop", usage, detail=word)
        case "unknown":
            return Finish("stop", usage, detail=meaning.get("finish_raw", ""))
    raise AssertionError(f"unknown finish: {word}")


def response_of(meaning: dict[str, Any], model: str = "") -> InferenceResponse:
    """Return the answer that a meaning describes."""
    parts: list[Part] = []
    if meaning.get("thinking"):
        parts.append(Reasoning(meaning["thinking"], meaning.get("thinking_signature")))
    text = meaning.get("refusal") or meaning.get("text")
    if text:
        parts.append(Text(text))
    parts += [
        ToolCall(call.get("id") or f"call_{at}_{call['name']}", call["name"], _arguments(call))
        for at, call in enumerate(meaning.get("tool_calls", ()))
    ]
    finish = finish_of(meaning)
    return InferenceResponse(
        Message("assistant", tuple(parts)),
        finish.reason,
        finish.usage,
        model,
        detail=finish.detail,
        stop_sequence=finish.stop_sequence,
        logprobs=tuple(_logprob(one) for one in meaning.get("logprobs", ())),
    )


def _logprob(one: dict[str, Any]) -> TokenLogprob:
    return TokenLogprob(one["token"], one["logprob"], tuple((token, value) for token, value in one.get("top", ())))


def deltas_of_meaning(meaning: dict[str, Any]) -> list[Delta]:
    """Return the stream of a meaning that ends well."""
    return deltas_of(response_of(meaning))


# ---- comparisons -----------------------------------------------------------------------------------------------


def _loaded(arguments: str) -> Any:
    """Return arguments as JSON where they are JSON: blanks between tokens mean nothing."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _normal(part: Part) -> Any:
    if isinstance(part, ToolCall):
        return "tool_call", part.id, part.name, _loaded(part.arguments)
    if isinstance(part, Reasoning):
        return "reasoning", part.text, part.signature, part.redacted
    return part


def said(messages: Iterable[Message]) -> list[Any]:
    """Return messages in a form in which those that mean the same are equal."""
    return [(message.role, [_normal(part) for part in message.parts if part != Text("")]) for message in messages]


def assert_request(decoded: Decoded, meaning: dict[str, Any]) -> None:
    """Compare a decoded request with its meaning. What ``extra`` holds beyond the meaning's parameters is free."""
    found, expected = decoded.request, request_of(meaning)
    assert said(found.messages) == said(expected.messages)
    for name in ("tools", "tool_choice", "parallel_tool_calls", "reasoning", "sampling", "metadata", "raw"):
        assert getattr(found, name) == getattr(expected, name), name
    assert _without_name(found.response_format) == _without_name(expected.response_format)
    if "model" in meaning:
        assert found.model == meaning["model"]
    for name, value in expected.extra.items():
        assert found.extra[name] == value, name
    assert decoded.stream == meaning.get("stream", False)
    assert decoded.action == meaning.get("action", "infer")
    if decoded.stream and "usage_in_stream" in meaning:
        assert decoded.usage_in_stream == meaning["usage_in_stream"]
    if "prefill" in meaning:
        assert bool(found.partial) == meaning["prefill"]


def _without_name(form: dict[str, Any] | None) -> dict[str, Any] | None:
    """Drop a schema's name if the format had to invent it."""
    if form is None or "json_schema" not in form:
        return form
    inner = form["json_schema"]
    return {**form, "json_schema": {key: value for key, value in inner.items() if key != "name" or value != "answer"}}


def _assert_usage(found: Usage, meaning: dict[str, Any]) -> None:
    """Compare token counts; a case that says nothing about them leaves them open."""
    if "usage" in meaning:
        expected = usage_of(meaning["usage"])
        assert found == expected


def assert_response(found: InferenceResponse, meaning: dict[str, Any]) -> None:
    """Compare a decoded answer with its meaning. Ids that the meaning does not name must be there and differ."""
    expected = response_of(meaning)
    calls = [part for part in found.message.parts if isinstance(part, ToolCall)]
    wanted = meaning.get("tool_calls", [])
    assert [(call.name, _loaded(call.arguments)) for call in calls] == [
        (call["name"], _loaded(_arguments(call))) for call in wanted
    ]
    assert [call.id for call in calls] == [want.get("id", call.id) for call, want in zip(calls, wanted, strict=True)]
    assert all(call.id for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    assert found.text == expected.text
    thoughts = [part for part in found.message.parts if isinstance(part, Reasoning)]
    assert "".join(part.text for part in thoughts) == meaning.get("thinking", "")
    if "thinking_signature" in meaning:
        assert [part.signature for part in thoughts] == [meaning["thinking_signature"]]
    assert (found.reason, found.detail, found.stop_sequence) == (
        expected.reason,
        expected.detail,
        expected.stop_sequence,
    )
    if "logprobs" in meaning:
        assert found.logprobs == expected.logprobs
    _assert_usage(found.usage, meaning)


def assert_deltas(deltas: Sequence[Delta], meaning: dict[str, Any]) -> None:
    """Compare a stream's deltas with its meaning: exactly one terminal, last, and what the deltas add up to."""
    assert deltas, "expected a terminal, found nothing"
    *others, terminal = deltas
    assert not any(isinstance(delta, Finish | Failure) for delta in others)
    answer = Answer()
    for delta in others:
        answer.add(delta)
    if "error" in meaning or meaning.get("finish", "") is None:
        assert isinstance(terminal, Failure), terminal
        assert answer.text == meaning.get("text", "")
        code = error_code(meaning) if "error" in meaning else "stream_interrupted"
        assert terminal.code == code, terminal
        return
    assert isinstance(terminal, Finish), terminal
    answer.add(terminal)
    assert_response(answer.response(), meaning)


def assert_error(error: ByenatosError, meaning: dict[str, Any]) -> None:
    """Compare a decoded error with its meaning."""
    expected = meaning["error"]
    assert error.code == error_code(meaning), error
    if "status" in expected:
        assert error.vendor_status == expected["status"]
    if "retryable" in expected:
        assert error.retryable == expected["retryable"]
    if "retry_after" in expected:
        assert error.retry_after_s == expected["retry_after"]
    if "code" in expected:
        assert error.vendor_code == str(expected["code"])
