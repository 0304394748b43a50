"""Streams: events with a number, a name and, as a comment, a status; usage in every one; no mark after the last.

The client's parser compares ``event:error`` with no blank in it, and reads an error's status from a field ``status``
of its own, which the real server does not send: here it stands beside the comment that says the same.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.contract import StreamDecoder as StreamDecoderProtocol
from byenatos_sdk.formats.contract import StreamEncoder as StreamEncoderProtocol
from byenatos_sdk.formats.dashscope.errors import error_body, error_of
from byenatos_sdk.formats.dashscope.growth import Growth, Mode
from byenatos_sdk.formats.dashscope.messages import content_text
from byenatos_sdk.formats.dashscope.responses import (
    choice_of,
    finish_of,
    is_word,
    read_usage,
    wants_text,
    wire_message,
    write_usage,
)
from byenatos_sdk.formats.fragments import CallFragments
from byenatos_sdk.formats.openai_chat.logprobs import read_logprobs, write_logprobs
from byenatos_sdk.formats.sse import Event, EventReader
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body, read_object
from byenatos_sdk.protocol.answer import error_from
from byenatos_sdk.protocol.errors import UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["StreamDecoder", "StreamEncoder", "stream_decoder", "stream_encoder"]

_encode = msgspec.json.Encoder().encode

_STATUS = b"HTTP_STATUS/"
_MAX_CALLS = 1024


class StreamDecoder(UnitDecoder[Event]):
    """Reads one answer's stream, whether its texts add up or grow."""

    def __init__(self, choice: int = 0) -> None:
        super().__init__(EventReader())
        self._choice = choice
        self._mode = Mode()
        self._text = Growth(self._mode)
        self._thoughts = Growth(self._mode)
        self._arguments: dict[int, Growth] = {}
        self._ids: dict[int, str] = {}
        self._calls = CallFragments()

    def read(self, unit: Event) -> None:
        """Understand one event."""
        if unit.name == "done":
            return
        body = read_object(unit.data, "event")
        output = body.get("output")
        if unit.name == "error" or (not isinstance(output, dict) and body.get("code")):
            self.fail(error_of(body, WireResponse(unit.data, _status(unit))))
            return
        choice = choice_of(output, self._choice) if isinstance(output, dict) else None
        if choice is None:
            return
        message, word = choice.get("message"), choice.get("finish_reason")
        ended = is_word(word)
        if isinstance(message, dict):
            self._message(message, ended=ended)
        tokens = read_logprobs(choice.get("logprobs"))
        if tokens:
            self.say(Logprobs(tokens))
        if ended:
            self._finish(str(word), body.get("usage"))

    def _message(self, message: dict[str, Any], *, ended: bool) -> None:
        calls = message.get("tool_calls")
        quiet = not ended and not calls
        thoughts, text = message.get("reasoning_content"), content_text(message.get("content"))
        if text and self._thoughts.repeats(thoughts):
            self._mode.grows()
        if text or isinstance(thoughts, str):  # beside a text, none at all means that the thinking is over
            thought = thoughts if isinstance(thoughts, str) else ""
            self._say_thought(self._thoughts.feed(thought, alone=quiet and not text))
        if message.get("content") is not None:
            self._say_text(self._text.feed(text, alone=quiet and not thoughts))
        for at, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                self._call(call, at)

    def _call(self, call: dict[str, Any], at: int) -> None:
        index = call.get("index", at)
        index = index if isinstance(index, int) else at
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        arguments = function.get("arguments")
        growth = self._arguments.get(index)
        call_id = call.get("id")
        if isinstance(call_id, str) and call_id:
            if growth is not None and self._ids.get(index, call_id) != call_id:  # another call under the same number
                self._calls.add(index, arguments=growth.end())
                growth = None
            self._ids[index] = call_id
        if growth is None:
            if len(self._arguments) >= _MAX_CALLS:
                raise UpstreamFailed(f"stream: expected at most {_MAX_CALLS} calls in one answer, found more")
            growth = self._arguments[index] = Growth(self._mode)
        new = growth.feed(arguments) if isinstance(arguments, str) else ""
        self._calls.add(index, call_id, function.get("name"), new)

    def _finish(self, word: str, usage: Any) -> None:
        self._say_thought(self._thoughts.end())
        self._say_text(self._text.end())
        for index, growth in self._arguments.items():
            self._calls.add(index, arguments=growth.end())
        calls = self._calls.take()
        self.say(*calls)
        self.say(finish_of(word, read_usage(usage), called=bool(calls)))

    def _say_text(self, text: str) -> None:
        if text:
            self.say(TextDelta(text))

    def _say_thought(self, text: str) -> None:
        if text:
            self.say(ReasoningDelta(text))


