"""The heads of HTTP/1.1 messages: what two parsers could read differently is refused, and what is left is simple.

Parsers are lenient where the standard lets them be: they take a bare LF for a line's end, join folded lines, merge
equal Content-Length headers and prefer Transfer-Encoding to them. Each of these is how a request is smuggled past a
check. A head that goes out is checked as one that comes in: nothing that is put into it can end its line.

Source: RFC 9112, sections 2 to 6.
"""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from byenatos_sandbox.broker.bodies import CHUNKED, UNTIL_CLOSED
from byenatos_sandbox.broker.keys import Header
from byenatos_sandbox.broker.refusal import Refused

__all__ = [
    "MAX_HEAD",
    "Answer",
    "HeadReader",
    "Request",
    "check_head",
    "has_no_body",
    "parse_answer",
    "parse_request",
    "write_head",
]

MAX_HEAD = 64 << 10
MOST_HEADERS = 100

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_UPGRADE: Final = re.compile(rb"\r\n(?:upgrade|http2-settings)[ \t]*:", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_DIGITS: Final = re.compile(rb"\r\ncontent-length:[ \t]*[0-9]{1,15}[ \t]*\r\n", re.IGNORECASE)
_REQUEST_LINE: Final = re.compile(rb"[A-Z]{1,20} [!-~]+ HTTP/1\.1")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_FIELDS: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*")
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")


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


class Request(Struct, frozen=True):
    """The head of a driver's request. Names are in lower case; ``length`` is that of its body, or ``CHUNKED``."""

    method: bytes
    target: bytes
    headers: list[Header]
    length: int


class Answer(Struct, frozen=True):
    """The head of a vendor's answer; ``lasting`` if the connection outlives it."""

    status: int
    headers: list[Header]
    length: int
    lasting: bool


def parse_request(head: bytes) -> Request:
    """Read a whole head, which :func:`check_head` has let pass.

    Raises:
        Refused: a header is none.
    """
    line, _, block = head[:-2].partition(b"\r\n")
    headers = _parse_fields(block)
    if headers is None:
        raise Refused(400, "the request is no HTTP/1.1")
    method, target, _ = line.split(b" ")
    lengths = [value for name, value in headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    return Request(method, target, headers, CHUNKED if chunked else int(lengths[0]) if lengths else 0)


def parse_answer(head: bytes, method: bytes) -> Answer | None:
    """Read the whole head of the answer to a request; nothing if it is malformed or has two lengths."""
    line, _, block = head[:-2].partition(b"\r\n")
    found = _STATUS_LINE.fullmatch(line)
    headers = _parse_fields(block)
    if found is None or headers is None or len(headers) > MOST_HEADERS:
        return None
    status, lasting = int(found[2]), found[1] == b"1"
    lengths, encodings = set(), []
    for name, value in headers:
        if name == b"content-length":
            lengths.add(value)
        elif name == b"transfer-encoding":
            encodings.append(value.lower())
        elif name == b"connection" and b"close" in value.lower():
            lasting = False
    if len(lengths) + len(encodings) > 1 or (encodings and (encodings != [b"chunked"] or found[1] == b"0")):
        return None
    if any(not _NUMBER.fullmatch(one) for one in lengths):
        return None
    length = CHUNKED if encodings else int(lengths.pop()) if lengths else UNTIL_CLOSED
    if has_no_body(method, status):
        length = 0
    return Answer(status, headers, length, lasting)


def has_no_body(method: bytes, status: int) -> bool:
    """Whether an answer has no body, whatever its headers say."""
    return method == b"HEAD" or status < 200 or status in {204, 304}


def write_head(first: bytes, headers: Sequence[Header]) -> bytes | None:
    """Write a head; nothing if a header cannot be part of one."""
    block = b"".join([b"%b: %b\r\n" % header for header in headers])
    if block.count(b"\r\n") != len(headers) or not _FIELDS.fullmatch(block):
        return None
    if any(b":" in name for name, _ in headers):  # whose line would be another header's
        return None
    return b"%b\r\n%b\r\n" % (first, block)


def _parse_fields(block: bytes) -> list[Header] | None:
    """Read the lines of headers, each with its end; nothing if one is none."""
    if not _FIELDS.fullmatch(block):
        return None
    parted = [line.partition(b":") for line in block.split(b"\r\n")[:-1]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in parted]
