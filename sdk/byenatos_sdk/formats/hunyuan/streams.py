"""Streams: unnamed events without the envelope, usage in every one, no mark after the last.

A request for a stream that fails is answered with the status 200 and one JSON body: the decoder reads that too. The
client compares the content type for equality: no character set behind it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.contract import StreamDecoder as StreamDecoderProtocol
from byenatos_sdk.formats.contract import StreamEncoder as StreamEncoderProtocol
from byenatos_sdk.formats.fragments import CallFragments
from byenatos_sdk.formats.hunyuan.errors import TIMEOUT, decode_error, message_error
from byenatos_sdk.formats.hunyuan.messages import write_call
from byenatos_sdk.formats.hunyuan.responses import (
    WORDS,
    add_calls,
    choice_of,
    decode_response,
    finish_of,
    read_usage,
    text_in,
    write_usage,
)
from byenatos_sdk.formats.sse import MAX_EVENT, Event, EventReader
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_object
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import ByenatosError, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["StreamDecoder", "StreamEncoder", "stream_decoder", "stream_encoder"]

_encode = msgspec.json.Encoder().encode

_BODY = "body"
"""The name of an event that is no event but a whole body."""


class _Reader:
    """Reads events, or one JSON body."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._body: bytearray | None = None
        self._started = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete now.

        Raises:
            UpstreamFailed: an event or the body is too large.
        """
        if not self._started and data.strip():
            self._started = True
            if data.lstrip().startswith(b"{"):
                self._body = bytearray()
        if self._body is None:
            return self._events.feed(data)
        self._body += data
        if len(self._body) > MAX_EVENT:
            raise UpstreamFailed(f"answer: expected at most {MAX_EVENT} bytes, found more")
        return []

    def end(self) -> list[Event]:
        """Hear that no more bytes come; return what is left."""
        return self._events.end() if self._body is None else [Event(bytes(self._body), _BODY)]


class StreamDecoder(UnitDecoder[Event]):
    """Reads one answer's stream."""

    def __init__(self, choice: int = 0) -> None:
        super().__init__(_Reader())
        self._choice = choice
        self._calls = CallFragments()

    def read(self, unit: Event) -> None:
        """Understand one event."""
        body = read_object(unit.data, "event")
        if unit.name == _BODY:
            self._whole(unit.data)
            return
        told = body.get("ErrorMsg")
        if isinstance(told, dict):
            self.fail(message_error(told))
            return
        if "Response" in body or "Error" in body:
            self.fail(decode_error(WireResponse(unit.data)))
            return
        choice = choice_of(body, self._choice)
        if choice is None:
            return
        delta = choice.get("Delta")
        if isinstance(delta, dict):
            self._delta(delta)
        word = text_in(choice, "FinishReason")
        if word:
            calls = self._calls.take()
            self.say(*calls)
            self.say(finish_of(word, read_usage(body.get("Usage")), called=bool(calls)))

    def _delta(self, delta: dict[str, Any]) -> None:
        thoughts, text = text_in(delta, "ReasoningContent"), text_in(delta, "Content")
        if thoughts:
            self.say(ReasoningDelta(thoughts))
        if text:
            self.say(TextDelta(text))
        add_calls(self._calls, delta)

    def _whole(self, body: bytes) -> None:
        """Read a body that came where a stream was asked for: an error, or a whole answer."""
        try:
            self.say(*deltas_of(decode_response(WireResponse(body))))
        except ByenatosError as error:
            self.fail(error)


class StreamEncoder:
    """Writes one answer's stream."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        self._end = b',"Created":%d,"Id":%b}\n\n' % (reply.created, json_body(reply.id))
        self._start = b'data: {"Note":""'
        self._before = self._start + b',"Choices":[{"Index":0,"Delta":{"Role":"assistant","Content":'
        self._after = b'},"FinishReason":""}]' + self._end
        self._calls = 0

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the events that say ``deltas``; log probabilities cannot be said."""
        written: list[bytes] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                written += (self._before, _encode(delta.text), self._after)
            elif isinstance(delta, ReasoningDelta):
                written.append(self._event({"Content": "", "ReasoningContent": delta.text}))
            elif isinstance(delta, ToolCallDelta):
                call = write_call(ToolCall(delta.id, delta.name, delta.arguments)) | {"Index": self._calls}
                self._calls += 1
                written.append(self._event({"Content": "", "ToolCalls": [call]}))
            elif isinstance(delta, Finish):
                written.append(self._event({"Content": ""}, WORDS[delta.reason], write_usage(delta.usage)))
            elif isinstance(delta, Failure):
                written.append(self._failure(delta))
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return a comment, which clients of event streams pass over."""
        return b": keep-alive\n\n"

    def _event(self, delta: dict[str, Any], word: str = "", usage: dict[str, Any] | None = None) -> bytes:
        said: dict[str, Any] = {"Choices": [{"Index": 0, "Delta": {"Role": "assistant"} | delta, "FinishReason": word}]}
        if usage is not None:
            said["Usage"] = usage
        return self._start + b"," + _encode(said)[1:-1] + self._end

    def _failure(self, failure: Failure) -> bytes:
        code = TIMEOUT if failure.code in {"upstream_timeout", "deadline_exceeded"} else 4000
        said = {"ErrorMsg": {"Msg": failure.message or failure.code, "Code": code}}
        return self._start + b"," + _encode(said)[1:-1] + self._end


def stream_decoder(*, choice: int = 0) -> StreamDecoderProtocol:
    """Return a decoder for one stream; ``choice`` is the answer that is read where there are several."""
    return StreamDecoder(choice)


def stream_encoder(reply: Reply) -> StreamEncoderProtocol:
    """Return an encoder for one stream."""
    return StreamEncoder(reply)
