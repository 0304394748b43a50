"""One JSON object per line, read from bytes that are cut anywhere. Lines end in LF; blank ones mean nothing."""

from byenatos_sdk.protocol.errors import UpstreamFailed

__all__ = ["MAX_LINE", "LineReader"]

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
