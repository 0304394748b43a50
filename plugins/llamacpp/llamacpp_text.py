"""Put an answer's text together from the bytes of its tokens, up to a stop sequence.

Tokens do not respect characters: an emoji may come in four pieces. And a stop sequence does not respect tokens. So two
things are held back: the beginning of a character, and text that may turn out to be the beginning of a stop sequence.
What is given out is final, and does not depend on how the bytes were cut:

    the text ends before the stop sequence that is complete first (of two that end together, the longer).
"""

import codecs

__all__ = ["TextAssembler"]


class TextAssembler:
    """Bytes in, whole characters out. ``lstrip`` drops white space before the first character."""

    def __init__(self, stops: tuple[str, ...] = (), *, lstrip: bool = False) -> None:
        self.stopped = False
        self._stops = stops
        self._lstrip = lstrip
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """Take the next bytes; return the text that is now certain. Sets ``stopped`` at a stop sequence."""
        text = self._decoder.decode(data)
        if self._lstrip:
            text = text.lstrip()
            self._lstrip = not text
        if not text or self.stopped:
            return ""
        text = self._held + text
        cut = self._find_stop(text)
        if cut is None:
            cut = len(text) - self._longest_beginning(text)
            self._held = text[cut:]
        else:
            self.stopped, self._held = True, ""
        return text[:cut]

    def finish(self) -> str:
        """Return what was held back as a possible stop sequence; half a character at the end is dropped."""
        held, self._held = self._held, ""
        return held

    def _find_stop(self, text: str) -> int | None:
        """Return where the first complete stop sequence begins."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _longest_beginning(self, text: str) -> int:
        """Return the length of the longest end of ``text`` that begins a stop sequence."""
        return max((_overlap(text, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