def _status(event: Event) -> int:
    """Return the status that stands in an event's comment; 200 if there is none."""
    for comment in event.comments:
        if comment.startswith(_STATUS) and comment[len(_STATUS) :].isdigit():
            return int(comment[len(_STATUS) : len(_STATUS) + 3])
    return 200


class StreamEncoder:
    """Writes one answer's stream: pieces of new text if the client wants them so, else the whole text in each event."""

    content_type = "text/event-stream;charset=UTF-8"

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        asked = reply.asked
        self._grows = asked is not None and not asked.request.extra.get("incremental_output")
        self._only_text = wants_text(reply)
        self._written = 0  # calls that are out, where only what is new is sent
        self._end = b',"request_id":' + json_body(reply.id) + b"}\n\n"
        shown = json_body({"output": self._output("\0", None, [], "null")})
        before, _, after = shown.partition(b'"\\u0000"')
        self._before, self._after = before, after[:-1] + self._end
        self._id = 0
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[ToolCall] = []
        self._tokens: tuple[TokenLogprob, ...] = ()

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the events that say ``deltas``."""
        written: list[bytes] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                if self._grows:
                    self._text.append(delta.text)
                    written.append(self._whole())
                else:
                    self._id += 1
                    written += (b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:" % self._id, self._before)
                    written += (_encode(delta.text), self._after)
            elif isinstance(delta, ReasoningDelta):
                self._thoughts.append(delta.text)
                written.append(self._whole())
            elif isinstance(delta, ToolCallDelta):
                self._calls.append(ToolCall(delta.id, delta.name, delta.arguments))
                written.append(self._whole())
            elif isinstance(delta, Logprobs):
                self._tokens = delta.tokens
                written.append(self._whole())
            elif isinstance(delta, Finish):
                written.append(self._whole(delta.reason, write_usage(delta.usage)))
            elif isinstance(delta, Failure):
                written.append(self._failure(delta))
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return a comment, which clients of event streams pass over."""
        return b":heartbeat\n\n"

    def _output(self, text: str, thoughts: str | None, calls: list[ToolCall], word: str) -> dict[str, Any]:
        if self._only_text:
            return {"text": text, "finish_reason": word}
        return {
            "choices": [
                {"message": wire_message(self._reply, text, thoughts, calls, self._written), "finish_reason": word}
            ]
        }

    def _whole(self, word: str = "null", usage: dict[str, Any] | None = None) -> bytes:
        """Write an event of what is new, or of all that was said where texts grow."""
        output = self._output(
            "".join(self._text), "".join(self._thoughts) if self._thoughts else None, self._calls, word
        )
        if self._tokens and not self._only_text:
            output["choices"][0]["logprobs"] = write_logprobs(self._tokens)
        self._tokens = ()
        if not self._grows:
            self._written += len(self._calls)
            self._text, self._thoughts, self._calls = [], self._thoughts and [""], []
        said: dict[str, Any] = {"output": output}
        if usage is not None:
            said["usage"] = usage
        self._id += 1
        return b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:" % self._id + _encode(said)[:-1] + self._end

    def _failure(self, failure: Failure) -> bytes:
        status, body = error_body(error_from(failure), self._reply.id)
        self._id += 1
        return b"id:%d\nevent:error\n:HTTP_STATUS/%d\nstatus:%d\ndata:%b\n\n" % (self._id, status, status, body)


def stream_decoder(*, choice: int = 0) -> StreamDecoderProtocol:
    """Return a decoder for one stream; ``choice`` is the answer that is read where there are several."""
    return StreamDecoder(choice)


def stream_encoder(reply: Reply) -> StreamEncoderProtocol:
    """Return an encoder for one stream."""
    return StreamEncoder(reply)
