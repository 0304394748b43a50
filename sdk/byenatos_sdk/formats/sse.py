"""Server-sent events, read from bytes that are cut anywhere, and written.

As the standard says (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream), lines
end in CR, LF or CRLF, and in nothing else (not in U+2028, as text libraries think); a blank line ends an event; several
``data`` lines are joined by line feeds; a blank after the colon is optional; a line that begins with one is a comment.
Unlike the standard, an event that the end of the stream cuts off is returned by :meth:`EventReader.end`: servers that
leave out the last blank line are common, and the format above decides whether what came is whole.
"""

from typing import NamedTuple

from byenatos_sdk.protocol.errors import UpstreamFailed

__all__ = ["MAX_EVENT", "Event", "EventReader", "event"]

MAX_EVENT = 32 << 20
"""Bytes of the largest event that is read."""

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event. ``name`` is empty where the stream gave none; ``comments`` are those that stood before its end."""

    data: bytes
    name: str = ""
    comments: tuple[bytes, ...] = ()


class EventReader:
    """Turns bytes into events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._started = False
        self._after_cr = False
        self._data: list[bytes] = []
        self._name = ""
        self._comments: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events that are complete now.

        Raises:
            UpstreamFailed: an event is larger than ``MAX_EVENT``.
        """
        if not self._started or self._after_cr or self._size or b"\r" in data:
            return self._feed_lines(data)
        # Nearly all streams have line feeds only, and most events are a line of data, perhaps with a name before it:
        # they are cut at blank lines. What was searched before is not searched again.
        events: list[Event] = []
        if self._rest:
            searched = len(self._rest) - 1
            self._rest += data
            end = self._rest.rfind(b"\n\n", searched)
            whole = bytes(self._rest[:end]) if end >= 0 else b""
            del self._rest[: end + 2 if end >= 0 else 0]
        else:
            end = data.rfind(b"\n\n")
            whole = data[:end] if end >= 0 else b""
            self._rest += data[end + 2 if end >= 0 else 0 :]
        for block in whole.split(b"\n\n") if whole else ():
            name, _, data = block.partition(b"\n")
            if not data and name.startswith(b"data: "):
                events.append(Event(name[6:]))
            elif name.startswith(b"event: ") and data.startswith(b"data: ") and b"\n" not in data:
                events.append(Event(data[6:], name[7:].decode("utf-8", "replace")))
            else:
                for line in (*block.split(b"\n"), b""):
                    self._line(line, events)
        self._check()
        return events

    def _check(self) -> None:
        if self._size + len(self._rest) > MAX_EVENT:
            raise UpstreamFailed(f"stream: expected events of at most {MAX_EVENT} bytes, found a larger one")

    def _feed_lines(self, data: bytes) -> list[Event]:
        """Take bytes that may end lines in any way, line by line."""
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 0x0A:
                data = data[1:]
        self._rest += data
        if not self._started:
            if len(self._rest) < 3 and _BOM.startswith(bytes(self._rest)):
                return []
            self._started = True
            if self._rest.startswith(_BOM):
                del self._rest[:3]
        events: list[Event] = []
        end = 0
        # Only when a line has ended: a large one in small pieces is not searched again and again. bytes.splitlines
        # splits at CR, LF and CRLF only; the last piece may be unfinished.
        lines = self._rest.splitlines(keepends=True) if b"\n" in data or b"\r" in data else []
        for line in lines:
            if line[-1] == 0x0A:
                text = line[:-2] if line[-2:-1] == b"\r" else line[:-1]
            elif line[-1] == 0x0D:
                text = line[:-1]
            else:
                break
            end += len(line)
            self._line(bytes(text), events)
        if end and end == len(self._rest) and self._rest[-1] == 0x0D:
            self._after_cr = True
        del self._rest[:end]
        self._check()
        return events

    def end(self) -> list[Event]:
        """Hear that no more bytes come; return the event that the end cut off, if any."""
        events: list[Event] = []
        for line in bytes(self._rest).splitlines():
            self._line(line, events)
        self._rest.clear()
        self._line(b"", events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(b"\n".join(self._data), self._name, tuple(self._comments)))
            self._data.clear()
            self._comments.clear()
            self._name = ""
            self._size = 0
            return
        self._size += len(line)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"error":  # no field of the standard: how older servers of llama.cpp say that an answer failed
            self._name = "error"
            self._data.append(value)
        elif not field:
            self._comments.append(value)


def event(data: bytes, name: str = "") -> bytes:
    """Write one event; ``data`` holds no line breaks (JSON never does)."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n" if name else b"data: " + data + b"\n\n"
