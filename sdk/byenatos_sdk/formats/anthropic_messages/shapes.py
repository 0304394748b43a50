"""Content blocks and requests of Anthropic's Messages API, as msgspec reads them.

Source: anthropic-sdk-python 2.14 (API version 2026-10-21) and 0.125 (2023-06-01). Content blocks are kept raw until
their type is known: what this build does not know is handed on as it came.
"""

from typing import Any, TypeVar

import msgspec

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = [
    "NAME",
    "NEW_VERSION",
    "OLD_VERSION",
    "Block",
    "Content",
    "DocumentBlock",
    "ImageBlock",
    "RedactedBlock",
    "Request",
    "ResultBlock",
    "SearchBlock",
    "Source",
    "TextBlock",
    "ThinkingBlock",
    "ToolBlock",
    "ToolChoice",
    "ToolDefinition",
    "read_block",
]

NAME = "anthropic_messages"
"""The format's name."""
OLD_VERSION = "2023-06-01"
"""The first API version: it takes sampling parameters."""
NEW_VERSION = "2026-10-21"
"""The second one: it refuses them."""

_Struct = TypeVar("_Struct")
Content = str | list[msgspec.Raw]
"""A message's content: a text, or blocks."""


# ---- content blocks --------------------------------------------------------------------------------------------


class Source(msgspec.Struct):
    """Where an image or a document comes from: ``base64``, ``url``, ``file``, ``text`` or ``content``."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Content | None = None


class TextBlock(msgspec.Struct):
    """Text."""

    text: str
    citations: list[Any] | None = None
    cache_control: Any = None


class ImageBlock(msgspec.Struct):
    """A picture."""

    source: Source
    cache_control: Any = None


class DocumentBlock(msgspec.Struct):
    """A document: a PDF, plain text, or blocks."""

    source: Source
    title: str | None = None
    context: str | None = None
    citations: Any = None
    cache_control: Any = None


class SearchBlock(msgspec.Struct):
    """A search result that the client found itself."""

    source: str
    title: str
    content: list[msgspec.Raw]
    cache_control: Any = None


class ThinkingBlock(msgspec.Struct):
    """What the model thought, with its signature."""

    thinking: str = ""
    signature: str | None = None


class RedactedBlock(msgspec.Struct):
    """What the model thought, encrypted."""

    data: str = ""


class ToolBlock(msgspec.Struct):
    """A call of one of the client's tools."""

    id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"")
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None
    signature: str | None = None
    cache_control: Any = None


class ResultBlock(msgspec.Struct):
    """What a tool answered."""

    tool_use_id: str
    content: Content | None = None
    is_error: bool | None = None
    cache_control: Any = None


class _Typed(msgspec.Struct):
    type: str


Block = TextBlock | ImageBlock | DocumentBlock | SearchBlock | ThinkingBlock | RedactedBlock | ToolBlock | ResultBlock
"""The blocks that have a canonical equivalent."""

_typed = msgspec.json.Decoder(_Typed)
_blocks: dict[str, msgspec.json.Decoder[Block]] = {
    "text": msgspec.json.Decoder(TextBlock),
    "image": msgspec.json.Decoder(ImageBlock),
    "document": msgspec.json.Decoder(DocumentBlock),
    "search_result": msgspec.json.Decoder(SearchBlock),
    "thinking": msgspec.json.Decoder(ThinkingBlock),
    "redacted_thinking": msgspec.json.Decoder(RedactedBlock),
    "tool_use": msgspec.json.Decoder(ToolBlock),
    "tool_result": msgspec.json.Decoder(ResultBlock),
}


def read_block(raw: msgspec.Raw, where: str) -> tuple[str, Block | None]:
    """Return a block's type and what it holds; ``None`` for a type that has no canonical equivalent.

    Raises:
        InvalidRequest: it is no block, or not one of its type; ``where`` names it.
    """
    kind = _read(_typed, raw, where).type
    decoder = _blocks.get(kind)
    return kind, None if decoder is None else _read(decoder, raw, where)


def _read(decoder: msgspec.json.Decoder[_Struct], raw: msgspec.Raw, where: str) -> _Struct:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise InvalidRequest(
            f"{where}{place.rstrip('`')}: {problem[:1].lower()}{problem[1:].replace(', got ', ', found ')}"
        ) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{where}: expected a block, found: {error}") from None


# ---- requests --------------------------------------------------------------------------------------------------


class WireMessage(msgspec.Struct):
    """A turn."""

    role: str
    content: Content


class Thinking(msgspec.Struct):
    """How to think: ``enabled``, ``adaptive``, ``between_tools`` or ``disabled``."""

    type: str
    budget_tokens: int | None = None


class OutputFormat(msgspec.Struct):
    """The answer's form: ``json_schema``."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct):
    """How much effort, and what form."""

    effort: str | None = None
    format: OutputFormat | None = None


class ToolDefinition(msgspec.Struct):
    """A tool; one whose ``type`` is not ``custom`` is the vendor's own."""

    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct):
    """Which tools may be called."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(msgspec.Struct):
    """Whom the request is for."""

    user_id: str | None = None


class Request(msgspec.Struct):
    """What ``/v1/messages`` and ``/v1/messages/count_tokens`` take."""

    model: str
    messages: list[WireMessage]
    max_tokens: int | None = None
    system: Content | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: ToolChoice | None = None
