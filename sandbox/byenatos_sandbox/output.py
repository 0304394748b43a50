"""The last lines that a driver printed, kept in bounded memory and shown so that they can do no harm.

A driver's output is foreign: it may be a flood, one endless line, terminal commands, or a key that a library logged.
What is kept is bytes, at most :data:`KEPT_BYTES` a line; only what is asked for is decoded, made printable and
redacted, so that a flood costs the reader a search for newlines and nothing else.

Redaction guards against accidents (a library that logs its headers), not against a driver that hides a key on purpose:
against that stands that no sandbox holds a key.
"""

import re
from collections import deque

__all__ = ["KEPT_BYTES", "LONGEST_LINE", "OutputStream", "OutputTail", "printable"]

LONGEST_LINE = 500
"""Characters of a shown line."""

KEPT_BYTES = 4096
"""Bytes kept of one line: more than is shown, so that a key across the cut is still seen as one."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_HIDDEN = "[redacted]"
# Nothing in it may look at the rest of a line from more than a few places in it: a driver chooses the line.
_SECRET = re.compile(
    r"""
    (?P<label>
        (?i:\bBearer\s+) (?=[\w.~+/=-]{8})
      | (?i:\bAuthorization["']?\s*[:=]\s*["']? (?:(?:Basic|Bearer|Token)\s+)?)
      | (?i:(?:api[_-]?key|access[_-]?key|passw(?:or)?d|secret)["']?\s*[:=]\s*["']?)
      | (?i:(?:key|token)\W{1,4}) (?=[\w+/=-]{20}) (?=[^\s0-9]{0,200}[0-9])
      | ://[^\s/:@]*: (?=[^\s/@]+@)
    )
    [^\s"',;@]+
    | \b(?:sk|pk|rk)-[\w-]{8,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{8,}
    | \b(?:gh[opsur]_|github_pat_|hf_)\w{20,}
    | \b(?:AIza|xox[abprs]-)[\w-]{8,}
    | (?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?
    """,
    re.VERBOSE,
)


class OutputTail:
    """The last ``lines`` lines of several streams, in the order in which they were read."""

    __slots__ = ("_lines", "_streams")

    def __init__(self, lines: int) -> None:
        self._lines: deque[bytes] = deque(maxlen=lines)
        self._streams: list[OutputStream] = []

    def stream(self) -> "OutputStream":
        """Add a stream; each cuts its own lines."""
        stream = OutputStream(self._lines)
        self._streams.append(stream)
        return stream

    def show(self) -> tuple[str, ...]:
        """Return the last lines, lines that have not ended yet last, printable and redacted."""
        unfinished = [line for stream in self._streams if (line := stream.unfinished)]
        assert self._lines.maxlen is not None
        return tuple(printable(line) for line in [*self._lines, *unfinished][-self._lines.maxlen :])


class OutputStream:
    """Cuts one stream into lines."""

    __slots__ = ("_lines", "_partial")

    def __init__(self, lines: deque[bytes]) -> None:
        self._lines = lines
        self._partial = bytearray()

    @property
    def unfinished(self) -> bytes:
        """The line that has not ended yet, as much of it as is kept."""
        return bytes(self._partial)

    def feed(self, data: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        assert self._lines.maxlen is not None
        first, *rest = data.rsplit(b"\n", self._lines.maxlen)
        if not rest:
            self._extend(first)
            return
        if b"\n" in first:  # more lines than are kept: all but the last of these are out already
            self._partial.clear()
            first = first[first.rindex(b"\n") + 1 :]
        self._extend(first)
        self._lines.append(bytes(self._partial))
        self._lines.extend(line[:KEPT_BYTES] for line in rest[:-1])
        self._partial.clear()
        self._extend(rest[-1])

    def _extend(self, data: bytes) -> None:
        self._partial += data[: KEPT_BYTES - len(self._partial)]


def printable(line: bytes) -> str:
    """Decode one line, drop terminal commands, hide what looks like a key, escape what cannot be printed."""
    text = _ESCAPE_SEQUENCE.sub("", line.decode(errors="replace").rstrip("\r")).replace("\t", " ")
    text = _SECRET.sub(lambda found: (found["label"] or "") + _HIDDEN, text)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
