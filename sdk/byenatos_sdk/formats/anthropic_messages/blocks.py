"""Content blocks and the parts of a message, in both directions.

What has no canonical equivalent (the calls and results of the vendor's own tools, which a paused turn must hand back)
travels as redacted reasoning: its ``signature`` is the block's JSON, which no other vendor is ever shown. The same way
round, another vendor's signature reaches a client of this API with the name of its format before it, and is told apart
by it when it comes back.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from byenatos_sdk.formats.anthropic_messages.shapes import (
    NAME,
    Block,
    Content,
    DocumentBlock,
    ImageBlock,
    RedactedBlock,
    ResultBlock,
    SearchBlock,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolBlock,
    read_block,
)
from byenatos_sdk.formats.calls import arguments_object, arguments_text
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.media import from_base64, media_type_of, parse_data_url, to_base64
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import File, Image, Part, Reasoning, Text, ToolCall, ToolResult

__all__ = [
    "opaque",
    "parts_of",
    "raw_blocks",
    "reasoning_block",
    "request_block",
    "result_of",
    "signed",
    "tool_block",
    "tool_call",
    "unsigned",
]

_PDF = "application/pdf"
_ID = re.compile(r"[^a-zA-Z0-9_-]")
_objects = msgspec.json.Decoder(dict[str, Any])
_OWN_CALLER = {"type": "direct"}

WireBlock = dict[str, Any] | msgspec.Raw


# ---- signatures ------------------------------------------------------------------------------------------------


def signed(signature: str | None) -> tuple[str | None, str]:
    """Return a signature from the wire, and the name of the format whose it is."""
    if not signature:
        return None, ""
    source, mark, own = signature.partition(":")
    return (own, source) if mark and source in MATRIX else (signature, NAME)


def unsigned(signature: str | None, source: str) -> str:
    """Return a signature as the wire holds it: another format's with that format's name before it."""
    if signature is None:
        return ""
    return signature if source in {"", NAME} else f"{source}:{signature}"


def opaque(raw: bytes) -> Reasoning:
    """Return a block that is kept as it is."""
    return Reasoning("", msgspec.json.format(raw, indent=-1).decode("utf-8", "replace"), NAME, redacted=True)


def _object(text: str | None) -> dict[str, Any] | None:
    """Return the JSON object that ``text`` is, ``None`` if it is anything else."""
    if text is None or not text.startswith("{"):
        return None
    try:
        return _objects.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def reasoning_block(part: Reasoning) -> WireBlock:
    """Write reasoning, or the block that was kept as it was."""
    signature = unsigned(part.signature, part.source)
    if part.redacted and _object(signature) is not None:
        return msgspec.Raw(signature.encode())
    if part.redacted:
        return {"type": "redacted_thinking", "data": signature}
    return {"type": "thinking", "thinking": part.text, "signature": signature}


# ---- tools -----------------------------------------------------------------------------------------------------


def tool_call(block: ToolBlock) -> ToolCall:
    """Return a call; what the vendor wants back with it beyond id, name and input is its signature."""
    own = {"toolset_name": block.toolset_name, "caller": block.caller if block.caller != _OWN_CALLER else None}
    found = {name: value for name, value in own.items() if value is not None}
    signature = msgspec.json.encode(found).decode() if found else block.signature
    return ToolCall(block.id, block.name, arguments_text(bytes(block.input) or b"{}"), signature)


def tool_block(call: ToolCall, *, foreign: bool) -> dict[str, Any]:
    """Write a call. ``foreign``: another vendor's signature goes along, for a client that hands it back."""
    block: dict[str, Any] = {
        "type": "tool_use",
        "id": _ID.sub("_", call.id) or "call",
        "name": call.name,
        "input": arguments_object(call.arguments),
    }
    own = _object(call.signature)
    if own is not None:
        block |= own
    elif call.signature is not None and foreign:
        block["signature"] = call.signature
    return block


def result_of(block: ResultBlock, name: str, where: str) -> tuple[ToolResult, list[Part]]:
    """Return a tool's result, and what it holds that a result cannot: documents, which the user's turn takes."""
    texts: list[str] = []
    images: list[Image] = []
    others: list[Part] = []
    for raw, at in raw_blocks(block.content, f"{where}.content"):
        kind, inner = read_block(raw, at)
        for part in [Text(bytes(raw).decode())] if inner is None else parts_of(inner, kind, at):
            if isinstance(part, Text):
                texts.append(part.text)
            elif isinstance(part, Image):
                images.append(part)
            else:
                others.append(part)
    text = block.content if isinstance(block.content, str) else "\n".join(texts)
    return ToolResult(block.tool_use_id, text, bool(block.is_error), name, tuple(images)), others


def _result_block(result: ToolResult) -> dict[str, Any]:
    content: str | list[dict[str, Any]] = result.text
    if result.images:
        content = [{"type": "text", "text": result.text}] if result.text else []
        content += [_image_block(image) for image in result.images]
    block = {"type": "tool_result", "tool_use_id": _ID.sub("_", result.call_id) or "call", "content": content}
    return block | {"is_error": True} if result.is_error else block


# ---- pictures and documents ------------------------------------------------------------------------------------


