"""Large pictures, sounds and documents in a request, put into base64 only as it is sent.

While a request is written within ``held_back``, a short mark stands in it for each of them; the body that is made of it
afterwards turns every mark into what it stands for, piece by piece. So a request takes the memory of what is in it, and
not that of its base64 and its JSON besides.
"""

import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from secrets import token_hex

__all__ = ["LARGE", "PIECE", "HeldBack", "Upload", "held_back", "mark_of"]

LARGE = 64 << 10
"""Bytes from which on data is held back."""
PIECE = 256 << 10
"""Bytes of a body that are handed out at once."""
_PLAIN = PIECE // 4 * 3
"""Bytes whose base64 is a piece."""


class Upload:
    """A body to be sent in pieces. ``parts`` are texts and, behind each, what is not yet in base64, if anything is.

    ``len`` is what it comes to.
    """

    def __init__(self, parts: list[tuple[bytes, bytes | None]]) -> None:
        self._parts = parts
        self._size = sum(len(text) + (0 if data is None else (len(data) + 2) // 3 * 4) for text, data in parts)

    def __len__(self) -> int:
        return self._size

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the body."""
        for text, data in self._parts:
            yield from _cut(text, PIECE)
            for piece in _cut(data or b"", _PLAIN):
                yield binascii.b2a_base64(piece, newline=False)


def _cut(data: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + size] for at in range(0, len(view), size))


class HeldBack:
    """What is held back of one request."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[bytes] = []

    def mark(self, data: bytes) -> str:
        """Hold ``data`` back and return the text that stands for its base64."""
        if not self._data:
            self._name = f"byenatos-held-{token_hex(16)}-"  # nobody can write one of these into a conversation
        self._data.append(data)
        return f"{self._name}{len(self._data) - 1:08d}"

    def body(self, written: bytes) -> bytes | Upload:
        """Return the body for ``written``, a request with marks in it; itself if there are none."""
        if not self._data:
            return written
        texts = re.split(re.escape(self._name.encode()) + rb"(\d{8})", written)
        parts = [(text, self._data[int(number)]) for text, number in zip(texts[:-1:2], texts[1::2], strict=True)]
        return Upload([*parts, (texts[-1], None)])


_now: ContextVar[HeldBack | None] = ContextVar("held_back", default=None)


@contextmanager
def held_back() -> Iterator[HeldBack]:
    """Hold large data of the request back that is written meanwhile."""
    held = HeldBack()
    before = _now.set(held)
    try:
        yield held
    finally:
        _now.reset(before)


def mark_of(data: bytes) -> str | None:
    """Return what stands for the base64 of ``data``; ``None`` if it is small, or nothing is held back."""
    held = _now.get()
    return None if held is None or len(data) < LARGE else held.mark(data)
