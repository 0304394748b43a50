"""One request for vectors, as a job of the engine's thread: a batch at a time, so that answers go on in between."""

from collections.abc import Sequence

from llamacpp_jobs import MORE
from llamacpp_model import LlamaModel

__all__ = ["EmbeddingJob"]


class EmbeddingJob:
    """Called between steps until it is done; returns ``(vectors, tokens)`` then."""

    def __init__(self, model: LlamaModel, texts: Sequence[str]) -> None:
        self._model = model
        self._texts = texts
        self._left: list[list[int]] | None = None
        self._tokens = 0
        self._vectors: list[list[float]] = []

    def __call__(self) -> object:
        """Compute the next batch."""
        embedder = self._model.embedder()
        if self._left is None:
            self._left = embedder.tokenize(self._texts)
            self._tokens = sum(map(len, self._left))
        count = embedder.fitting(self._left)
        if count:
            self._vectors += embedder.compute(self._left[:count])
            del self._left[:count]
        return MORE if self._left else (self._vectors, self._tokens)