def _image(source: Source, where: str) -> Image:
    if source.type == "base64" and source.data is not None:
        data = from_base64(source.data, f"{where}.source.data")
        return Image(source.media_type or media_type_of(data), data)
    if source.type == "url" and source.url is not None:
        inner = parse_data_url(source.url, f"{where}.source.url")
        return Image(url=source.url) if inner is None else Image(*inner)
    if source.type == "file" and source.file_id is not None:
        return Image(file_id=source.file_id)
    raise InvalidRequest(f"{where}.source: expected base64 data, a url or a file_id, found {source.type!r}")


def _image_block(image: Image) -> dict[str, Any]:
    return {"type": "image", "source": _source(image)}


def _source(part: Image | File) -> dict[str, Any]:
    if part.data is not None:
        return {"type": "base64", "media_type": part.media_type, "data": to_base64(part.data)}
    if part.url is not None:
        inner = parse_data_url(part.url, "messages: a url")
        if inner is not None:
            return {"type": "base64", "media_type": inner[0], "data": to_base64(inner[1])}
        return {"type": "url", "url": part.url}
    return {"type": "file", "file_id": part.file_id}


def _document(block: DocumentBlock, where: str) -> list[Part]:
    source, name = block.source, block.title or ""
    if source.type == "base64" and source.data is not None:
        return [File(name, source.media_type or _PDF, from_base64(source.data, f"{where}.source.data"))]
    if source.type == "text" and source.data is not None:
        return [File(name, source.media_type or "text/plain", source.data.encode())]
    if source.type == "url" and source.url is not None:
        return [File(name, _PDF, url=source.url)]
    if source.type == "file" and source.file_id is not None:
        return [File(name, file_id=source.file_id)]
    if source.type == "content" and source.content is not None:
        return _pages(source.content, name, f"{where}.source.content")
    raise InvalidRequest(
        f"{where}.source: expected base64 data, text, content, a url or a file_id, found {source.type!r}"
    )


def _pages(content: Content, name: str, where: str) -> list[Part]:
    """Return a document given as blocks: its text as one file, its pictures beside it."""
    if isinstance(content, str):
        return [File(name, "text/plain", content.encode())]
    inner = [part for raw, at in raw_blocks(content, where) for part in _known(raw, at)]
    text = "\n".join(part.text for part in inner if isinstance(part, Text))
    return [File(name, "text/plain", text.encode()), *(part for part in inner if not isinstance(part, Text))]


def _document_block(file: File) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "document", "source": _source(file)}
    if file.data is not None and file.media_type != _PDF:
        try:
            block["source"] = {"type": "text", "media_type": "text/plain", "data": file.data.decode()}
        except UnicodeDecodeError:
            raise Unsupported(
                f"messages: {NAME} takes PDF files and texts, found {file.media_type}; leave it out, or convert it"
            ) from None
    return block | {"title": file.name} if file.name else block


# ---- any block -------------------------------------------------------------------------------------------------


def raw_blocks(content: Content | None, where: str) -> Iterable[tuple[msgspec.Raw, str]]:
    """Return content that is given as blocks, each with its place; nothing for a plain text."""
    return [(raw, f"{where}[{at}]") for at, raw in enumerate(content)] if isinstance(content, list) else []


def _known(raw: msgspec.Raw, where: str) -> list[Part]:
    kind, block = read_block(raw, where)
    if block is None:
        raise InvalidRequest(f"{where}.type: expected text or image, found {kind!r}")
    return parts_of(block, kind, where)


def parts_of(block: Block, kind: str, where: str) -> list[Part]:
    """Return the parts that a block stands for; a result of a tool is :func:`result_of`'s.

    Raises:
        InvalidRequest: its source is wrong, or it is a result; ``where`` names it.
    """
    if isinstance(block, TextBlock):
        return [Text(block.text)]
    if isinstance(block, ImageBlock):
        return [_image(block.source, where)]
    if isinstance(block, DocumentBlock):
        return _document(block, where)
    if isinstance(block, SearchBlock):
        found = [
            part.text
            for raw, at in raw_blocks(block.content, f"{where}.content")
            for part in _known(raw, at)
            if isinstance(part, Text)
        ]
        return [Text("\n".join([f"{block.title} ({block.source})", *found]))]
    if isinstance(block, ThinkingBlock):
        return [Reasoning(block.thinking, *signed(block.signature))]
    if isinstance(block, RedactedBlock):
        return [Reasoning("", *signed(block.data), redacted=True)]
    if isinstance(block, ToolBlock):
        return [tool_call(block)]
    raise InvalidRequest(f"{where}.type: expected another block here, found {kind!r}")


def request_block(part: Part) -> WireBlock | None:
    """Write a part of a request; ``None`` for one that this API refuses: an empty text.

    Raises:
        Unsupported: it is a file of a kind that this API does not take.
    """
    if isinstance(part, Text):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, Image):
        return _image_block(part)
    if isinstance(part, File):
        return _document_block(part)
    if isinstance(part, ToolCall):
        return tool_block(part, foreign=False)
    if isinstance(part, ToolResult):
        return _result_block(part)
    if isinstance(part, Reasoning):
        return reasoning_block(part)
    raise Unsupported(f"messages: {NAME} takes no sound; leave it out, or swap to a model that takes it")
