"""Parts of a turn and of a message, in both directions.

A signature belongs to the part that it stands on, and goes back on it. One on a call is the call's; one on a thought is
the thought's; one on a text, or on a part of its own without text, becomes reasoning without text right behind it. What
has no canonical equivalent (code that the vendor ran, pictures that it drew) travels as redacted reasoning whose
signature is the part's JSON.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from mimetypes import guess_type
from typing import Any
from urllib.parse import urlsplit

import msgspec

from byenatos_sdk.formats.calls import arguments_object, arguments_text
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.gemini.shapes import NAME, FunctionCall, PartFields
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.media import from_base64, parse_data_url, to_base64
from byenatos_sdk.formats.wire import json_body, read_as, read_object
from byenatos_sdk.protocol.messages import (
    Audio,
    Delta,
    File,
    Image,
    Part,
    Reasoning,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)

__all__ = [
    "answer_deltas",
    "call_part",
    "invented",
    "media_of",
    "media_part",
    "reasoning_part",
    "result_object",
    "result_of",
    "signature_of",
    "signed",
    "unsigned",
]

_parts = msgspec.json.Decoder(PartFields)
_objects = msgspec.json.Decoder(dict[str, Any])
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_PLAIN = "application/octet-stream"
_AUDIO = {"audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav", "audio/wave": "audio/wav"}
"""Other names of kinds of sound that have a canonical one."""


# ---- signatures ------------------------------------------------------------------------------------------------


def signed(signature: str | None) -> tuple[str | None, str, bool]:
    """Return a signature from the wire, the name of the format whose it is, and whether it stands for hidden text."""
    if not signature:
        return None, "", False
    try:
        inner = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)).decode()
    except (binascii.Error, ValueError):
        return signature, NAME, False
    source, mark, own = inner.partition(":")
    if not mark or source not in MATRIX:
        return signature, NAME, False
    return own.removeprefix("!"), source, own.startswith("!")


def unsigned(signature: str | None, source: str, *, redacted: bool = False) -> str | None:
    """Return a signature as the wire holds it; another format's with that format's name before it."""
    if signature is None:
        return None
    if source in {"", NAME}:
        return signature if _BASE64.fullmatch(signature) else None
    return to_base64(f"{source}:{'!' * redacted}{signature}".encode())


def signature_of(call: ToolCall) -> str | None:
    """Return a call's signature as the wire holds it: what is no base64 is another vendor's."""
    if call.signature is not None and call.signature.startswith("{"):
        return unsigned(call.signature, "anthropic_messages")
    return unsigned(call.signature, NAME)


# ---- calls and results -----------------------------------------------------------------------------------------


def invented(call_id: str, name: str) -> bool:
    """Say whether an id is one that was made up for a call that came without."""
    head, _, rest = call_id.removeprefix("call_").partition("_")
    return call_id.startswith("call_") and head.isdecimal() and (rest == name or rest.startswith(name + "_"))


def _call_id(call: FunctionCall, position: int, response_id: str) -> str:
    """Return a call's id; one that is made up holds the answer's, so that it is the only one in its conversation."""
    return call.id or f"call_{position}_{call.name}" + (f"_{response_id}" if response_id else "")


def call_part(call: ToolCall, *, named: bool = True) -> dict[str, Any]:
    """Write a call, without its signature; ``named``: with its id."""
    function: dict[str, Any] = {"id": call.id} if named and call.id else {}
    return {"functionCall": function | {"name": call.name, "args": arguments_object(call.arguments)}}


def result_object(result: ToolResult) -> Any:
    """Return what a tool answered as an object, as the API wants it: its own if it is one, else under ``output``."""
    if result.is_error:
        return {"error": result.text}
    try:
        found = _objects.decode(result.text) if result.text.lstrip().startswith("{") else None
    except (msgspec.DecodeError, RecursionError):
        found = None
    if found is None or {"output", "error", "result"} & found.keys():
        return {"output": result.text}
    return found


def result_of(response: dict[str, Any] | None, call_id: str, name: str, images: tuple[Image, ...] = ()) -> ToolResult:
    """Return a tool's result from the object that a client sent."""
    found = {key: value for key, value in (response or {}).items() if value is not None}
    if "error" in found:
        return ToolResult(call_id, _text(found["error"]), is_error=True, name=name, images=images)
    if "output" in found:
        return ToolResult(call_id, _text(found["output"]), name=name, images=images)
    if found.keys() == {"result"}:
        return ToolResult(call_id, _text(found["result"]), name=name, images=images)
    return ToolResult(call_id, "" if response is None else _text(response), name=name, images=images)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_body(value).decode()


