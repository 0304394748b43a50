"""The oracle: knows what was asked, and says what of the answers cannot be.

The echo driver numbers its tokens, so that a text shows what is missing, what came twice, and what came too early. For
a stream there are two honest ends: all of it, or a typed failure behind a beginning of it. For a session there is one
honest transcript: what was asked, in that order, each turn once; behind each turn the answer that its client got, or as
much of it as there was when something failed.
"""

from collections import Counter

from tests.chaos.storm.play import Play

from byenatos_sdk.protocol.control import Turn
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ClientTooSlow,
    DeadlineExceeded,
    Overloaded,
    Unavailable,
)

__all__ = ["Oracle"]

HONEST = (Unavailable, Overloaded, DeadlineExceeded, ClientTooSlow)
"""What may end a request in a storm; anything else is a fault of the kernel's."""


class Asked:
    """One turn of a session as its client saw it: how many tokens were asked for, and the answer if it came whole."""

    def __init__(self, text: str, tokens: int) -> None:
        self.text = text
        self.tokens = tokens
        self.answer: str | None = None


class Oracle:
    """Collects what clients saw of a ``play``. ``wrong`` are sentences; an empty list means that all of it can be."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.turns: dict[str, list[Asked]] = {}

    def answered(self, tokens: int, text: str, moves: int) -> None:
        """A stream ended in a ``Finish``."""
        self.counts["answered"] += 1
        self.counts["moves"] += moves
        if not self._play.whole(text, tokens):
            self.wrong.append(f"an answer of {tokens} tokens after {moves} moves: {_fault(text)}")

    def failed(self, error: ByenatosError, text: str) -> None:
        """A stream ended in a ``Failure``."""
        self.counts[f"failed: {error.code}"] += 1
        if not isinstance(error, HONEST):
            self.wrong.append(f"a stream failed in a way that nothing here excuses: {error.code}: {error.message:.300}")
        if not self._play.begun(text):
            self.wrong.append(f"a stream that failed ({error.code}): {_fault(text)}")

    def left(self, text: str) -> None:
        """A client left a stream early."""
        self.counts["left"] += 1
        if not self._play.begun(text):
            self.wrong.append(f"a stream that was left: {_fault(text)}")

    def asks(self, session: str, tokens: int) -> Asked:
        """A turn of a session begins."""
        turns = self.turns.setdefault(session, [])
        asked = Asked(f"turn {len(turns)} of {session}", tokens)
        turns.append(asked)
        return asked

    def check_transcript(self, session: str, turns: tuple[Turn, ...]) -> None:
        """Compare what the kernel kept of a session with what its client saw."""
        kept = list(turns)
        for asked in self.turns.get(session, []):
            user = kept.pop(0) if kept and kept[0].message.text == asked.text else None
            answer = kept.pop(0) if user is not None and kept and kept[0].message.role == "assistant" else None
            if asked.answer is None:
                if answer is not None and not self._play.begun(answer.message.text):
                    self.wrong.append(f"{asked.text}: kept, though it failed: {_fault(answer.message.text)}")
            elif user is None:
                self.wrong.append(f"{asked.text}: it was answered, and is not in the transcript at its place")
            elif answer is None or answer.message.text != asked.answer or answer.state != "complete":
                found = f"{answer.state} {answer.message.text[-40:]!r}" if answer is not None else "nothing"
                self.wrong.append(f"{asked.text}: expected the whole answer behind it, found {found}")
        if kept:
            self.wrong.append(f"session {session}: {len(kept)} turns too many, first {kept[0].message.text[:60]!r}")


def _fault(text: str) -> str:
    """Say where a counted text is not what it must be."""
    words = text.split(" ")[:-1]
    for place, word in enumerate(words):
        if word != str(place):
            return f"expected {place} at its place, found {' '.join(words[max(0, place - 2) : place + 3])!r}"
    return f"it is {len(words)} tokens long"
