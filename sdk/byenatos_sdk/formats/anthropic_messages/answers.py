"""Answers, events and lists of Anthropic's Messages API, as msgspec reads them."""

from typing import Any

import msgspec

__all__ = ["Answer", "ModelInfo", "ModelList", "WireDelta", "WireEvent", "WireUsage"]


class OutputDetails(msgspec.Struct):
    """What the output tokens were spent on."""

    thinking_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """Token counts; ``input_tokens`` leaves out what a cache was involved in."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Answer(msgspec.Struct):
    """A whole answer, or the beginning of a stream's."""

    model: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: WireUsage | None = None
    error: Any = None


class WireDelta(msgspec.Struct):
    """The next piece of a block, or the end of a message."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class WireEvent(msgspec.Struct):
    """One event of a stream."""

    type: str = ""
    index: int = 0
    message: Answer | None = None
    content_block: msgspec.Raw = msgspec.Raw(b"")
    delta: WireDelta | None = None
    usage: WireUsage | None = None
    error: Any = None


class ModelInfo(msgspec.Struct):
    """A model in a list."""

    id: str
    display_name: str | None = None
    created_at: str | None = None
    lifecycle: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class ModelList(msgspec.Struct):
    """A page of the list of models."""

    data: list[ModelInfo]
    has_more: bool | None = None
    last_id: str | None = None