# ---- pictures, sounds, documents -------------------------------------------------------------------------------


def media_of(part: Fields) -> Part | None:
    """Return what a part of a client's request holds inline or by address; ``None`` if it holds neither.

    Raises:
        InvalidRequest: it is not as it should be; the message names the field.
    """
    inline = part.inner("inlineData")
    if inline is not None:
        data = from_base64(inline.need_text("data"), inline.name("data"))
        media_type = inline.text("mimeType") or _PLAIN
        return _media(media_type, data, inline.text("displayName") or "")
    file = part.inner("fileData")
    if file is None:
        return None
    url = file.need_text("fileUri")
    media_type = file.text("mimeType") or _guessed(url) or _PLAIN
    if media_type.startswith("image/"):
        return Image(media_type, url=url)
    return File(file.text("displayName") or "", media_type, url=url)


def _media(media_type: str, data: bytes, name: str) -> Part:
    if media_type.startswith("image/"):
        return Image(media_type, data)
    if media_type.startswith("audio/"):
        return Audio(data, _AUDIO.get(media_type, media_type))
    return File(name, media_type, data)


def _guessed(url: str) -> str | None:
    try:
        return guess_type(urlsplit(url).path)[0]
    except ValueError:
        return None


def media_part(part: Image | Audio | File) -> dict[str, Any]:
    """Write a picture, a sound or a document."""
    media_type = part.media_type
    if isinstance(part, Audio):
        named = "audio/mp3" if media_type == "audio/mpeg" else media_type
        return {"inlineData": {"mimeType": named, "data": to_base64(part.data)}}
    if part.data is not None:
        return {"inlineData": {"mimeType": media_type, "data": to_base64(part.data)}}
    url = part.url or ""
    inner = parse_data_url(url, "messages: a url")
    if inner is not None:
        return {"inlineData": {"mimeType": inner[0], "data": to_base64(inner[1])}}
    if media_type in {"image/png", _PLAIN}:  # what a part is called whose kind nobody said
        media_type = _guessed(url) or media_type
    return {"fileData": {"mimeType": media_type, "fileUri": url}}


# ---- reasoning -------------------------------------------------------------------------------------------------


def reasoning_part(part: Reasoning) -> Any:
    """Write reasoning, or the part that was kept as it was; ``None`` if there is nothing that could be written."""
    if part.redacted and part.source in {"", NAME}:
        return _kept(part.signature)
    signature = unsigned(part.signature, part.source, redacted=part.redacted)
    if not part.text and signature is None:
        return None
    said: dict[str, Any] = {"text": part.text}
    if part.text or part.source not in {"", NAME}:
        said["thought"] = True
    return said if signature is None else said | {"thoughtSignature": signature}


def _kept(signature: str | None) -> msgspec.Raw | None:
    try:
        _objects.decode(signature or "")
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw((signature or "").encode())


# ---- answers ---------------------------------------------------------------------------------------------------


def answer_deltas(raw: bytes, position: int, response_id: str) -> Iterable[Delta]:
    """Return what a part of an answer says; ``position`` is how many calls stand before it.

    Raises:
        InvalidRequest: it is not as the API writes parts.
    """
    part = read_as(_parts, raw, "part")
    signature, source, redacted = signed(part.thought_signature)
    call = part.function_call
    if call is not None:
        arguments = arguments_text(b"{}" if bytes(call.args) in (b"", b"null") else bytes(call.args))
        yield ToolCallDelta(_call_id(call, position, response_id), call.name, arguments, signature)
    elif part.text is not None and part.thought:
        if part.text or signature is not None:
            yield ReasoningDelta(part.text, signature, source, redacted)
    elif part.text is not None:
        if part.text:
            yield TextDelta(part.text)
        if signature is not None:
            yield ReasoningDelta("", signature, source, redacted)
    elif read_object(raw, "part").keys() <= {"thought", "thoughtSignature"}:
        if signature is not None:
            yield ReasoningDelta("", signature, source, redacted)
    else:
        kept = msgspec.json.format(raw, indent=-1).decode("utf-8", "replace")
        yield ReasoningDelta("", kept, NAME, redacted=True)
