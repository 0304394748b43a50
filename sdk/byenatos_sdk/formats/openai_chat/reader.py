"""Read one answer's stream of chunks.

What vendors do differently, and what is made of it: an end is a choice's ``finish_reason``; usage may stand in that
chunk, in one of its own behind it, or in every chunk (the last one counts, they are never added up), so that the
terminal waits for ``[DONE]`` or the close of the connection. Without either the stream broke off. An error is an
object in a chunk, or an event of that name. Calls of tools are handed on whole, when their choice has ended. A first
chunk without choices (Azure's filter results), roles that come again and again, empty contents: mean nothing. A body
that is one JSON value instead of events is a whole answer of a server that does not stream, or an error.
"""

from typing import Any

import msgspec
from msgspec import Struct

from byenatos_sdk.formats.fragments import CallFragments
from byenatos_sdk.formats.openai_chat.errors import failed, found_error
from byenatos_sdk.formats.openai_chat.logprobs import read_logprobs
from byenatos_sdk.formats.openai_chat.profile import OPENAI, Profile
from byenatos_sdk.formats.openai_chat.responses import content_of, decode_choices, failed_end, finish_of, thought_of
from byenatos_sdk.formats.openai_chat.usage import read_usage
from byenatos_sdk.formats.sse import MAX_EVENT, Event, EventReader
from byenatos_sdk.formats.wire import WireResponse, read_json
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, StreamInterrupted, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    Finish,
    FinishReason,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    Usage,
)

__all__ = ["StreamDecoder"]


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct, gc=False):
    delta: _Delta
    index: int = 0
    finish_reason: None = None
    logprobs: None = None
    usage: None = None


class _Piece(Struct, gc=False):
    """A chunk that has a piece of text or of reasoning and nothing else: nearly all chunks are of this kind."""

    choices: tuple[_Choice]
    model: str | None = None
    usage: None = None
    error: None = None


_NOTHING = (None, None, None, None)
_decode_piece = msgspec.json.Decoder(_Piece).decode


def _is_whole(event: Event) -> bool:
    """Say whether the last event, behind which no blank line came, is more than its beginning."""
    data = event.data.strip()
    if event.name == "error" or data.startswith(b"[DONE]"):
        return True
    try:
        read_json(data)
    except InvalidRequest:
        return False
    return True


