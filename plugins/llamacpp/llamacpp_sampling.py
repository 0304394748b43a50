"""Choose the next token, such that a continued answer does not depend on where it was cut.

A usual sampler carries a random generator through the answer, so that a second instance would have to replay all its
draws. Here the draw for a token is made from (seed, position of the token in the context) alone: whoever continues the
text at that position draws the same number. All else that a sampler remembers, penalties and the grammar, follows from
the tokens before.

Penalties look each remembered token up in the list of candidates. On a full vocabulary of 262,000 that is a millisecond
per token; as penalties only ever lower a token, the best ``top_k`` afterwards are among the best ``top_k + window``
before, and cutting to those first gives the same result in a third of the time.

A grammar that looks at every token of the vocabulary costs as much as a small model's whole step. So a token is drawn
without it first; it is nearly always one that the grammar allows. If it is not, one is drawn, with the next number of
the same position, from what the grammar allows of the ``LIKELY`` likeliest tokens, and if there is none, of all.
"""

import hashlib
import math
import secrets
import time
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Sampling
from llamacpp_candidates import Candidates, shorten, visit_candidates
from llamacpp_grammar import Grammar
from llamacpp_library import llama
from llamacpp_settings import Settings

__all__ = ["Sampler", "check_sampling", "draw_seed", "draw_seed_of"]

_RANDOM_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: llama.cpp would take the clock
MAX_BIASES = 1024
LIKELY = 512
MOST_GRAMMAR_S = 2.0
MAX_LOGPROBS = 20
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "top_k": (0, 1 << 24),
    "max_tokens": (1, 1 << 31),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 2.0),
    "logprobs": (0, MAX_LOGPROBS),
}


def check_sampling(sampling: Sampling, vocabulary: int) -> None:
    """Refuse values that mean nothing.

    Raises:
        InvalidRequest: naming the field, what was expected and what was found.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            raise InvalidRequest(f"sampling.{name}: expected {low} to {high}, found {value}")
    if len(sampling.logit_bias) > MAX_BIASES:
        raise InvalidRequest(f"sampling.logit_bias: expected at most {MAX_BIASES} tokens, found more")
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < vocabulary or not math.isfinite(bias):
            raise InvalidRequest(
                f"sampling.logit_bias: expected a token below {vocabulary} and a number, found {token}: {bias}"
            )


def draw_seed_of(sampling: Sampling) -> int:
    """Return the seed of a whole answer: the given one, else one that is drawn now."""
    return secrets.randbits(64) if sampling.seed is None else sampling.seed


def draw_seed(seed: int, position: int) -> int:
    """Return the seed of the one draw that is made for the token at ``position``."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _RANDOM_SEED


