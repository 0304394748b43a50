"""Pictures and sounds inside JSON: base64 of both alphabets, ``data:`` addresses, and what bytes look like."""

import base64
import binascii
import re

from byenatos_sdk.formats.uploads import mark_of
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["data_url", "from_base64", "media_type_of", "parse_data_url", "to_base64"]

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mp3"),
    (b"\xff\xfb", "audio/mp3"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.ASCII)


def to_base64(data: bytes) -> str:
    """Encode ``data`` in base64's standard alphabet; large data may be held back until it is sent (``uploads``)."""
    return mark_of(data) or base64.b64encode(data).decode("ascii")


def from_base64(text: str, where: str) -> bytes:
    """Decode base64 of the standard or the URL-safe alphabet, with or without padding.

    Raises:
        InvalidRequest: ``text`` is no base64; ``where`` names the field.
    """
    plain = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{where}: expected base64, found: {error}") from None


def data_url(media_type: str, data: bytes) -> str:
    """Return the ``data:`` address that holds ``data``."""
    return f"data:{media_type};base64,{to_base64(data)}"


def parse_data_url(url: str, where: str) -> tuple[str, bytes] | None:
    """Return media type and bytes of a ``data:`` address, ``None`` if ``url`` is another kind of address.

    Raises:
        InvalidRequest: it begins as a ``data:`` address and is none in base64.
    """
    if not url.startswith("data:"):
        return None
    head = _DATA_URL.match(url[:512])
    if head is None or head[2] is None:
        raise InvalidRequest(f"{where}: expected data:TYPE;base64,…, found {url[:40]!r}")
    data = from_base64(url[head.end() :], where)
    return head[1] or media_type_of(data), data


def media_type_of(data: bytes, default: str = "image/png") -> str:
    """Return the media type that ``data`` begins like; ``default`` if it is not known."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], default)
    return next((name for start, name in _SIGNATURES if data.startswith(start)), default)
