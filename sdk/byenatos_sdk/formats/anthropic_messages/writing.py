"""Streams written: each event has its ``event:`` line, for clients drop those without; blocks never interleave."""

from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.anthropic_messages.blocks import reasoning_block, tool_block, unsigned
from byenatos_sdk.formats.anthropic_messages.errors import error_object
from byenatos_sdk.formats.anthropic_messages.responses import stop_fields, usage_fields
from byenatos_sdk.formats.contract import StreamEncoder as StreamEncoderProtocol
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import Reply, json_body
from byenatos_sdk.protocol.answer import error_from
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

__all__ = ["StreamEncoder", "stream_encoder"]

_encode = msgspec.json.Encoder().encode
_TEXT_END = b"}}\n\n"


class StreamEncoder:
    """Writes one answer's stream."""

    content_type = "text/event-stream"

    def __init__(self, reply: Reply) -> None:
        message: dict[str, Any] = {
            "id": reply.id,
            "type": "message",
            "role": "assistant",
            "model": reply.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(Usage()),
        }
        self._head = _event("message_start", {"message": message})
        self._index = -1
        self._kind = ""  # of the block that is open
        self._text = b""
        self._thought = b""
        self._called = False

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the events that say ``deltas``; neighbouring texts become one event."""
        out = [self._head]
        self._head = b""
        texts: list[str] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                texts.append(delta.text)
                continue
            if texts:
                self._say(out, texts)
                texts = []
            if isinstance(delta, ReasoningDelta):
                self._reason(out, delta)
            elif isinstance(delta, ToolCallDelta):
                self._call(out, delta)
            elif isinstance(delta, Finish):
                self._finish(out, delta)
            elif isinstance(delta, Failure):
                out.append(event(json_body(error_object(error_from(delta))), "error"))
        if texts:
            self._say(out, texts)
        return b"".join(out)

    def keep_alive(self) -> bytes:
        """Return the event that means nothing."""
        return _event("ping", {})

    def _say(self, out: list[bytes], texts: list[str]) -> None:
        text = texts[0] if len(texts) == 1 else "".join(texts)
        if not text:
            return
        if self._kind != "text":
            self._open(out, "text", {"type": "text", "text": ""})
        out += (self._text, _encode(text), _TEXT_END)

    def _reason(self, out: list[bytes], delta: ReasoningDelta) -> None:
        if delta.redacted:
            part = Reasoning(delta.text, delta.signature, delta.source, redacted=True)
            self._whole(out, reasoning_block(part))
            return
        if self._kind != "thinking" and (delta.text or delta.signature is not None):
            self._open(out, "thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if delta.text:
            out += (self._thought, _encode(delta.text), _TEXT_END)
        if delta.signature is not None:
            signature = unsigned(delta.signature, delta.source)
            self._more(out, {"type": "signature_delta", "signature": signature})
            self._close(out)

    def _call(self, out: list[bytes], delta: ToolCallDelta) -> None:
        block = tool_block(ToolCall(delta.id, delta.name, delta.arguments, delta.signature), foreign=True)
        arguments = bytes(block["input"]).decode()
        self._open(out, "tool_use", block | {"input": {}})
        self._more(out, {"type": "input_json_delta", "partial_json": arguments})
        self._close(out)
        self._called = True

    def _finish(self, out: list[bytes], finish: Finish) -> None:
        self._close(out)
        delta = stop_fields(finish, called=self._called)
        out.append(_event("message_delta", {"delta": delta, "usage": usage_fields(finish.usage)}))
        out.append(_event("message_stop", {}))

    # ---- blocks --------------------------------------------------------------------------------------------------

    def _open(self, out: list[bytes], kind: str, block: Any) -> None:
        self._close(out)
        self._index += 1
        self._kind = kind
        out.append(_event("content_block_start", {"index": self._index, "content_block": block}))
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{' % self._index
        self._text = head + b'"type":"text_delta","text":'
        self._thought = head + b'"type":"thinking_delta","thinking":'

    def _more(self, out: list[bytes], delta: dict[str, Any]) -> None:
        out.append(_event("content_block_delta", {"index": self._index, "delta": delta}))

    def _whole(self, out: list[bytes], block: Any) -> None:
        self._open(out, "whole", block)
        self._close(out)

    def _close(self, out: list[bytes]) -> None:
        if self._kind:
            self._kind = ""
            out.append(_event("content_block_stop", {"index": self._index}))


def _event(type: str, fields: dict[str, Any]) -> bytes:
    return event(json_body({"type": type, **fields}), type)


def stream_encoder(reply: Reply) -> StreamEncoderProtocol:
    """Return an encoder for one stream."""
    return StreamEncoder(reply)
