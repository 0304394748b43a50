"""One JSON array, element by element, read from bytes that are cut anywhere.

Only brackets and strings are looked at: whether an element is JSON is for its reader to say. What stands between
elements does not matter, and a lone object counts as an array of one.
"""

import re

from byenatos_sdk.protocol.errors import UpstreamFailed

__all__ = ["MAX_ELEMENT", "ArrayReader"]

MAX_ELEMENT = 32 << 20
"""Bytes of the largest element that is read."""

_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')


class ArrayReader:
    """Turns bytes into the objects of an array."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of the element that is being read
        self._at = 0  # how much of it was looked at
        self._depth = 0  # of brackets within it; 0: between elements
        self._text = False  # whether a string is open
        self.closed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the elements that are complete now.

        Raises:
            UpstreamFailed: an element is larger than ``MAX_ELEMENT``.
        """
        self._rest += data
        found: list[bytes] = []
        while (match := (_INSIDE if self._text else _OUTSIDE).search(self._rest, self._at)) is not None:
            at, mark = match.start(), match.group()
            self._at = at + 1
            if self._text:
                if mark == b"\\" and at + 1 == len(self._rest):
                    self._at = at  # what it escapes is not here yet
                    break
                self._at += mark == b"\\"
                self._text = mark != b'"'
            elif mark == b'"':
                self._text = self._depth > 0
            elif mark in b"{[":
                self._open(at, mark)
            elif self._depth == 0:
                self.closed = self.closed or mark == b"]"
            else:
                self._depth -= 1
                if self._depth == 0:
                    found.append(bytes(self._rest[: at + 1]))
                    del self._rest[: at + 1]
                    self._at = 0
        else:
            self._at = len(self._rest)
        if self._depth == 0:
            self._rest.clear()
            self._at = 0
        if len(self._rest) > MAX_ELEMENT:
            raise UpstreamFailed(f"stream: expected elements of at most {MAX_ELEMENT} bytes, found a larger one")
        return found

    def _open(self, at: int, mark: bytes) -> None:
        if self._depth == 0:
            if mark == b"[":
                return  # the array itself
            del self._rest[:at]
            self._at = 1
        self._depth += 1

    def end(self) -> list[bytes]:
        """Hear that no more bytes come; return the element that the end cut off, if any."""
        cut = bytes(self._rest)
        self._rest.clear()
        return [cut] if cut else []
