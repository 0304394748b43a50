"""The Llama API's own answers: one ``completion_message`` instead of choices, usage as a list of metrics, events.

Shapes: llama_api_client 0.6.0. Meta closed the API on 2026-07-06; recorded traffic and clones of it remain.
"""

from collections.abc import Iterable
from typing import Any

from byenatos_sdk.formats.openai_chat.errors import STATUSES
from byenatos_sdk.formats.openai_chat.errors import encode_error as encode_chat_error
from byenatos_sdk.formats.openai_chat.messages import write_call
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    FinishReason,
    InferenceResponse,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

__all__ = ["StreamEncoder", "as_chat", "encode_error", "encode_response"]

_COUNTS = {"num_prompt_tokens": "prompt_tokens", "num_completion_tokens": "completion_tokens"}
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    413: "Content Too Large",
}
_TITLES |= {429: "Too Many Requests", 503: "Service Unavailable", 504: "Gateway Timeout"}


def _usage(metrics: Any) -> dict[str, Any] | None:
    usage = {
        _COUNTS[one["metric"]]: one.get("value")
        for one in (metrics if isinstance(metrics, list) else ())
        if isinstance(one, dict) and isinstance(one.get("metric"), str) and one["metric"] in _COUNTS
    }
    return usage or None


def as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Put an answer or an event of the Llama API into OpenAI's form; what is in that form already stays as it is."""
    message = body.get("completion_message")
    if isinstance(message, dict):
        choice = {"index": 0, "message": message, "finish_reason": message.get("stop_reason")}
        return {"choices": [choice], "usage": _usage(body.get("metrics"))}
    found = body.get("event")
    if not isinstance(found, dict):
        return body
    delta = found.get("delta")
    piece: dict[str, Any] = {}
    if isinstance(delta, dict) and delta.get("type") == "tool_call":
        piece = {"tool_calls": [{"id": delta.get("id"), "function": delta.get("function")}]}
    elif isinstance(delta, dict):
        piece = {"content": delta.get("text")}
    choice = {"index": 0, "delta": piece, "finish_reason": found.get("stop_reason")}
    return {"choices": [choice], "usage": _usage(found.get("metrics"))}


def _word(reason: FinishReason) -> str:
    """Return the API's word; it has none for what a filter withheld."""
    return "stop" if reason == "content_filter" else reason


def _metrics(usage: Usage) -> list[dict[str, Any]] | None:
    read, written = usage.input_tokens, usage.output_tokens
    counts = {"num_prompt_tokens": read, "num_completion_tokens": written}
    if read is not None and written is not None:
        counts["num_total_tokens"] = read + written
    known = [{"metric": name, "value": count, "unit": "tokens"} for name, count in counts.items() if count is not None]
    return known or None


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    calls = [write_call(part, "") for part in response.message.parts if isinstance(part, ToolCall)]
    message = {
        "role": "assistant",
        "content": {"type": "text", "text": response.text},
        "stop_reason": _word(response.reason),
        "tool_calls": calls,
    }
    body: dict[str, Any] = {"id": reply.id, "completion_message": message}
    metrics = _metrics(response.usage)
    body |= {} if metrics is None else {"metrics": metrics}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})


def _status(code: str) -> int:
    """Return the status for an error; a body without codes needs one of its own for an account that is empty."""
    return 402 if code == "quota_exceeded" else STATUSES.get(code, 500)


def _problem(status: int, detail: str) -> dict[str, Any]:
    return {"title": _TITLES.get(status, "Internal Server Error"), "detail": detail, "status": status}


def encode_error(error: ByenatosError) -> WireResponse:
    """Write an error, with the headers by which the API's client decides when to try again."""
    wire = encode_chat_error(error)
    status = _status(error.code)
    return WireResponse(json_body(_problem(status, error.message)), status, wire.headers)


class StreamEncoder:
    """Writes one answer's stream of events; no ``[DONE]``, which the API's client takes for broken JSON."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        self._head = b'data: {"id":%b,"event":' % json_body(reply.id)
        self._text = self._head + b'{"event_type":"progress","delta":{"type":"text","text":'
        self._opened = False
        self._over = False

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the bytes that say ``deltas``; the first call also opens the stream, a terminal closes it."""
        if self._over:
            return b""
        written: list[bytes] = []
        if not self._opened:
            self._opened = True
            written.append(self._event("start", {}))
        for delta in deltas:
            match delta:
                case TextDelta():
                    written += (self._text, json_body(delta.text), b"}}}\n\n")
                case ToolCallDelta():
                    function = {"name": delta.name, "arguments": delta.arguments}
                    call = {"type": "tool_call", "id": delta.id, "function": function}
                    written.append(self._event("progress", {"delta": call}))
                case Finish():
                    self._over = True
                    written.append(self._event("complete", {"stop_reason": _word(delta.reason)}))
                    metrics = _metrics(delta.usage)
                    if metrics is not None:
                        written.append(self._event("metrics", {"metrics": metrics}))
                    break
                case Failure():
                    self._over = True
                    written.append(event(json_body(_problem(_status(delta.code), delta.message)), "error"))
                    break
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return a comment, which the API's client skips."""
        return b": keep-alive\n\n"

    def _event(self, kind: str, more: dict[str, Any]) -> bytes:
        body = {"event_type": kind, "delta": {"type": "text", "text": ""}} | more
        return b"%b%b}\n\n" % (self._head, json_body(body))
