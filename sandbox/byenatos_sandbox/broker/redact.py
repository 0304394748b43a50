"""Takes keys out of what comes back: vendors echo them in errors, and a mirror of the request is one path away.

A key is looked for as it is, in base64 (at each of the three alignments), percent-encoded and JSON-escaped. A find is
replaced by as many asterisks, so that lengths that were announced stay true. A stream is cut anywhere: what could be
the beginning of a key is held back until more comes, and nothing else is, so that no event of a stream is delayed.

This guards against echoes. A vendor who works with the driver can hand its own key over in any code it likes.
"""

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable

__all__ = ["Redactor", "spellings"]

SHORTEST = 8
"""Keys shorter than this are not looked for: they would be found everywhere."""


def spellings(key: bytes) -> set[bytes]:
    """How a key may be written in an answer."""
    found = {key}
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + key)
        first = (0, 2, 3)[shift]
        whole = (shift + len(key)) // 3 * 4
        core = coded[first:whole]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    text = key.decode("ascii", "replace")
    for quoted in (
        urllib.parse.quote(text, safe=""),
        urllib.parse.quote(text, safe="/"),
        urllib.parse.quote_plus(text),
    ):
        found |= {quoted.encode(), re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted).encode()}
    escaped = json.dumps(text)[1:-1]
    found |= {escaped.encode(), escaped.replace("/", "\\/").encode()}
    unicode_escaped = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "=": "\\u003d", "+": "\\u002b", "'": "\\u0027"}
    for upper in (False, True):
        table = {one: code[:2] + (code[2:].upper() if upper else code[2:]) for one, code in unicode_escaped.items()}
        found.add("".join(table.get(one, one) for one in escaped).encode())
    return {one for one in found if len(one) >= SHORTEST}


class Redactor:
    """What to look for; one for all answers while the keys stay the same. :class:`Redaction` is one stream."""

    __slots__ = ("beginnings", "first", "longest", "pattern")

    def __init__(self, keys: Iterable[bytes]) -> None:
        wanted = sorted({one for key in keys if len(key) >= SHORTEST for one in spellings(key)}, key=len, reverse=True)
        self.pattern = re.compile(b"|".join(map(re.escape, wanted))) if wanted else None
        self.longest = len(wanted[0]) if wanted else 0
        self.beginnings = frozenset(one[:end] for one in wanted for end in range(1, len(one)))
        self.first = re.compile(b"[" + re.escape(bytes(sorted({one[0] for one in wanted}))) + b"]") if wanted else None

    def whole(self, data: bytes) -> bytes:
        """Take the keys out of something that is not cut."""
        if self.pattern is None:
            return data
        return self.pattern.sub(_asterisks, data)

    def stream(self) -> "Redaction":
        """Begin with a stream."""
        return Redaction(self)


class Redaction:
    """One stream, cut anywhere."""

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return what can be passed on."""
        redactor = self._redactor
        if redactor.pattern is None or redactor.first is None:
            return data
        if self._held:
            data = self._held + data
        data = redactor.pattern.sub(_asterisks, data)
        for start in redactor.first.finditer(data, max(0, len(data) - redactor.longest + 1)):
            if data[start.start() :] in redactor.beginnings:
                self._held = data[start.start() :]
                return data[: start.start()]
        self._held = b""
        return data

    def end(self) -> bytes:
        """Return what was held back: the stream is over, and it did not become a key."""
        held, self._held = self._held, b""
        return held


def _asterisks(match: re.Match[bytes]) -> bytes:
    return b"*" * len(match[0])
