"""Put an answer's text together from the bytes of its tokens, up to a stop sequence.

Tokens do not respect characters: an emoji may come in four pieces. And a stop sequence does not respect tokens. So two
things are held back: the beginning of a character, and text that may turn out to be the beginning of a stop sequence.
What is given out is final, and does not depend on how the bytes were cut:

    the text ends before the stop sequence that is complete first (of two that end together, the longer).
"""

import codecs

__all__ = ["TextAssembler", "longest_beginning"]


class TextAssembler:
    """Bytes in, whole characters out. ``lstrip`` drops white space before the first character."""

    def __init__(self, stops: tuple[str, ...] = (), *, lstrip: bool = False) -> None:
        self.stopped = False
        self.stopped_by: str | None = None
        self._fed = 0
        self._stops = stops
        self._lstrip = lstrip
        self._held = ""
        self._cut_off = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def settled(self) -> int:
        """How many of the bytes that were fed are given out for good, or dropped before the first character."""
        return self._fed - len(self._decoder.getstate()[0]) - len((self._held + self._cut_off).encode())

    def feed(self, data: bytes) -> str:
        """Take the next bytes; return what is now certain. A stop sequence sets ``stopped`` and ``stopped_by``."""
        self._fed += len(data)
        text = self._decoder.decode(data)
        if self._lstrip:
            text = text.lstrip()
            self._lstrip = not text
        if not text or self.stopped:
            return ""
        text = self._held + text
        found = self._find_stop(text)
        if found is None:
            cut = len(text) - longest_beginning(text, self._stops)
            self._held = text[cut:]
        else:
            cut, self.stopped_by = found
            self.stopped, self._held, self._cut_off = True, "", text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """Return what was held back as a possible stop sequence; half a character at the end is dropped."""
        held, self._held = self._held, ""
        return held

    def _find_stop(self, text: str) -> tuple[int, str] | None:
        """Return where the first complete stop sequence begins, and which it is."""
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1:] if found else None


def longest_beginning(text: str, marks: tuple[str, ...]) -> int:
    """Return the length of the longest end of ``text`` that begins one of ``marks``, without being all of it."""
    return max((_overlap(text, mark) for mark in marks), default=0)


def _overlap(text: str, mark: str) -> int:
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
