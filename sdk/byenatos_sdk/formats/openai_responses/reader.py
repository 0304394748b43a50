"""Read one answer's stream of events.

Texts and thoughts come in pieces; a call is taken from the event that ends its item, which has it whole; events that
repeat a whole text are passed over. The last event has the whole answer: what a server did not stream is taken from
there. Servers that leave out indices and numbers (llama.cpp) are understood.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from byenatos_sdk.formats.fragments import MAX_CALLS
from byenatos_sdk.formats.openai_chat.errors import failed, found_error
from byenatos_sdk.formats.openai_chat.logprobs import read_logprobs
from byenatos_sdk.formats.openai_chat.profile import OPENAI
from byenatos_sdk.formats.openai_responses.items import NAME, reasoning_text
from byenatos_sdk.formats.openai_responses.responses import ending, read_item_call, read_usage
from byenatos_sdk.formats.sse import Event, EventReader
from byenatos_sdk.formats.wire import WireResponse, read_json
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, StreamInterrupted, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    Finish,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)

__all__ = ["StreamDecoder"]

_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.done"})
_FAILURES = frozenset({"response.failed", "response.cancelled"})


class _Piece(Struct, gc=False):
    """An event that has a piece of text and nothing else: nearly all events are of this kind."""

    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: tuple[()] | None = None
    error: None = None


_decode_piece = msgspec.json.Decoder(_Piece).decode


def _is_whole(event: Event) -> bool:
    """Say whether the last event, behind which no blank line came, is more than its beginning."""
    try:
        read_json(event.data)
    except InvalidRequest:
        return False
    return True


class StreamDecoder:
    """Reads one stream; see the module's text."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._calls: set[str] = set()
        self._shown = False
        self._text = False
        self._thought = False
        self._refused = False
        self._over = False

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes and return the deltas that are complete now; after a terminal always nothing."""
        if self._over:
            return []
        deltas: list[Delta] = []
        try:
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
            if not any(self._take(event, deltas) for event in self._events.end() if _is_whole(event)):
                raise StreamInterrupted("the stream broke off before the answer's end")
        except ByenatosError as error:
            self._fail(error, deltas)
        return deltas

    def _fail(self, error: ByenatosError, deltas: list[Delta]) -> None:
        deltas.append(failed(error, partial=self._shown or bool(deltas)))
        self._over = True

    def _take(self, event: Event, deltas: list[Delta]) -> bool:
        """Take one event; say whether it was the last."""
        if event.name == "response.output_text.delta":
            try:
                self._say(_decode_piece(event.data).delta, deltas)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                pass
            else:
                return False
        if event.data.startswith(b"[DONE]"):
            return False
        try:
            body = read_json(event.data, "stream")
        except InvalidRequest as error:
            if event.name != "error":
                raise UpstreamFailed(error.message) from None
            body = event.data.decode("utf-8", "replace")
        kind = body.get("type") if isinstance(body, dict) else None
        if not isinstance(kind, str):
            kind = event.name
        if not isinstance(body, dict) or kind == "error" or body.get("error"):
            raise found_error(OPENAI, WireResponse(status=200), _without_type(body))
        over = self._event(kind, body, deltas)
        self._shown = self._shown or bool(deltas)
        return over

    def _event(self, kind: str, body: dict[str, Any], deltas: list[Delta]) -> bool:
        delta = body.get("delta")
        if kind == "response.output_text.delta":
            self._say(delta, deltas)
            tokens = read_logprobs({"content": body.get("logprobs")})
            if tokens:
                deltas.append(Logprobs(tokens))
        elif kind == "response.refusal.delta":
            self._refused = True
            self._say(delta, deltas)
        elif kind in _THOUGHTS:
            if isinstance(delta, str) and delta:
                self._thought = True
                deltas.append(ReasoningDelta(delta))
        elif kind == "response.reasoning_summary_part.added":
            if self._thought and body.get("summary_index") != 0:
                deltas.append(ReasoningDelta("\n\n"))
        elif kind == "response.output_item.done":
            item = body.get("item")
            if isinstance(item, dict):
                self._item(item, deltas)
        elif kind in _FAILURES or kind in _ENDS:
            response = body.get("response")
            self._end(kind, response if isinstance(response, dict) else {}, deltas)
            return True
        return False

    def _say(self, text: Any, deltas: list[Delta]) -> None:
        if isinstance(text, str) and text:
            self._text = self._shown = True
            deltas.append(TextDelta(text))

    def _item(self, item: dict[str, Any], deltas: list[Delta]) -> None:
        """Take a whole item: a call, or the signature of thoughts and what of them was not streamed."""
        match item.get("type"):
            case "function_call" | "custom_tool_call":
                call = read_item_call(item, len(self._calls))
                if call.id in self._calls:
                    return
                if len(self._calls) >= MAX_CALLS:
                    raise UpstreamFailed(f"stream: expected at most {MAX_CALLS} calls in one answer, found more")
                self._calls.add(call.id)
                deltas.append(ToolCallDelta(call.id, call.name, call.arguments))
            case "reasoning":
                text = "" if self._thought else reasoning_text(item)
                signature = item.get("encrypted_content")
                if isinstance(signature, str):
                    redacted = not text and not self._thought
                    deltas.append(ReasoningDelta(text, signature, NAME, redacted))
                elif text:
                    deltas.append(ReasoningDelta(text))
                self._thought = False
            case "message":
                content = item.get("content")
                for part in content if isinstance(content, list) else ():
                    if isinstance(part, dict) and part.get("type") == "refusal":
                        self._refused = True

    def _end(self, kind: str, response: dict[str, Any], deltas: list[Delta]) -> None:
        if kind in _FAILURES or response.get("error") or response.get("status") in ("failed", "cancelled"):
            raise found_error(OPENAI, WireResponse(status=200), response)
        output = response.get("output")
        for item in output if isinstance(output, list) else ():
            if isinstance(item, dict):
                self._rest(item, deltas)
        reason, detail = ending(response, called=bool(self._calls), refused=self._refused)
        model = response.get("model")
        usage = read_usage(response.get("usage"))
        deltas.append(Finish(reason, usage, model if isinstance(model, str) else "", detail))
        self._over = True

    def _rest(self, item: dict[str, Any], deltas: list[Delta]) -> None:
        """Take of the whole answer what was not streamed: calls, and its text if there was none at all."""
        if item.get("type") in ("function_call", "custom_tool_call"):
            self._item(item, deltas)
        elif item.get("type") == "message" and not self._text:
            content = item.get("content")
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict):
                    refused = part.get("type") == "refusal"
                    self._refused = self._refused or refused
                    text = part.get("refusal" if refused else "text")
                    if isinstance(text, str) and text:
                        deltas.append(TextDelta(text))


def _without_type(body: Any) -> Any:
    """Return an error event without the name of its kind, which is no type of error."""
    if not isinstance(body, dict) or body.get("type") != "error":
        return body
    return {key: value for key, value in body.items() if key != "type"}
