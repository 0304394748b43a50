"""Continue a text that may end in the middle of a word.

A model has learned one way to cut a word into tokens: ``" France"`` is one. Shown ``" Fr"``, it has never seen
``"ance"`` follow and writes nonsense. So the tokens of the last word are taken back, and the model chooses them again,
with the constraint that they reproduce the text that is there: the likeliest token that begins with it, or is its
beginning. If the word was whole, that is the token that was there, and nothing has changed but one step more; if it was
cut, it is ``" France"``, of which ``"ance"`` is new. Text that is there is never changed and never sent twice.

That one step more is mostly saved: what was taken back is computed along with what comes before it, as a guess, and the
choices are made one after the other from its logits for as long as they agree with it.

The choice is always the likeliest: the seam is no place for chance, and an answer that was greedy so far stays so.
"""

from collections.abc import Sequence
from typing import Self

from llamacpp_model import LlamaModel

__all__ = ["Seam"]

LIKELIEST = (64, 512)
"""How many of the likeliest tokens are looked at."""

MAX_TOKENS = 8
"""How many tokens are taken back at most."""


class Seam:
    """The end of a partial answer, to be reproduced. ``left`` is what is still missing; ``tokens`` come before it.

    ``guess``: the tokens that it probably becomes, those that were taken back; none once another was chosen.
    """

    def __init__(self, model: LlamaModel, tokens: list[int], left: bytes, guess: Sequence[int] = ()) -> None:
        self._model = model
        self.tokens = tokens
        self.left = left
        self.guess = list(guess)

    @classmethod
    def behind(cls, model: LlamaModel, whole: list[int]) -> Self:
        """Take the last word's tokens back from ``whole``."""
        tokens = list(whole)
        left = b""
        while len(tokens) > 1 and len(whole) - len(tokens) < MAX_TOKENS:
            piece = model.piece(tokens[-1])
            if not piece:
                break
            left = piece + left
            tokens.pop()
            if not _continues_a_word(piece):
                break
        return cls(model, tokens, left, whole[len(tokens) :])

    def choose(self, index: int) -> int:
        """Choose the next token from the logits at ``index``.

        What was taken back fits, too, and is chosen if none of the likelier ones does: looking at a whole vocabulary
        takes a third of a second. Where something else was chosen before, any vocabulary with single bytes has one.
        """
        for count in LIKELIEST:
            for token in self._model.by_likelihood(index, count):
                if self._fits(token):
                    return token
        if self.guess:
            return self.guess[0]
        for token in self._model.by_likelihood(index, self._model.vocabulary):
            if self._fits(token):
                return token
        raise RuntimeError(f"expected a token that begins {self.left!r}, found none in the vocabulary")

    def _fits(self, token: int) -> bool:
        """Whether a token reproduces the text, by no less of it than what was taken back: letters are no words."""
        piece = self._model.piece(token)
        least = len(self._model.piece(self.guess[0])) if self.guess else 1
        return piece.startswith(self.left) or (len(piece) >= least and self.left.startswith(piece))

    def new(self, token: int) -> bytes:
        """Return the bytes that ``token`` would add to the text."""
        return self._model.piece(token)[len(self.left) :]

    def take(self, token: int) -> bytes:
        """Go on by ``token``; return the bytes that it adds to the text."""
        self.guess = self.guess[1:] if self.guess[:1] == [token] else []
        piece = self._model.piece(token)
        new, self.left = piece[len(self.left) :], self.left[len(piece) :]
        return new


def _continues_a_word(piece: bytes) -> bool:
    """Say whether a token can only stand inside a word: it begins with a letter, a digit or part of a character."""
    return piece[0] >= 0x80 or piece[:1].isalnum()
