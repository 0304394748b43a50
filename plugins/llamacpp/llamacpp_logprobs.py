"""Log probabilities that wait for their text: a token's are given out after the text that it became part of."""

from collections import deque

from byenatos_sdk.protocol.messages import Logprobs, TokenLogprob

__all__ = ["LogprobQueue"]


class LogprobQueue:
    """Tokens with their log probabilities, each with the bytes of the answer that it stands for."""

    def __init__(self, waiting: tuple[tuple[int, int, TokenLogprob], ...] = ()) -> None:
        self._waiting = deque(waiting)

    @property
    def waiting(self) -> tuple[tuple[int, int, TokenLogprob], ...]:
        """Tokens whose text is not out yet, each with its first byte in the answer and the one after its last."""
        return tuple(self._waiting)

    def add(self, start: int, end: int, token: TokenLogprob) -> None:
        """Add a token that stands for the bytes ``start`` to ``end``."""
        self._waiting.append((start, end, token))

    def settled(self, end: int) -> Logprobs | None:
        """Take out the tokens whose text lies before the byte ``end`` of the answer."""
        taken = []
        while self._waiting and self._waiting[0][1] <= end:
            taken.append(self._waiting.popleft()[2])
        return Logprobs(tuple(taken)) if taken else None

    def last(self, end: int) -> Logprobs | None:
        """Take out what is left, but only tokens whose text began before the byte ``end``: the text stops there."""
        taken = tuple(token for start, _, token in self._waiting if start < end)
        self._waiting.clear()
        return Logprobs(taken) if taken else None
