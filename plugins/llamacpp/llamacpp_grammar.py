"""A grammar that holds one answer: which token may come next, after all that came before.

llama.cpp ends the process if a grammar is given a token that it does not allow, so a token is accepted here only after
it was found to be allowed. Whoever replays the same tokens gets the same grammar in the same state.
"""

import ctypes
import math
from collections.abc import Iterable
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_candidates import Candidates
from llamacpp_gbnf import check_gbnf
from llamacpp_library import llama, log

__all__ = ["Grammar"]


class Grammar:
    """The grammar ``text`` (GBNF, start symbol ``root``), nothing accepted yet; ``where`` names it in messages.

    Raises:
        InvalidRequest: it is no grammar, or llama.cpp cannot use it.
    """

    def __init__(self, vocab: Any, text: str, where: str) -> None:
        check_gbnf(text, where)
        log.errors.clear()
        self._sampler = llama.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self._sampler:
            raise InvalidRequest(f"{where}: llama.cpp cannot use this grammar: {log.last_error()}")
        self._one = (llama.llama_token_data * 1)()
        self._array = llama.llama_token_data_array(self._one, 1, -1, False)

    def allows(self, token: int) -> bool:
        """Say whether ``token`` may come next."""
        self._one[0] = llama.llama_token_data(token, 0.0, 0.0)
        self._array.size = 1
        llama.llama_sampler_apply(self._sampler, ctypes.byref(self._array))
        return math.isfinite(self._one[0].logit)

    def mask(self, candidates: Candidates) -> None:
        """Set the logits of all candidates that may not come next to minus infinity."""
        llama.llama_sampler_apply(self._sampler, candidates)

    def accept(self, token: int) -> bool:
        """Take ``token`` as the next; return false, and change nothing, if it may not come next."""
        if not self.allows(token):
            return False
        llama.llama_sampler_accept(self._sampler, token)
        return True

    def accept_all(self, tokens: Iterable[int]) -> bool:
        """Take ``tokens`` one after the other; return whether all could be."""
        return all(self.accept(token) for token in tokens)

    def close(self) -> None:
        """Free it; the object is not used again."""
        llama.llama_sampler_free(self._sampler)
