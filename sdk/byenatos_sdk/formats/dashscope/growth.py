"""Texts of a stream that may add up, or may each repeat all that went before: told apart while they come.

A client asks for pieces of new text (``incremental_output``), but some models ignore that and send the whole text so
far in every event, and nothing in the stream says which. Once a piece does not begin with the one before it, pieces
add up. As long as every piece does, both are possible: then only what is the same either way is given out, until so
much has been repeated by pieces that grew that it cannot be chance. A piece that comes again and again in events that
say nothing else adds up too: a text that grows would have grown. Thoughts that are gone, or still there, beside the
text that follows them show it as well. An answer that ends before anything showed it is taken for one that grew,
because the last event of a stream that adds up is empty. All texts of an answer (its text, its reasoning, its calls'
arguments) are sent in one way, so what one of them shows holds for all.
"""

from enum import Enum

__all__ = ["Growth", "Mode", "Way"]

CERTAIN = 16
"""Characters that must have been repeated, over at least two pieces that grew, until it is no chance."""
AGAIN = 4
"""How often the same piece must come again, in events that say nothing else, until pieces surely add up."""
HELD = 1 << 16
"""Characters repeated in any other way after which no more is held back."""


class Way(Enum):
    """How an answer's texts are sent."""

    UNKNOWN = "unknown"
    ADDS_UP = "adds up"
    GROWS = "grows"


class Mode:
    """What is known about an answer's texts."""

    def __init__(self) -> None:
        self.way = Way.UNKNOWN

    def grows(self) -> None:
        """Note what an event showed, if nothing has shown it before."""
        if self.way is Way.UNKNOWN:
            self.way = Way.GROWS


class Growth:
    """One text of an answer: :meth:`feed` it as it comes, and take what is new."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._pieces: list[str] = []  # all of them, until it is known whether they add up
        self._last = ""
        self._given = 0
        self._grown = 0
        self._repeated = 0
        self._again = 0

    def feed(self, piece: str, *, alone: bool = False) -> str:
        """Take the next piece; return the text that is surely new. ``alone``: its event says nothing else."""
        if self._mode.way is Way.UNKNOWN:
            self._look(piece, alone=alone)
        if self._mode.way is Way.ADDS_UP:
            return self._held_back() + piece
        if self._mode.way is Way.GROWS:
            return self._grow(piece)
        return self._agreed(piece)

    def repeats(self, piece: object) -> bool:
        """Say whether ``piece`` is the one before it again."""
        return bool(self._last) and piece == self._last

    def end(self) -> str:
        """Hear that the answer is complete; return what was held back."""
        if self._mode.way is Way.ADDS_UP:
            return self._held_back()
        rest = self._last[self._given :]
        self._given = len(self._last)
        return rest

    def _look(self, piece: str, *, alone: bool) -> None:
        """Look whether ``piece`` shows how the texts are sent."""
        if not self._last:
            return
        if not piece.startswith(self._last):
            self._mode.way = Way.ADDS_UP
        elif alone and piece == self._last:
            self._again += 1
            if self._again >= AGAIN:
                self._mode.way = Way.ADDS_UP
        else:
            self._again = 0
            self._grown += len(piece) > len(self._last)
            self._repeated += len(self._last)
            if self._repeated >= (CERTAIN if self._grown >= 2 else HELD):
                self._mode.way = Way.GROWS

    def _held_back(self) -> str:
        """Return what the pieces so far add up to beyond what was given out, and forget them."""
        held = "".join(self._pieces)[self._given :]
        self._pieces.clear()
        self._given = 0
        return held

    def _grow(self, piece: str) -> str:
        """Return what ``piece`` adds; one that is shorter (an event about something else) adds nothing."""
        self._pieces.clear()
        if not piece.startswith(self._last):
            return ""
        self._last = piece
        new = piece[self._given :]
        self._given = len(piece)
        return new

    def _agreed(self, piece: str) -> str:
        """Return what is new however the texts are sent."""
        if not piece:
            return ""
        self._pieces.append(piece)
        self._last = piece
        added_up = ""
        for earlier in self._pieces:
            added_up += earlier
            if len(added_up) >= len(piece):
                break
        start = self._given
        while self._given < len(piece) and piece[self._given] == added_up[self._given]:
            self._given += 1
        return piece[start : self._given]
