"""Streams: one JSON object per line, tool calls whole, the last line with ``done`` and the counts.

ollama-python splits lines at everything that Unicode calls a line's end and cannot bear blank ones: U+2028, U+2029 and
U+0085 are escaped, and there is no keep-alive.
"""

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.contract import StreamDecoder as StreamDecoderProtocol
from byenatos_sdk.formats.contract import StreamEncoder as StreamEncoderProtocol
from byenatos_sdk.formats.ndjson import LineReader, in_lines
from byenatos_sdk.formats.ollama.responses import (
    created_at,
    decoder,
    done_fields,
    durations,
    error_of,
    finish_of,
    is_generate,
    logprobs_delta,
    parts_of,
    wire_call,
    wire_logprobs,
)
from byenatos_sdk.formats.ollama.shapes import WireMessage
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_as
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    Logprobs,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["StreamDecoder", "StreamEncoder", "stream_decoder", "stream_encoder"]

_encode = msgspec.json.Encoder().encode


class StreamDecoder(UnitDecoder[bytes]):
    """Reads the stream of ``/api/chat`` or ``/api/generate``."""

    def __init__(self) -> None:
        super().__init__(LineReader())
        self._calls = 0

    def read(self, unit: bytes) -> None:
        """Understand one line."""
        answer = read_as(decoder, unit, "line")
        if answer.error is not None:
            found = answer.error.get("message") if isinstance(answer.error, dict) else answer.error
            self.fail(error_of(str(found), WireResponse(unit)))
            return
        for part in parts_of(answer, self._calls):
            if isinstance(part, Text):
                self.say(TextDelta(part.text))
            elif isinstance(part, Reasoning):
                self.say(ReasoningDelta(part.text))
            elif isinstance(part, ToolCall):
                self._calls += 1
                self.say(ToolCallDelta(part.id, part.name, part.arguments))
        self.say(*logprobs_delta(answer))
        if answer.done:
            self.say(finish_of(answer, called=self._calls > 0))


class StreamEncoder:
    """Writes the stream of the path that was asked."""

    content_type = "application/x-ndjson"

    def __init__(self, reply: Reply) -> None:
        self._generate = is_generate(reply)
        self._head = json_body({"model": reply.model, "created_at": created_at(reply.created)})[:-1]
        if self._generate:
            self._text = self._head + b',"response":', b',"done":false}\n'
        else:
            self._text = self._head + b',"message":{"role":"assistant","content":', b'},"done":false}\n'
        self._calls = 0
        self._asked_s = reply.asked_s
        self._begun_s = 0.0

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the lines that say ``deltas``."""
        lines: list[bytes] = []
        before, after = self._text
        self._begun_s = self._begun_s or time.monotonic()
        for delta in deltas:
            if isinstance(delta, TextDelta):
                lines += (before, _encode(delta.text), after)
            elif isinstance(delta, ReasoningDelta):
                lines.append(self._thinking(delta.text))
            elif isinstance(delta, ToolCallDelta):
                lines.append(self._call(delta))
            elif isinstance(delta, Logprobs):
                lines.append(self._line("", {"done": False, "logprobs": wire_logprobs(delta.tokens)}))
            elif isinstance(delta, Finish):
                lines.append(self._line("", done_fields(delta) | durations(self._asked_s, self._begun_s)))
            elif isinstance(delta, Failure):
                lines += (_encode({"error": delta.message or delta.code}), b"\n")
        return in_lines(b"".join(lines))

    def keep_alive(self) -> bytes:
        """Return nothing: there are no bytes that every client ignores."""
        return b""

    def _line(self, text: str, more: dict[str, Any]) -> bytes:
        said: dict[str, Any] = {"response": text} if self._generate else {"message": WireMessage("assistant", text)}
        return self._head + b"," + _encode(said | more)[1:] + b"\n"

    def _thinking(self, text: str) -> bytes:
        if self._generate:
            return self._line("", {"thinking": text, "done": False})
        return self._line("", {"message": WireMessage("assistant", "", text), "done": False})

    def _call(self, delta: ToolCallDelta) -> bytes:
        """Write a call; ``/api/generate`` has none, as its requests have no tools."""
        if self._generate:
            return b""
        call = wire_call(ToolCall(delta.id, delta.name, delta.arguments), self._calls)
        self._calls += 1
        return self._line("", {"message": WireMessage("assistant", "", tool_calls=[call]), "done": False})


def stream_decoder(*, choice: int = 0) -> StreamDecoderProtocol:  # noqa: ARG001 - there is one answer only
    """Return a decoder for one stream."""
    return StreamDecoder()


def stream_encoder(reply: Reply) -> StreamEncoderProtocol:
    """Return an encoder for one stream."""
    return StreamEncoder(reply)
