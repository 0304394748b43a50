"""One JSON object per line, read from bytes that are cut anywhere. Lines end in LF; blank ones mean nothing.

Some clients split lines at everything that Unicode calls a line's end: :func:`in_lines` escapes those.
"""

from byenatos_sdk.protocol.errors import UpstreamFailed

__all__ = ["MAX_LINE", "LineReader", "in_lines"]

MAX_LINE = 32 << 20
"""Bytes of the longest line that is read."""


class LineReader:
    """Turns bytes into lines that are not blank, without their ends."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the lines that are complete now.

        Raises:
            UpstreamFailed: a line is longer than ``MAX_LINE``.
        """
        first, newline, more = data.partition(b"\n")
        self._rest += first
        if len(self._rest) > MAX_LINE:
            raise UpstreamFailed(f"stream: expected lines of at most {MAX_LINE} bytes, found a longer one")
        if not newline:
            return []
        lines = [bytes(self._rest), *more.split(b"\n")]
        self._rest = bytearray(lines.pop())
        return [line for line in (line.strip() for line in lines) if line]

    def end(self) -> list[bytes]:
        """Hear that no more bytes come; return the line that the end cut off, if any."""
        line = bytes(self._rest).strip()
        self._rest.clear()
        return [line] if line else []


def in_lines(data: bytes) -> bytes:
    """Escape U+2028, U+2029 and U+0085 in what is written of JSON (inside strings, where alone they may stand)."""
    if data.isascii():
        return data
    if 0xE2 in data:  # a number is looked for ten times faster than bytes
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return data.replace(b"\xc2\x85", b"\\u0085") if 0xC2 in data else data
