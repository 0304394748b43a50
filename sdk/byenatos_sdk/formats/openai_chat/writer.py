"""Write one answer's stream of chunks, for chats and for completions.

Everything of a chunk but its text is prepared once: a token costs the encoding of its text. Several answers in one
stream (``choices``) take turns; the stream ends when all have ended.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.openai_chat.errors import error_object
from byenatos_sdk.formats.openai_chat.logprobs import write_logprobs, write_old_logprobs
from byenatos_sdk.formats.openai_chat.messages import write_call
from byenatos_sdk.formats.openai_chat.profile import OPENAI, Profile
from byenatos_sdk.formats.openai_chat.responses import echoes, is_raw, texts_of, total
from byenatos_sdk.formats.openai_chat.tools import custom_names
from byenatos_sdk.formats.openai_chat.usage import write_usage
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Reply, json_body
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    Logprobs,
    Moved,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)

__all__ = ["DONE", "KEEP_ALIVE", "StreamEncoder"]

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

_encode = msgspec.json.Encoder().encode


class _Choice:
    """Where one of the answers stands."""

    __slots__ = ("after", "before", "calls", "ended", "index", "offset", "shown", "thought", "usage")

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls = 0
        self.offset = 0
        self.shown = False
        self.ended = False
        self.usage = Usage(None, None)
        self.before = self.thought = self.after = b""


class StreamEncoder:
    """Writes one answer's stream, or those of several ``choices`` to one request."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply, profile: Profile = OPENAI, choices: int = 1) -> None:
        self._reply = reply
        self._profile = profile
        self._raw = is_raw(reply)
        self._custom = custom_names(reply)
        self._one_call = reply.one_call
        self._usage_wanted = reply.usage_in_stream
        head: dict[str, Any] = {
            "id": reply.id,
            "object": "text_completion" if self._raw else "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
            "system_fingerprint": None,
        }
        self._head = b"data: " + json_body(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._usage_wanted else b"]}\n\n"
        self._choices = [_Choice(index) for index in range(choices)]
        self._opened = False
        self._over = False
        field = _encode(profile.reasoning_text)
        for one in self._choices:
            start = self._head + b'{"index":%d,' % one.index
            one.before = start + (b'"text":' if self._raw else b'"delta":{"content":')
            one.thought = start + b'"delta":{' + field + b":"
            one.after = b'%b,"logprobs":null,"finish_reason":null}%b' % (b"" if self._raw else b"}", self._tail)

    def encode(self, deltas: Iterable[Delta], choice: int = 0) -> bytes:
        """Return the bytes that say ``deltas``; the first call also opens the stream, a terminal closes it."""
        one = self._choices[choice]
        if self._over or one.ended:
            return b""
        written: list[bytes] = [] if self._opened else self._opening()
        before, after = one.before, one.after
        deltas = list(deltas)
        if not one.shown and not self._raw and deltas and isinstance(deltas[-1], Finish):
            deltas = self._refusal(one, deltas, written)
        for delta in deltas:
            if type(delta) is TextDelta:
                written += (before, _encode(delta.text), after)
                one.shown = True
            else:
                self._other(one, delta, written)
                if isinstance(delta, Finish | Failure):
                    break
        return b"".join(written)

    def keep_alive(self) -> bytes:
        """Return a comment, which clients of this format skip."""
        return KEEP_ALIVE

    def _opening(self) -> list[bytes]:
        self._opened = True
        if self._raw:
            return self._echo() if echoes(self._reply) else []
        return [
            self._chunk({"index": one.index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})
            for one in self._choices
        ]

    def _echo(self) -> list[bytes]:
        written: list[bytes] = []
        for one, text in zip(self._choices, texts_of(self._reply, len(self._choices)), strict=True):
            written += (one.before, _encode(text), one.after)
            one.offset = len(text)
        return written

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return b"%b%b%b" % (self._head, json_body({"logprobs": None} | choice), self._tail)

    def _refusal(self, one: _Choice, deltas: list[Delta], written: list[bytes]) -> list[Delta]:
        """Say a refusal in its own field where nothing was said before it was known to be one."""
        end = deltas[-1]
        text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
        if not isinstance(end, Finish) or end.detail != "refusal" or not text:
            return deltas
        for delta in deltas[:-1]:
            if not isinstance(delta, TextDelta):
                self._other(one, delta, written)
        written.append(self._chunk({"index": one.index, "delta": {"refusal": text}, "finish_reason": None}))
        one.shown = True
        self._finish(one, "stop", end, written)
        return []

    def _other(self, one: _Choice, delta: Delta, written: list[bytes]) -> None:
        match delta:
            case ReasoningDelta():
                if delta.text and not self._raw:
                    written += (one.thought, _encode(delta.text), one.after)
            case ToolCallDelta():
                call = write_call(delta, custom=delta.name in self._custom)
                said = {"tool_calls": [{"index": one.calls} | call]}
                if self._one_call:
                    said = {} if one.calls else {"function_call": call["function"]}
                one.calls += 1
                written.append(self._chunk({"index": one.index, "delta": said, "finish_reason": None}))
            case Logprobs():
                said = write_old_logprobs(delta.tokens, one.offset) if self._raw else write_logprobs(delta.tokens)
                one.offset += sum(len(token.token) for token in delta.tokens)
                empty: dict[str, Any] = {"text": ""} if self._raw else {"delta": {"content": ""}}
                written.append(self._chunk({"index": one.index, **empty, "logprobs": said, "finish_reason": None}))
            case Moved():
                if not self._raw:
                    written.append(self._moved(one, delta))
            case Finish():
                self._finish(one, delta.reason, delta, written)
            case Failure():
                self._over = True
                written.append(event(json_body({"error": error_object(delta.code, delta.message)})))

    def _moved(self, one: _Choice, moved: Moved) -> bytes:
        """A chunk that says nothing, with a field that clients of this format do not know: where the answer goes on."""
        said = {"moved": {"from": moved.source, "to": moved.target, "reason": moved.reason}}
        nothing = self._chunk({"index": one.index, "delta": {}, "finish_reason": None})
        return nothing.removesuffix(b"}\n\n") + b',"byenatos":' + json_body(said) + b"}\n\n"

    def _finish(self, one: _Choice, word: str, finish: Finish, written: list[bytes]) -> None:
        one.ended = True
        one.usage = finish.usage
        word = "function_call" if self._one_call and word == "tool_calls" else word
        body: dict[str, Any] = {"text": ""} if self._raw else {"delta": {}}
        if finish.detail == "refusal" and word == "content_filter" and not self._raw:
            body = {"delta": {"refusal": ""}}
        if self._profile.stop_reason:
            body["stop_reason"] = finish.stop_sequence
        written.append(self._chunk({"index": one.index, **body, "finish_reason": word}))
        if not all(other.ended for other in self._choices):
            return
        self._over = True
        usage = write_usage(total([other.usage for other in self._choices], self._reply))
        if self._usage_wanted and usage is not None:
            written.append(b'%b],"usage":%b}\n\n' % (self._head, json_body(usage)))
        written.append(DONE)
