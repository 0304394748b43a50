"""Contents of messages: OpenAI's parts and canonical ones, both ways."""

import mimetypes
from collections.abc import Iterable
from typing import Any, Literal, cast

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.media import data_url, from_base64, parse_data_url, to_base64
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Audio, File, Image, Part, Text

__all__ = ["read_content", "read_file", "read_image", "write_content"]

_UNKNOWN_TYPE = "application/octet-stream"
_DETAILS = frozenset({"auto", "low", "high", "original"})
_FORMATS = {"audio/mpeg": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}
_TYPES = {"mp3": "audio/mpeg"}


def read_image(url: str, detail: str | None, where: str) -> Image:
    """Read a picture from its address.

    Raises:
        InvalidRequest: the address or the detail is none.
    """
    if detail is not None and detail not in _DETAILS:
        raise InvalidRequest(f"{where}.detail: expected one of {', '.join(sorted(_DETAILS))}, found {detail[:40]!r}")
    known = cast("Literal['auto', 'low', 'high', 'original']", detail or "auto")
    found = parse_data_url(url, where)
    if found is None:
        return Image(url=url, detail=known)
    return Image(found[0], found[1], detail=known)


def read_file(data: str, name: str, where: str) -> File:
    """Read a document that comes with the request, as a ``data:`` address or in bare base64."""
    found = parse_data_url(data, where)
    if found is not None:
        return File(name, *found)
    return File(name, mimetypes.guess_type(name)[0] or _UNKNOWN_TYPE, from_base64(data, where))


def _part(fields: Fields) -> Part | None:
    kind = fields.text("type")
    match kind:
        case "text" | "input_text" | "output_text":
            return Text(fields.need_text("text"))
        case "refusal":
            return Text(fields.need_text("refusal"))
        case "image_url":
            if isinstance(fields.get("image_url"), str):
                return read_image(fields.need_text("image_url"), None, fields.name("image_url"))
            image = fields.need_inner("image_url")
            return read_image(image.need_text("url"), image.text("detail"), image.path)
        case "input_audio":
            audio = fields.need_inner("input_audio")
            form = audio.need_text("format")
            return Audio(from_base64(audio.need_text("data"), audio.name("data")), _TYPES.get(form, f"audio/{form}"))
        case "file":
            file = fields.need_inner("file")
            name = file.text("filename") or ""
            if "file_data" in file:
                return read_file(file.need_text("file_data"), name, file.name("file_data"))
            return File(name, file_id=file.need_text("file_id"))
        case "thinking":
            return None
    raise fields.wrong("type", "text, image_url, input_audio, file or refusal")


def read_content(message: Fields, key: str = "content") -> list[Part]:
    """Read a message's content: a string, a list of parts, or one part alone (Meta); absent or empty is nothing.

    Raises:
        InvalidRequest: it is something else; the message says where.
    """
    content = message.get(key)
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(content)]
    if isinstance(content, dict):
        fields = [Fields(content, message.name(key))]
    elif isinstance(content, list):
        fields = message.objects(key)
    else:
        raise message.wrong(key, "a string or a list of parts")
    parts = [part for part in map(_part, fields) if part is not None]
    return [part for part in parts if part != Text("")]


def _written(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        url = part.url if part.data is None else data_url(part.media_type, part.data)
        detail = {} if part.detail == "auto" else {"detail": part.detail}
        return {"type": "image_url", "image_url": {"url": url, **detail}}
    if isinstance(part, Audio):
        form = _FORMATS.get(part.media_type, part.media_type.rpartition("/")[2])
        return {"type": "input_audio", "input_audio": {"data": to_base64(part.data), "format": form}}
    assert isinstance(part, File)
    name = {"filename": part.name} if part.name else {}
    if part.data is not None:
        return {"type": "file", "file": {**name, "file_data": data_url(part.media_type, part.data)}}
    return {"type": "file", "file": {**name, "file_id": part.file_id}}


def write_content(parts: Iterable[Part]) -> str | list[dict[str, Any]]:
    """Write texts, pictures, sounds and documents: one text alone as a string, which every server takes."""
    content = [part for part in parts if isinstance(part, Text | Image | Audio | File)]
    if not content:
        return ""
    if len(content) == 1 and isinstance(content[0], Text):
        return content[0].text
    return [_written(part) for part in content]
