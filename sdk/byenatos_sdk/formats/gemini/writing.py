"""Streams written: server-sent events, or one JSON array for a client that did not ask for ``alt=sse``.

The vendor's own client takes neither comments nor names of events, and wants a blank behind ``data:``; it looks for an
error at the very beginning of a piece.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.contract import StreamEncoder as StreamEncoderProtocol
from byenatos_sdk.formats.gemini.errors import error_object
from byenatos_sdk.formats.gemini.parts import call_part, reasoning_part, signature_of
from byenatos_sdk.formats.gemini.responses import finish_reason, logprobs_fields, usage_fields
from byenatos_sdk.formats.wire import Reply, json_body
from byenatos_sdk.protocol.answer import error_from
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    Logprobs,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["StreamEncoder", "stream_encoder"]

_encode = msgspec.json.Encoder().encode
_TEXT = b'{"candidates":[{"content":{"parts":[{"text":'


class StreamEncoder:
    """Writes one answer's stream."""

    def __init__(self, reply: Reply) -> None:
        self._array = reply.asked is not None and reply.asked.request.extra.get("alt") == "json"
        self.content_type = "application/json" if self._array else "text/event-stream"
        self._named: dict[str, Any] = {"modelVersion": reply.model, "responseId": reply.id}
        self._before, self._after = (b"[", b"") if self._array else (b"data: ", b"\r\n\r\n")
        tail = b'],"role":"model"},"index":0}],' + _encode(self._named)[1:] + self._after
        self._text_end = b"}" + tail
        self._thought_end = b',"thought":true}' + tail
        self._calls: list[Any] = []

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the pieces that say ``deltas``; neighbouring texts become one."""
        out: list[bytes] = []
        texts: list[str] = []
        for delta in deltas:
            if self._calls and not isinstance(delta, ToolCallDelta | Finish):
                self._piece(out, self._taken())
            if isinstance(delta, TextDelta):
                texts.append(delta.text)
                continue
            if texts:
                self._say(out, "".join(texts), self._text_end)
                texts = []
            self._other(out, delta)
        if texts:
            self._say(out, texts[0] if len(texts) == 1 else "".join(texts), self._text_end)
        return b"".join(out)

    def keep_alive(self) -> bytes:
        """Return a line's end: blank lines mean nothing between events, and blanks nothing between elements."""
        return b"\r\n"

    def _say(self, out: list[bytes], text: str, end: bytes) -> None:
        if text:
            out += (self._before, _TEXT, _encode(text), end)
            self._next()

    def _next(self) -> None:
        if self._array:
            self._before = b",\r\n"

    def _other(self, out: list[bytes], delta: Delta) -> None:
        if isinstance(delta, ReasoningDelta):
            if delta.signature is None and not delta.redacted:
                self._say(out, delta.text, self._thought_end)
                return
            written = reasoning_part(Reasoning(delta.text, delta.signature, delta.source, delta.redacted))
            if written is not None:
                self._piece(out, [written])
        elif isinstance(delta, ToolCallDelta):
            call = ToolCall(delta.id, delta.name, delta.arguments, delta.signature)
            signature = signature_of(call)
            self._calls.append(call_part(call) | ({} if signature is None else {"thoughtSignature": signature}))
        elif isinstance(delta, Logprobs):
            self._piece(out, [{"text": ""}], logprobsResult=logprobs_fields(delta.tokens))
        elif isinstance(delta, Finish):
            parts = self._taken() or [{"text": ""}]
            self._piece(out, parts, usage=usage_fields(delta.usage), finishReason=finish_reason(delta))
            self._end(out)
        elif isinstance(delta, Failure):
            self._object(out, error_object(error_from(delta)))
            self._end(out)

    def _taken(self) -> list[Any]:
        """Take the calls that wait: older clients of the vendor's look for all of them in the last piece alone."""
        calls, self._calls = self._calls, []
        return calls

    def _piece(self, out: list[bytes], parts: list[Any], *, usage: dict[str, Any] | None = None, **fields: Any) -> None:
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, **fields}
        body: dict[str, Any] = {"candidates": [candidate]}
        if usage:
            body["usageMetadata"] = usage
        self._object(out, body | self._named)

    def _object(self, out: list[bytes], body: dict[str, Any]) -> None:
        out += (self._before, json_body(body), self._after)
        self._next()

    def _end(self, out: list[bytes]) -> None:
        if self._array:
            out.append(b"]")


def stream_encoder(reply: Reply) -> StreamEncoderProtocol:
    """Return an encoder for one stream."""
    return StreamEncoder(reply)
