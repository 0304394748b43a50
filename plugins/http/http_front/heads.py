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
    """Writes heads; what heads of one kind begin with is made once a second, for it says the time."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, str], bytes] = {}
        self._date_at = -1

    def head(self, status: int, content_type: str, headers: Mapping[str, str], framing: bytes, id: str = "") -> bytes:
        """Return a whole head; ``framing`` are the lines that say how long the body is and whether all ends with it.

        ``id`` is the request's, if it has one: said in the two headers in which vendors' clients look for it.
        """
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._starts.clear()
        start = self._starts.get((status, content_type)) or self._start(status, content_type)
        if id:
            framing += f"x-request-id: {id}\r\nrequest-id: {id}\r\n".encode()
        if not headers:
            return b"%b%b\r\n" % (start, framing)
        more = "".join([f"{name}: {_one_line(value)}\r\n" for name, value in headers.items()])
        return b"%b%b%b\r\n" % (start, more.encode(), framing)

    def _start(self, status: int, content_type: str) -> bytes:
        line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\nserver: byenatos\r\n".encode()
        date = email.utils.formatdate(self._date_at, usegmt=True)
        start = self._starts[status, content_type] = line + f"date: {date}\r\ncontent-type: {content_type}\r\n".encode()
        return start


def _one_line(value: str) -> str:
    """Keep a header's value from being two."""
    return value.replace("\r", " ").replace("\n", " ")
