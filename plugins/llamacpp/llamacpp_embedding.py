"""Texts to vectors, with a context of its own beside the one that answers.

The context is made when the first text comes. A text is one sequence; several are computed in one batch. Its vector is
made from those of its tokens as the model's file says (the mean, where it says nothing) and has the length 1.
"""

import math
from collections.abc import Sequence
from typing import Any

from byenatos_sdk.protocol.errors import ContextLengthExceeded, InvalidRequest, Unavailable
from llamacpp_library import llama, log
from llamacpp_settings import Settings
from llamacpp_vocabulary import Vocabulary

__all__ = ["Embedder"]

MAX_SEQUENCES = 16
BATCH_TOKENS = 128
_POOLING = {
    "mean": llama.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama.LLAMA_POOLING_TYPE_CLS,
    "last": llama.LLAMA_POOLING_TYPE_LAST,
}


class Embedder:
    """Makes vectors with ``weights`` (llama.cpp's model) and its ``vocabulary``.

    Raises:
        Unavailable: there is no memory for its context.
    """

    def __init__(self, weights: Any, vocabulary: Vocabulary, settings: Settings, threads: int) -> None:
        self._vocabulary = vocabulary
        self.size = settings.embedding_tokens
        self._width = llama.llama_model_n_embd(weights)
        context = llama.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = self.size
        context.n_seq_max = MAX_SEQUENCES
        context.n_threads = context.n_threads_batch = threads
        context.embeddings = True
        context.kv_unified = True
        context.no_perf = True
        found = vocabulary.pooling if settings.pooling == "model" else settings.pooling
        context.pooling_type = _POOLING.get(found, llama.LLAMA_POOLING_TYPE_MEAN)
        log.errors.clear()
        self._context: Any = llama.llama_init_from_model(weights, context)
        if not self._context:
            raise Unavailable(f"no context of {self.size} tokens for embeddings: {log.last_error()}")
        self._batch: Any = llama.llama_batch_init(self.size, 0, 1)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text.

        Raises:
            InvalidRequest: a text is empty.
            ContextLengthExceeded: one is too long.
        """
        tokens = [self._vocabulary.tokenize(text) for text in texts]
        for number, (text, one) in enumerate(zip(texts, tokens, strict=True), start=1):
            if not text or not one:
                raise InvalidRequest(f"text {number}: expected a text to embed, found an empty one")
            if len(one) > self.size:
                raise ContextLengthExceeded(
                    f"text {number}: expected at most {self.size} tokens (embedding_tokens), found {len(one)}"
                )
        return tokens

    def fitting(self, tokens: Sequence[Sequence[int]]) -> int:
        """Return how many of the first of ``tokens`` to compute in one batch: answers wait for it."""
        count = total = 0
        for one in tokens[:MAX_SEQUENCES]:
            total += len(one)
            if count and total > BATCH_TOKENS:
                break
            count += 1
        return count

    def compute(self, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the vectors of texts that fit into one batch.

        Raises:
            RuntimeError: llama.cpp failed.
        """
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        batch, count = self._batch, 0
        for sequence, one in enumerate(tokens):
            for position, token in enumerate(one):
                batch.token[count] = token
                batch.pos[count] = position
                batch.n_seq_id[count] = 1
                batch.seq_id[count][0] = sequence
                batch.logits[count] = True
                count += 1
        batch.n_tokens = count
        code = llama.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode failed with code {code}: {log.last_error()}")
        return [
            _normalised(llama.llama_get_embeddings_seq(self._context, sequence)[: self._width])
            for sequence in range(len(tokens))
        ]

    def close(self) -> None:
        """Free it; the object is not used again."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)


def _normalised(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else vector
