"""From the bytes of one connection to whole requests: httptools parses, this keeps it within the limits. No I/O.

What must stay true:

- No bytes, cut anywhere, make ``feed`` raise; what is no HTTP, or too much of it, becomes ``refused``, and from then on
  nothing is read. Requests that came whole before it are still there to be answered.
- What is held is bounded: head and body by the limits, also a body that only grows when it is unpacked, and one that
  costs many bytes on the wire and comes to none.
- Nothing of a body is taken for a head: llhttp is strict (no bare line feed, no folded header, no second length, no
  length beside ``chunked``), its leniencies stay off, trailers are thrown away, and no coding but ``chunked`` passes.

``Upgrade`` is ignored, as RFC 9110 allows and as Java's client, which offers h2c with each first request, needs it. The
parser would hand over all that follows such a head; so another one begins with the same head without the offer.
"""

import zlib
from collections import deque
from enum import Enum

import httptools

from http_front.exchange import Request, Response
from http_front.limits import Limits

__all__ = ["Phase", "Reader"]

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_VERSIONS = frozenset({"1.1", "1.0"})
_PLAIN = frozenset({"identity", ""})
_ONCE = frozenset({"host", "content-length", "content-type", "content-encoding", "authorization", "origin"})
"""Headers of which two would let two readers understand two things."""

_SCHEMES = frozenset({"http", "https"})
_OF_UPGRADE = frozenset({"upgrade", "http2-settings"})


class Phase(Enum):
    """What the client is at."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"


class Reader:
    """Reads one connection. ``requests`` are whole and wait; whoever answers them takes them out."""

    def __init__(self, limits: Limits) -> None:
        self.requests: deque[Request] = deque()
        self.refused: Response | None = None
        self.phase = Phase.IDLE
        self.begun = 0
        """How many requests have begun."""
        self.body_received = 0
        """Bytes of the body that comes now, as they were on the wire."""
        self.awaits_continue = False
        """The client sends its body only when it is told to."""
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._version = "1.1"
        self._body = bytearray()
        self._inflate: zlib._Decompress | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are held: of the requests that wait, and of the one that comes."""
        held = len(self._body)
        for request in self.requests:
            held += len(request.body)
        return held

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        pieces: list[bytes | memoryview] = [data]
        while pieces and self.refused is None:
            piece = pieces.pop()
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                pieces += [memoryview(piece)[upgrade.args[0] :], self._without_upgrade()]
            except httptools.HttpParserError as error:
                self.refuse(Response(f"not HTTP/1.1: {error}\n".encode(), 400, "text/plain"))

    def refuse(self, response: Response) -> None:
        """Read no more; ``response`` is what is answered, after what was asked before."""
        if self.refused is None:
            self.refused = response
            self._body = bytearray()

    # ---- httptools ---------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self.begun += 1
        self.phase = Phase.HEAD
        self._target = b""
        self._headers = {}
        self._head_bytes = 0
        self._version = "1.1"
        self._inflate = None
        self.body_received = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.head_bytes:
            self._refuse_head()
        elif self.refused is None:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of one that is there twice the values are joined, except where that would hide a trick."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._limits.head_bytes:
            self._refuse_head()
        if self.refused is not None or self.phase is Phase.BODY:
            return
        headers = self._headers
        key = name.decode("latin-1").lower()
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
        if key in headers:
            if key in _ONCE:
                self.refuse(Response(f"expected one header {key}, found two\n".encode(), 400, "text/plain"))
                return
            text = f"{headers[key]}, {text}"
        elif len(headers) >= self._limits.head_count:
            self.refuse(Response(b"too many headers\n", 431, "text/plain"))
            return
        headers[key] = text

    def on_headers_complete(self) -> None:
        """The head is whole: the body may come, if it is one that is taken."""
        if self._parser.should_upgrade() or self.refused is not None:
            return
        headers = self._headers
        self.phase = Phase.BODY
        version = self._version = self._parser.get_http_version()
        if version not in _VERSIONS:
            self.refuse(Response(b"expected HTTP/1.1\n", 505, "text/plain"))
            return
        coding = headers.get("transfer-encoding")
        if coding is not None and (coding.strip().lower() != "chunked" or version == "1.0"):
            self.refuse(Response(b"expected no transfer coding but chunked, and HTTP/1.1\n", 501, "text/plain"))
            return
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
        elif encoding not in _PLAIN:
            self.refuse(Response(b"expected a body that is plain, gzip or deflate\n", 415, "text/plain"))
            return
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
            self._refuse_body()
            return
        if "expect" in headers:
            self.awaits_continue = version == "1.1" and headers["expect"].lower() == "100-continue"

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.refused is not None:
            return
        self.awaits_continue = False
        self.body_received += len(data)
        limit = self._limits.body_bytes
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, limit - len(self._body) + 1)
            except zlib.error:
                self._refuse_packed()
                return
            if self._inflate.unused_data:
                self._refuse_packed()
                return
        if self.body_received > limit or len(self._body) + len(data) > limit:
            self._refuse_body()
            return
        self._body += data

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._parser.should_upgrade() or self.refused is not None:
            return
        self.awaits_continue = False
        if self._inflate is not None and self.body_received and not self._inflate.eof:
            self._refuse_packed()
            return
        self.phase = Phase.IDLE
        target = self._target.decode("latin-1")
        request = Request(
            self._parser.get_method().decode("latin-1"),
            target if target.startswith("/") else self._of_address(target),
            self._headers,
            bytes(self._body),
            keep_alive=self._parser.should_keep_alive(),
            version=self._version,
        )
        self._body = bytearray()
        self.requests.append(request)

    # ---- private -----------------------------------------------------------------------------------------------

    def _of_address(self, target: str) -> str:
        """Return the path of a whole address, whose host counts instead of the header (RFC 9112, 3.2.2)."""
        scheme, found, rest = target.partition("://")
        if not found or scheme.lower() not in _SCHEMES:
            return target
        self._headers["host"], slash, path = rest.partition("/")
        return f"/{path}" if slash else "/"

    def _without_upgrade(self) -> bytes:
        """Begin with another parser, and return the head that it is to read."""
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        if method == b"CONNECT":
            self.refuse(Response(b"no tunnels are made here\n", 405, "text/plain"))
        headers = {name: value for name, value in self._headers.items() if name != "upgrade"}
        options = [option.strip() for option in headers.pop("connection", "").split(",")]
        kept = ", ".join(option for option in options if option and option.lower() not in _OF_UPGRADE)
        if kept:
            headers["connection"] = kept
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        self._parser = httptools.HttpRequestParser(self)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version, lines.encode())

    def _refuse_head(self) -> None:
        self.refuse(Response(b"the head of the request is too large\n", 431, "text/plain"))

    def _refuse_body(self) -> None:
        limit = self._limits.body_bytes
        self.refuse(Response(f"expected a body of at most {limit} bytes\n".encode(), 413, "text/plain"))

    def _refuse_packed(self) -> None:
        self.refuse(Response(b"the body is not compressed as its header says\n", 400, "text/plain"))
