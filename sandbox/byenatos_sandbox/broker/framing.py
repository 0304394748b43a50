"""The head of a request, looked at before any parser is: what two parsers could read differently is refused.

h11 is lenient where the standard lets it be: it takes a bare LF for a line's end, joins folded lines, merges equal
Content-Length headers and prefers Transfer-Encoding to them. Each of these is how a request is smuggled past a check.
"""

import re
from typing import Final

from byenatos_sandbox.broker.refusal import Refused

__all__ = ["MAX_HEAD", "HeadReader", "check_head"]

MAX_HEAD = 64 << 10
MOST_HEADERS = 100

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_UPGRADE: Final = re.compile(rb"\r\n(?:upgrade|http2-settings)[ \t]*:", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_DIGITS: Final = re.compile(rb"\r\ncontent-length:[ \t]*[0-9]{1,15}[ \t]*\r\n", re.IGNORECASE)
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} [!-~]+ HTTP/1\.1")


def _counter(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n" + name + rb"[ \t]*:", re.IGNORECASE)


_HOST, _LENGTH, _ENCODING = _counter(b"host"), _counter(b"content-length"), _counter(b"transfer-encoding")


def check_head(head: bytes) -> None:
    """Look at a whole head, with the empty line that ends it.

    Raises:
        Refused: it is one that could be read in two ways.
    """
    if b"\0" in head or _BARE_LF.search(head) or _BARE_CR.search(head):
        raise Refused(400, "the head has a NUL, or a CR or LF that is not part of a line's end")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise Refused(400, "the head has a folded line")
    lines = head.count(b"\r\n") - 2
    if lines > MOST_HEADERS:
        raise Refused(431, f"the head has more than {MOST_HEADERS} headers")
    if not _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0]):
        raise Refused(400, "the request line is not `METHOD target HTTP/1.1`")
    if len(_HOST.findall(head)) != 1:
        raise Refused(400, "expected exactly one Host header")
    lengths, encodings = len(_LENGTH.findall(head)), len(_ENCODING.findall(head))
    if lengths + encodings > 1:
        raise Refused(400, "expected at most one of Content-Length and Transfer-Encoding, once")
    if lengths and not _DIGITS.search(head):
        raise Refused(400, "expected Content-Length to be one number")
    if encodings and not _CHUNKED.search(head):
        raise Refused(400, "expected no Transfer-Encoding but chunked")
    if _UPGRADE.search(head):
        raise Refused(403, "no other protocol is spoken here: Upgrade is refused")


class HeadReader:
    """Collects bytes until a head is whole; what is wrong with it is seen as early as it can be."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def begun(self) -> bool:
        """Whether anything of a head is there."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; return the checked head, with whatever follows it, once it is whole.

        Raises:
            Refused: it is too long or malformed.
        """
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise Refused(431, f"the head is longer than {MAX_HEAD} bytes")
            if _BARE_LF.search(self._buffer):
                raise Refused(400, "the head has an LF that is not part of a line's end")
            return None
        if end > MAX_HEAD:
            raise Refused(431, f"the head is longer than {MAX_HEAD} bytes")
        check_head(self._buffer[: end + 4])
        whole, self._buffer = self._buffer, b""
        return whole