class StreamDecoder:
    """Reads the choice of index ``choice``; see the module's text."""

    def __init__(self, profile: Profile = OPENAI, choice: int = 0) -> None:
        self._profile = profile
        self._choice = choice
        self._events = EventReader()
        self._calls = CallFragments()
        self._called = False
        self._refusal: str | None = None
        self._shown = False
        self._usage: Usage | None = None
        self._model = ""
        self._finish: tuple[FinishReason, str, str | None] | None = None
        self._over = False
        self._plain = not profile.has_own_chunks
        self._whole: bytearray | None = None
        self._begun = False

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes and return the deltas that are complete now; after a terminal always nothing."""
        if self._over:
            return []
        deltas: list[Delta] = []
        try:
            if not self._begun:
                self._begin(data)
            if self._whole is not None:
                self._keep(data)
                return deltas
            for event in self._events.feed(data):
                if self._take(event, deltas):
                    break
        except ByenatosError as error:
            self._fail(error, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """Hear that the connection is closed: return what is left, with a terminal if there was none yet."""
        if self._over:
            return []
        deltas: list[Delta] = []
        try:
            if self._whole is not None:
                self._over = True
                return self._answer(bytes(self._whole))
            if any(self._take(event, deltas) for event in self._events.end() if _is_whole(event)):
                return deltas
            if self._finish is None:
                raise StreamInterrupted("the stream broke off before the answer's end")
            self._close(deltas)
        except ByenatosError as error:
            self._fail(error, deltas)
        return deltas

    def _begin(self, data: bytes) -> None:
        """See by the first byte whether these are events at all."""
        first = data.lstrip()[:1]
        if first:
            self._begun = True
            self._whole = bytearray() if first in {b"{", b"["} else None

    def _keep(self, data: bytes) -> None:
        assert self._whole is not None
        self._whole += data
        if len(self._whole) > MAX_EVENT:
            raise UpstreamFailed(f"stream: expected events, found one value of more than {MAX_EVENT} bytes")

    def _answer(self, body: bytes) -> list[Delta]:
        """Read a whole answer where a stream was expected.

        Raises:
            ByenatosError: the answer is an error.
        """
        answers = decode_choices(self._profile, WireResponse(body))
        return deltas_of(answers[min(self._choice, len(answers) - 1)])

    def _fail(self, error: ByenatosError, deltas: list[Delta]) -> None:
        shown = self._shown or bool(deltas)
        deltas.append(failed(error, partial=shown))
        self._over = True

    def _close(self, deltas: list[Delta]) -> None:
        deltas += self._calls.take()
        reason, detail, stop = self._finish or ("tool_calls" if self._called else "stop", "", None)
        if self._refusal or (self._refusal is not None and reason == "content_filter"):
            reason, detail = "content_filter", "refusal"
        deltas.append(Finish(reason, self._usage or Usage(None, None), self._model, detail, stop))
        self._over = True

    def _take(self, event: Event, deltas: list[Delta]) -> bool:
        """Take one event; say whether it was the last."""
        if self._plain and not event.name and self._piece(event.data, deltas):
            return False
        data = event.data.strip()
        if data.startswith(b"[DONE]"):
            if self._finish is None and not (self._shown or deltas or self._calls):
                raise UpstreamFailed("expected an answer, found a stream that says nothing")
            self._close(deltas)
            return True
        if not data:
            return False
        try:
            chunk = read_json(data, "stream")
        except InvalidRequest as error:
            if event.name == "error":
                chunk = data.decode("utf-8", "replace")
            else:
                raise UpstreamFailed(error.message) from None
        if not isinstance(chunk, dict) or event.name == "error" or chunk.get("error"):
            raise found_error(self._profile, WireResponse(status=200), chunk)
        foreign = self._profile.error_of(WireResponse(status=200), chunk)
        if foreign is not None:
            raise foreign
        self._chunk(self._profile.as_chat(chunk), deltas)
        self._shown = self._shown or bool(deltas)
        return False

    def _piece(self, data: bytes, deltas: list[Delta]) -> bool:
        """Take a chunk the quick way, if it is a piece of text or of reasoning and nothing else."""
        try:
            piece = _decode_piece(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        (choice,) = piece.choices
        delta = choice.delta
        others = (delta.thinking, delta.refusal, delta.tool_calls, delta.function_call)
        if others != _NOTHING:
            return False
        if piece.model:
            self._model = piece.model
        if choice.index == self._choice:
            thought = delta.reasoning_content or delta.reasoning
            if thought:
                deltas.append(ReasoningDelta(thought))
            if delta.content:
                deltas.append(TextDelta(delta.content))
            self._shown = self._shown or bool(deltas)
        return True

    def _chunk(self, chunk: dict[str, Any], deltas: list[Delta]) -> None:
        model = chunk.get("model")
        if isinstance(model, str) and model:
            self._model = model
        usage = chunk.get("usage")
        if usage is not None:
            self._usage = read_usage(usage) or self._usage
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == self._choice:
                self._take_choice(choice, deltas)

    def _take_choice(self, choice: dict[str, Any], deltas: list[Delta]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta, deltas)
        elif isinstance(choice.get("text"), str) and choice["text"]:
            deltas.append(TextDelta(choice["text"]))
        if choice.get("logprobs") is not None:
            tokens = read_logprobs(choice["logprobs"])
            if tokens:
                deltas.append(Logprobs(tokens))
        if choice.get("usage") is not None:  # Moonshot
            self._usage = read_usage(choice["usage"]) or self._usage
        word = choice.get("finish_reason")
        if word is None:
            return
        failed_end(self._profile, WireResponse(status=200), choice)
        found = finish_of(self._profile, choice, called=self._called)
        if found is not None:
            self._finish = found
            deltas += self._calls.take()

    def _delta(self, delta: dict[str, Any], deltas: list[Delta]) -> None:
        thought = thought_of(delta)
        content = delta.get("content")
        if content is not None and not isinstance(content, str):
            content, more = content_of(content)
            thought = thought or more
        if thought:
            deltas.append(ReasoningDelta(thought))
        if content:
            deltas.append(TextDelta(content))
        refusal = delta.get("refusal")
        if isinstance(refusal, str):
            self._refusal = self._refusal or refusal
            if refusal:
                deltas.append(TextDelta(refusal))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            self._fragment(call)
        legacy = delta.get("function_call")
        if isinstance(legacy, dict):
            self._called = True
            self._calls.add(0, None, legacy.get("name"), legacy.get("arguments"))

    def _fragment(self, call: Any) -> None:
        if not isinstance(call, dict):
            return
        function = call.get("function")
        custom = call.get("custom")
        self._called = True
        if isinstance(custom, dict):
            self._calls.add(call.get("index"), call.get("id"), custom.get("name"), custom.get("input"), free=True)
        else:
            function = function if isinstance(function, dict) else {}
            self._calls.add(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"))
