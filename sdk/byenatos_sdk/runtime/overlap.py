"""The overlap where a model that was asked for the rest of its answer begins by repeating the end of what it had said.

A model that cannot continue a partial answer is asked by a turn (``request.CONTINUE``), and many begin with the word,
the line or the sentence in which they were cut off, some behind an ellipsis. The longest beginning that is an end of
what was said before is dropped, if it can only be a repetition:

- The fragment begins where a word begins: ``hel`` and ``lo`` have an ``l`` in common that is none.
- Nothing separates it, so that both together would be no text: the letters of an unfinished word (``qui``, ``quick``),
  or a line from its beginning (``4. D``, ``4. Dog``).
- Or it is so long that nobody says it twice: :data:`EVIDENT` letters and digits, of which a wide one (of Chinese, for
  example) counts twice. Behind an ellipsis half as many will do. Behind white space only that counts: ``very`` and
  `` very good`` may both be meant.

Until it is known what the beginning is, it is held back: as long as all of it stands somewhere in the last
:data:`REACH` characters before the cut and may go on as they do. So what comes out does not depend on how the answer
was cut into pieces. Nothing else is ever dropped.
"""

import re

__all__ = ["EVIDENT", "REACH", "Overlap", "repeated"]

REACH = 1000
EVIDENT = 12
LONGEST_LEAD = 16
"""Characters of white space and ellipsis that may stand before a repetition."""

_LEAD = re.compile(r"\s*(?:…|\.\.\.)?\s*")
_MAYBE_LEAD = re.compile(r"\s*(?:…|\.{0,3})\s*")
_FIRST_WIDE = "\u2e80"


class Overlap:
    """Joins the rest of an answer to what was said ``before``; what is ``held`` may still be a repetition."""

    def __init__(self, before: str) -> None:
        self._before = before[-REACH:]
        self.held = ""

    def feed(self, text: str) -> str | None:
        """Take the next piece; return what the answer goes on with, or ``None`` while that is not known."""
        self.held += text
        return None if self._undecided() else self.end()

    def end(self) -> str:
        """Return what the answer goes on with: there is no more to hear, or it does not matter."""
        return self.held[repeated(self._before, self.held) :]

    def _undecided(self) -> bool:
        held = self.held
        earlier = self._before[:-1]
        if held in earlier:
            return True
        lead = _lead_of(held)
        if _MAYBE_LEAD.fullmatch(held):
            return lead <= LONGEST_LEAD
        return 0 < lead <= LONGEST_LEAD and held[lead:] in earlier


def repeated(before: str, after: str) -> int:
    """Return how many characters ``after`` begins with that repeat the end of ``before``."""
    if length := _overlap(before, after, EVIDENT, adjacent=True):
        return length
    lead = _lead_of(after)
    if not 0 < lead <= LONGEST_LEAD:
        return 0
    blank = after[:lead].isspace()
    length = _overlap(before, after[lead:], EVIDENT if blank else EVIDENT // 2, adjacent=not blank)
    return lead + length if length else 0


def _lead_of(text: str) -> int:
    """How many characters of white space and ellipsis a text begins with."""
    match = _LEAD.match(text)
    return match.end() if match is not None else 0


def _overlap(before: str, after: str, least: int, *, adjacent: bool) -> int:
    """The longest evident overlap, of ``least`` letters and digits.

    If they are ``adjacent``, it may also be one because both together would be no text.
    """
    for length in range(min(len(before), len(after)), 0, -1):
        if before.endswith(after[:length]) and _evident(before, length, least, adjacent=adjacent):
            return length
    return 0


def _evident(before: str, length: int, least: int, *, adjacent: bool) -> bool:
    """Whether the last ``length`` characters of ``before`` are not said twice but by repeating them."""
    start = len(before) - length
    fragment = before[start:]
    if start and _within_a_word(before[start - 1], before[start]):
        return False
    if sum(1 + (letter >= _FIRST_WIDE) for letter in fragment if letter.isalnum()) >= least:
        return True
    if not adjacent or length < 2:
        return False
    if fragment.isalpha() and max(fragment) < _FIRST_WIDE:
        return True
    a_line = not start or before[start - 1] == "\n"
    return a_line and length > 2 and sum(map(str.isalnum, fragment)) > 1 and "\n" not in fragment


def _within_a_word(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and max(left, right) < _FIRST_WIDE
