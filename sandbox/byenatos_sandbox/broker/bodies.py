"""The bodies of HTTP/1.1 messages: taken out of what a connection brings, and put into what goes out.

A body is as long as was announced, comes in chunks, or (an answer's only) lasts until the connection ends. Strictly: a
line ends with CR LF, a chunk with its own, and what is neither is an error and not guessed at. Extensions of chunks and
trailers are read within bounds and dropped.

Source: RFC 9112, sections 6 and 7.
"""

import re
from typing import Final

__all__ = ["CHUNKED", "UNTIL_CLOSED", "Incoming", "MalformedBodyError", "Outgoing"]

CHUNKED: Final = -1
UNTIL_CLOSED: Final = -2
"""What stands in place of a length."""
LONGEST_LINE = 4 << 10
MOST_TRAILERS = 16 << 10

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class MalformedBodyError(ValueError):
    """A body is not as it was announced, or its chunks are none."""


class Incoming:
    """One body on its way in. ``over`` once its end has come; ``rest`` is then what came behind it."""

    __slots__ = ("_at_trailers", "_chunked", "_held", "_in_chunk", "_left", "_trailers", "over", "rest", "until_closed")

    def __init__(self, length: int) -> None:
        self.until_closed = length == UNTIL_CLOSED
        self.over = length == 0
        self.rest = b""
        self._chunked = length == CHUNKED
        self._in_chunk = self._at_trailers = False
        self._trailers = 0
        self._left = max(length, 0)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what of it is content. Not to be called once it is over.

        Raises:
            MalformedBodyError: the chunks are malformed.
        """
        if self.until_closed:
            return data
        if self._chunked:
            return self._chunks(data)
        content = data[: self._left]
        self._left -= len(content)
        if self._left == 0:
            self.over = True
            self.rest = data[len(content) :]
        return content

    def end(self) -> None:
        """The connection has ended.

        Raises:
            MalformedBodyError: the body has not.
        """
        if not self.until_closed:
            raise MalformedBodyError("the connection ended before the body did")
        self.over = True

    # ---- private -----------------------------------------------------------------------------------------------

    def _chunks(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b""
        pieces = []
        at = 0
        while True:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            end = data.find(b"\r\n", at, at + LONGEST_LINE)
            if end < 0:
                self._hold(data[at:])
                break
            line, at = data[at:end], end + 2
            if self._line(line):
                self.over = True
                self.rest = data[at:]
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of a line."""
        if len(data) >= LONGEST_LINE or (self._in_chunk and data not in {b"", b"\r"}):
            raise MalformedBodyError("a line between chunks has no end")
        self._held = data

    def _line(self, line: bytes) -> bool:
        """Take a line between chunks; whether it is the last."""
        if self._in_chunk:
            if line:
                raise MalformedBodyError("a chunk is longer than it said")
            self._in_chunk = False
        elif not self._at_trailers:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise MalformedBodyError("expected the size of a chunk")
            self._left = int(found[1], 16)
            self._in_chunk = self._left > 0
            self._at_trailers = not self._in_chunk
        elif not line:
            return True
        else:
            self._trailers += len(line) + 2
            if self._trailers > MOST_TRAILERS or not _TRAILER.fullmatch(line):
                raise MalformedBodyError("the trailers are malformed or too long")
        return False


class Outgoing:
    """One body on its way out."""

    __slots__ = ("_left", "over")

    def __init__(self, length: int) -> None:
        self._left = length
        self.over = False

    def data(self, data: bytes) -> bytes:
        """Return what to write for a piece of content.

        Raises:
            MalformedBodyError: it is more than was announced.
        """
        if self._left == CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self.over or len(data) > self._left:
            raise MalformedBodyError("the body is longer than was announced")
        self._left -= len(data)
        return data

    def end(self) -> bytes:
        """Return what to write at the end.

        Raises:
            MalformedBodyError: it is less than was announced.
        """
        if self._left > 0:
            raise MalformedBodyError("the body is shorter than was announced")
        self.over = True
        return b"0\r\n\r\n" if self._left == CHUNKED else b""
