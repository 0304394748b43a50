"""Qianfan's version 1 (aip.baidubce.com): its requests, answers and errors, put into the words of version 2 and back.

A request names its model in the address, the instructions stand beside the messages, and functions have no ids. An
answer has its text in ``result`` and says with ``is_end`` that a stream is over. Errors come with HTTP 200.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from byenatos_sdk.formats.failures import failure
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.openai_chat.usage import write_usage
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body, read_object
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
    Unauthenticated,
    UpstreamFailed,
    UpstreamTimeout,
)
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceResponse,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

__all__ = [
    "LegacyEncoder",
    "as_chat",
    "as_chat_request",
    "encode_legacy_response",
    "is_legacy",
    "legacy_error",
]

_FOLDER = "/wenxinworkshop/chat/"

_KINDS: Mapping[int, type[ByenatosError]] = {
    1: UpstreamFailed,
    2: Overloaded,
    3: NotFound,
    4: RateLimited,
    6: PermissionDenied,
    13: Unauthenticated,
    14: Unauthenticated,
    15: Unauthenticated,
    17: QuotaExceeded,
    18: RateLimited,
    19: QuotaExceeded,
    100: Unauthenticated,
    110: Unauthenticated,
    111: Unauthenticated,
    336000: UpstreamFailed,
    336001: InvalidRequest,
    336002: InvalidRequest,
    336003: InvalidRequest,
    336004: PermissionDenied,
    336005: NotFound,
    336006: InvalidRequest,
    336007: ContextLengthExceeded,
    336100: Overloaded,
    336103: ContextLengthExceeded,
    336104: InvalidRequest,
    336105: InvalidRequest,
    336117: ContentFiltered,
    336200: UpstreamFailed,
    336303: UpstreamTimeout,
    336501: RateLimited,
    336502: RateLimited,
    336503: RateLimited,
    336504: QuotaExceeded,
}


def is_legacy(path: str) -> bool:
    """Say whether an address is one of version 1."""
    return _FOLDER in path


def as_chat_request(wire: WireRequest) -> WireRequest:
    """Return a request of version 1 as one of OpenAI's old chats with functions."""
    fields = Fields(read_object(wire.body))
    body = dict(fields.values)
    instructions = fields.text("system")
    if instructions:
        body["messages"] = [{"role": "system", "content": instructions}, *fields.items("messages")]
    body.pop("system", None)
    if "max_output_tokens" in fields:
        body["max_tokens"] = fields.whole("max_output_tokens")
    if "user_id" in fields:
        body["user"] = fields.text("user_id")
    if isinstance(fields.get("response_format"), str):
        body["response_format"] = {"type": fields.text("response_format")}
    choice = fields.get("tool_choice")
    if isinstance(choice, dict):
        body["function_call"] = choice.get("function")
        del body["tool_choice"]
    body.setdefault("model", wire.path.partition(_FOLDER)[2].partition("?")[0])
    return WireRequest("/chat/completions", json_body(body), wire.headers)


def legacy_error(wire: WireResponse, body: Any) -> ByenatosError | None:
    """Return the error in a body of version 1, ``None`` if it is none."""
    code = body.get("error_code") if isinstance(body, dict) else None
    if not isinstance(code, int) or isinstance(code, bool) or code == 0:
        return None
    message = body.get("error_msg")
    kind = _KINDS.get(code)
    text = message if isinstance(message, str) else str(code)
    error = failure(wire, text, code=str(code), kinds={} if kind is None else {str(code): kind}, details=body)
    error.vendor_status = wire.status
    return error


def as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer or chunk of version 1 in the words of version 2; one of version 2 stays as it is."""
    if "choices" in body or ("result" not in body and "is_end" not in body):
        return body
    called = body.get("function_call")
    word = body.get("finish_reason")
    over = body.get("is_end", "is_end" not in body) is True
    if not isinstance(word, str) or not word:
        word = "normal"
    if body.get("is_truncated") is True and word == "normal":
        word = "length"
    delta = {"content": body.get("result"), "function_call": called}
    choice = {"index": 0, "delta": delta, "message": delta, "finish_reason": word if over else None}
    return {key: body[key] for key in ("id", "usage", "model") if key in body} | {"choices": [choice]}


def _word(response: InferenceResponse | Finish) -> str:
    return {"stop": "normal", "tool_calls": "function_call"}.get(response.reason, response.reason)


def _call(call: ToolCall | ToolCallDelta) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def _around(reply: Reply, result: str) -> dict[str, Any]:
    return {"id": reply.id, "object": "chat.completion", "created": reply.created, "result": result}


def encode_legacy_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer as version 1; of several calls it can say the first only."""
    body = _around(reply, response.text) | {"is_truncated": response.reason == "length", "need_clear_history": False}
    body["finish_reason"] = _word(response)
    calls = [part for part in response.message.parts if isinstance(part, ToolCall)]
    if calls:
        body["function_call"] = _call(calls[0])
    usage = write_usage(response.usage)
    if usage is not None:
        body["usage"] = {name: count for name, count in usage.items() if isinstance(count, int)}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})


def _error(code: str, message: str) -> dict[str, Any]:
    """Write an error as version 1: the first code that stands for it."""
    found = next((number for number, kind in _KINDS.items() if kind.code == code), 336000)
    return {"error_code": found, "error_msg": message}


class LegacyEncoder:
    """Writes one answer's stream as version 1."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._sentence = 0
        self._called: dict[str, Any] | None = None
        self._over = False

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the bytes that say ``deltas``; a terminal closes the stream."""
        written: list[bytes] = []
        for delta in deltas:
            if self._over:
                break
            match delta:
                case TextDelta():
                    written.append(self._event(delta.text, {"is_end": False}))
                case ToolCallDelta():
                    self._called = self._called or _call(delta)
                case Finish():
                    self._over = True
                    last: dict[str, Any] = {"is_end": True, "finish_reason": _word(delta)}
                    last |= {} if self._called is None else {"function_call": self._called}
                    usage = write_usage(delta.usage)
                    last |= {} if usage is None else {"usage": usage}
                    written.append(self._event("", last))
                case Failure():
                    self._over = True
                    written.append(event(json_body(_error(delta.code, delta.message))))
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return nothing: clients of version 1 know no comments."""
        return b""

    def _event(self, text: str, more: dict[str, Any]) -> bytes:
        body = _around(self._reply, text) | {"sentence_id": self._sentence, "is_truncated": False} | more
        self._sentence += 1
        return event(json_body(body))