class Sampler:
    """One answer's samplers. ``before`` holds the tokens that penalties look back at; ``grammar`` is closed with it.

    ``described``: a schema or tools say what the answer is made of.
    """

    def __init__(
        self,
        sampling: Sampling,
        settings: Settings,
        vocabulary: int,
        before: list[int],
        seed: int,
        grammar: Grammar | None,
        *,
        described: bool = False,
    ) -> None:
        self._seed = seed
        self._window = max(settings.penalty_window, 1)
        self._described = described
        self.grammar = grammar
        self._chain: Any = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        self._links = 0
        temperature = _or(sampling.temperature, settings.temperature)
        self._greedy = temperature == 0
        top_k = 1 if self._greedy else _or(sampling.top_k, settings.top_k)
        self._biased = bool(sampling.logit_bias)
        if self._biased:
            pairs = [llama.llama_logit_bias(token, bias) for token, bias in sampling.logit_bias.items()]
            biases = (llama.llama_logit_bias * len(pairs))(*pairs)
            self._add(llama.llama_sampler_init_logit_bias(vocabulary, len(biases), biases))
        self._add_penalties(sampling, settings, vocabulary, top_k)
        if self._greedy:
            self._add(llama.llama_sampler_init_greedy())
        else:
            self._add(llama.llama_sampler_init_top_k(top_k))
            self._add(llama.llama_sampler_init_top_p(_or(sampling.top_p, settings.top_p), 1))
            self._add(llama.llama_sampler_init_min_p(_or(sampling.min_p, settings.min_p), 1))
            self._add(llama.llama_sampler_init_temp(temperature))
        for token in before[-self._window :]:
            llama.llama_sampler_accept(self._chain, token)

    def sample(self, context: Any, index: int, position: int) -> int:
        """Choose the token that goes to ``position``, from the logits at ``index`` of the last step, and remember it.

        Raises:
            InvalidRequest: the grammar allows no token of the vocabulary, or takes too long over one.
        """
        if not self._greedy:
            self._add(llama.llama_sampler_init_dist(draw_seed(self._seed, position)))
        try:
            if self.grammar is None:
                return int(llama.llama_sampler_sample(self._chain, context, index))
            begun = time.thread_time()  # not what the machine spends on others meanwhile
            token = self._sample_allowed(self.grammar, context, index)
            self.accept(token)
            if (took_s := time.thread_time() - begun) > MOST_GRAMMAR_S:
                raise InvalidRequest(
                    f"the grammar leaves so much open that one token took {took_s:.1f} s, while all other answers wait"
                )
            return token
        finally:
            if not self._greedy:
                self._links -= 1
                llama.llama_sampler_free(llama.llama_sampler_chain_remove(self._chain, self._links))

    def accept(self, token: int) -> bool:
        """Remember a token that was chosen otherwise; return false if the grammar does not allow it."""
        llama.llama_sampler_accept(self._chain, token)
        return self.grammar is None or self.grammar.accept(token)

    def accept_all(self, tokens: list[int]) -> bool:
        """Remember tokens that were chosen otherwise, as :meth:`accept` does one."""
        for token in tokens[-self._window :]:
            llama.llama_sampler_accept(self._chain, token)
        return self.grammar is None or all(map(self.grammar.accept, tokens))

    def close(self) -> None:
        """Free the chain and the grammar; the object is not used again."""
        llama.llama_sampler_free(self._chain)
        if self.grammar is not None:
            self.grammar.close()

    def _sample_allowed(self, grammar: Grammar, context: Any, index: int) -> int:
        drawn = -1

        def draw(candidates: Candidates) -> None:
            nonlocal drawn
            llama.llama_sampler_apply(self._chain, candidates)
            drawn = candidates.contents.data[candidates.contents.selected].id

        def draw_likely(candidates: Candidates) -> None:
            shorten(candidates, LIKELY)
            draw_allowed(candidates)

        def draw_allowed(candidates: Candidates) -> None:
            grammar.mask(candidates)
            draw(candidates)

        for attempt in (draw, draw_allowed) if self._biased else (draw, draw_likely, draw_allowed):
            visit_candidates(context, index, attempt)
            if grammar.allows(drawn):
                return drawn
        raise InvalidRequest("the grammar allows no token of this model's vocabulary after what was written")

    def _add_penalties(self, sampling: Sampling, settings: Settings, vocabulary: int, top_k: int) -> None:
        # Such an answer repeats itself, and the question: names, quotes, brackets. It is penalised only if asked for.
        usual = 1.0 if self._described else settings.repetition_penalty
        repetition = _or(sampling.repetition_penalty, usual)
        frequency, presence = sampling.frequency_penalty or 0.0, sampling.presence_penalty or 0.0
        window = settings.penalty_window
        if not window or (repetition == 1 and not frequency and not presence):
            return
        if top_k and repetition >= 1 and frequency >= 0 and presence >= 0:
            self._add(llama.llama_sampler_init_top_k(top_k + window))
        self._add(llama.llama_sampler_init_penalties(vocabulary, window, repetition, frequency, presence))

    def _add(self, sampler: Any) -> None:
        llama.llama_sampler_chain_add(self._chain, sampler)
        self._links += 1


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
