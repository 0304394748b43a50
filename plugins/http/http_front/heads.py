"""The head of an answer, as bytes."""

import email.utils
import time
from collections.abc import Mapping
from http import HTTPStatus

__all__ = ["Heads"]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nserver: byenatos\r\n".encode() for status in HTTPStatus
}


class Heads:
    """Writes heads; today's date is made once a second."""

    def __init__(self) -> None:
        self._date = b""
        self._date_at = -1

    def head(self, status: int, content_type: str, headers: Mapping[str, str], framing: bytes) -> bytes:
        """Return a whole head; ``framing`` are the lines that say how long the body is and whether all ends with it."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = f"date: {email.utils.formatdate(now, usegmt=True)}\r\n".encode()
        start = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\nserver: byenatos\r\n".encode()
        more = "".join([f"{name}: {_one_line(value)}\r\n" for name, value in headers.items()])
        return b"%b%bcontent-type: %b\r\n%b%b\r\n" % (start, self._date, content_type.encode(), more.encode(), framing)


def _one_line(value: str) -> str:
    """Keep a header's value from being two."""
    return value.replace("\r", " ").replace("\n", " ")
