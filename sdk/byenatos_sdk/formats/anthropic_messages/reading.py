"""Streams read: ``message_start``, blocks one after the other, ``message_delta``, ``message_stop``; ``ping`` anywhere.

A call's input is put together and given out when its block ends; what the vendor's own tools do is kept as it is.
"""

import msgspec

from byenatos_sdk.formats.anthropic_messages.answers import WireDelta, WireEvent, WireUsage
from byenatos_sdk.formats.anthropic_messages.blocks import opaque, parts_of, signed, tool_call
from byenatos_sdk.formats.anthropic_messages.errors import error_of
from byenatos_sdk.formats.anthropic_messages.responses import finish_of, usage_of
from byenatos_sdk.formats.anthropic_messages.shapes import (
    RedactedBlock,
    TextBlock,
    ThinkingBlock,
    ToolBlock,
    read_block,
)
from byenatos_sdk.formats.calls import arguments_text
from byenatos_sdk.formats.contract import StreamDecoder as StreamDecoderProtocol
from byenatos_sdk.formats.sse import MAX_EVENT, Event, EventReader
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.formats.wire import WireResponse, json_body, read_as, read_json, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import Delta, Part, Reasoning, ReasoningDelta, TextDelta, ToolCallDelta

__all__ = ["StreamDecoder", "stream_decoder"]

_events = msgspec.json.Decoder(WireEvent)


class _Kind(msgspec.Struct):
    type: str = ""


_kinds = msgspec.json.Decoder(_Kind)
_KNOWN = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)


class _Block:
    """A block whose input is still coming: a call, or one of the vendor's own that is kept as it is."""

    def __init__(self, block: ToolBlock | None, raw: bytes) -> None:
        self.block = block
        self.raw = raw
        self.input: list[str] = []

    def delta(self) -> Delta:
        """Return the whole block.

        Raises:
            InvalidRequest: the input of the vendor's own tool is no JSON.
        """
        said = "".join(self.input)
        if self.block is not None:
            call = tool_call(self.block)
            return ToolCallDelta(call.id, call.name, _arguments(said) or call.arguments, call.signature)
        raw = self.raw
        if said:
            fields = read_object(raw, "content_block")
            raw = json_body({**fields, "input": read_json(said.encode(), "input")})
        kept = opaque(raw)
        return ReasoningDelta("", kept.signature, kept.source, redacted=True)


def _arguments(said: str) -> str:
    """Return an input as text in one line; one that is no JSON stays as the model wrote it."""
    try:
        return arguments_text(said.encode()) if said else ""
    except msgspec.DecodeError:
        return said


class StreamDecoder(UnitDecoder[Event]):
    """Reads one answer's stream."""

    def __init__(self) -> None:
        super().__init__(EventReader())
        self._usage: tuple[WireUsage | None, ...] = ()
        self._open: dict[int, _Block] = {}
        self._size = 0
        self._signature: str | None = None
        self._called = False
        self._stopped: tuple[str, str | None] | None = None

    def read(self, unit: Event) -> None:
        """Understand one event."""
        found = self._event(unit)
        kind = found.type or unit.name
        if kind == "content_block_delta":
            if found.delta is not None:
                self._delta(found.index, found.delta)
        elif kind == "content_block_start":
            self._start(found)
        elif kind == "content_block_stop":
            self._stop(found.index)
        elif kind == "message_start":
            self._usage = (None if found.message is None else found.message.usage,)
        elif kind == "message_delta":
            self._usage = (*self._usage[:1], found.usage)
            if found.delta is not None and found.delta.stop_reason is not None:
                self._stopped = (found.delta.stop_reason, found.delta.stop_sequence)
        elif kind == "message_stop":
            self._end()
        elif kind == "error":
            self.fail(error_of(read_json(unit.data, "event"), WireResponse(unit.data, 500)))

    def at_end(self) -> None:
        """Accept an answer whose reason to stop was said, even if the last event is missing."""
        if self._stopped is not None:
            self._end()

    def _event(self, unit: Event) -> WireEvent:
        """Return an event; one of an unknown name may look as it likes."""
        try:
            return read_as(_events, unit.data, "event")
        except InvalidRequest:
            kind = read_as(_kinds, unit.data, "event").type or unit.name
            if kind in _KNOWN:
                raise
            return WireEvent(kind)

    def _start(self, found: WireEvent) -> None:
        raw = bytes(found.content_block)
        kind, block = read_block(found.content_block, "content_block")
        if isinstance(block, TextBlock):
            if block.text:
                self.say(TextDelta(block.text))
        elif isinstance(block, ThinkingBlock):
            self._signature = block.signature or None
            if block.thinking:
                self.say(ReasoningDelta(block.thinking))
        elif isinstance(block, RedactedBlock):
            self.say(*_reasoning(parts_of(block, kind, "content_block")))
        else:
            self._grow(len(raw))
            self._open[found.index] = _Block(block if isinstance(block, ToolBlock) else None, raw)

    def _delta(self, index: int, delta: WireDelta) -> None:
        if delta.type == "text_delta":
            self.say(TextDelta(delta.text))
        elif delta.type == "thinking_delta":
            self.say(ReasoningDelta(delta.thinking))
        elif delta.type == "signature_delta":
            self._signature = delta.signature or None
        elif delta.type == "input_json_delta" and index in self._open:
            self._grow(len(delta.partial_json))
            self._open[index].input.append(delta.partial_json)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT:
            raise UpstreamFailed(f"stream: expected inputs of tools of at most {MAX_EVENT} bytes, found more")

    def _stop(self, index: int) -> None:
        block = self._open.pop(index, None)
        if block is not None:
            self._size -= len(block.raw) + sum(map(len, block.input))
            delta = block.delta()
            self._called = self._called or isinstance(delta, ToolCallDelta)
            self.say(delta)
        elif self._signature is not None:
            self.say(ReasoningDelta("", *signed(self._signature)))
            self._signature = None

    def _end(self) -> None:
        for index in sorted(self._open):
            self._stop(index)
        reason, sequence = self._stopped or (None, None)
        self.say(finish_of(reason, sequence, usage_of(*self._usage), called=self._called))


def _reasoning(parts: list[Part]) -> list[Delta]:
    return [
        ReasoningDelta(part.text, part.signature, part.source, part.redacted)
        for part in parts
        if isinstance(part, Reasoning)
    ]


def stream_decoder(*, choice: int = 0) -> StreamDecoderProtocol:  # noqa: ARG001  # there is one answer only
    """Return a decoder for one stream."""
    return StreamDecoder()
