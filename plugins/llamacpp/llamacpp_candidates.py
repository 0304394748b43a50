"""Look at the candidates for the next token where they are: in llama.cpp, and work on them with its own samplers.

``llama_sampler_sample`` builds the list of all tokens with their logits in C, which would take Python milliseconds, but
it hands it to one sampler and takes what that selects. So one sampler of ours, a closure, is put there: it lends the
list to a function for as long as it runs. The function applies llama.cpp's samplers to it and reads single entries.
"""

import ctypes
import math
import threading
from collections.abc import Callable
from typing import Any

from llamacpp_library import llama

__all__ = ["Candidates", "likeliest", "log_probabilities", "shorten", "visit_candidates"]

Candidates = Any
"""A pointer to a ``llama_token_data_array``; ``size`` entries of ``data``, each with ``id``, ``logit`` and ``p``.

At first entry ``n`` is token ``n``; samplers reorder and shorten the list.
"""


class _Visitor(threading.local):
    """One for each thread: two engines in one process would look through each other's eyes."""

    def __init__(self) -> None:
        self._look: Callable[[Candidates], None] | None = None
        self._error: Exception | None = None
        self._interface = llama.llama_sampler_i()
        self._interface.apply = llama.llama_sampler_i_apply(self._apply)
        self._sampler = llama.llama_sampler_init(ctypes.byref(self._interface), None)

    def visit(self, context: Any, index: int, look: Callable[[Candidates], None]) -> None:
        self._look, self._error = look, None
        llama.llama_sampler_sample(self._sampler, context, index)
        if self._error is not None:
            raise self._error

    def _apply(self, _sampler: Any, candidates: Candidates) -> None:
        # An exception must not leave a closure, and llama.cpp insists on a selected token.
        try:
            assert self._look is not None
            self._look(candidates)
        except Exception as error:  # noqa: BLE001  (raised again outside)
            self._error = error
        candidates.contents.selected = 0


_visitor = _Visitor()


def visit_candidates(context: Any, index: int, look: Callable[[Candidates], None]) -> None:
    """Call ``look`` with the candidates that the logits at ``index`` of the last step give; raise what it raises."""
    _visitor.visit(context, index, look)


def shorten(candidates: Candidates, count: int) -> None:
    """Leave only the ``count`` likeliest, the likeliest first."""
    _apply_once(llama.llama_sampler_init_top_k(count), candidates)


def log_probabilities(context: Any, index: int, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Return the natural-log probability of ``token`` at ``index``, and the ``count`` likeliest tokens with theirs.

    The model's own: before temperature, penalties, bias and grammar.
    """
    chosen = 0.0
    found: list[tuple[int, float]] = []

    def look(candidates: Candidates) -> None:
        nonlocal chosen
        array = candidates.contents
        logit = array.data[token].logit
        _apply_once(llama.llama_sampler_init_dist(0), candidates)  # fills in the probabilities
        shorten(candidates, max(count, 1))
        total = array.data[0].logit - math.log(array.data[0].p)
        chosen = logit - total
        found.extend((array.data[at].id, array.data[at].logit - total) for at in range(min(count, array.size)))

    visit_candidates(context, index, look)
    return chosen, found


def likeliest(context: Any, index: int, count: int) -> list[tuple[int, float]]:
    """Return the ``count`` likeliest tokens at ``index`` with their logits, the likeliest first."""
    found: list[tuple[int, float]] = []

    def look(candidates: Candidates) -> None:
        shorten(candidates, count)
        array = candidates.contents
        found.extend((array.data[at].id, array.data[at].logit) for at in range(array.size))

    visit_candidates(context, index, look)
    return found


def _apply_once(sampler: Any, candidates: Candidates) -> None:
    llama.llama_sampler_apply(sampler, candidates)
    llama.llama_sampler_free(sampler)
