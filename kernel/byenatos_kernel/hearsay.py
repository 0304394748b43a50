"""What drivers say of themselves and of their answers, brought within bounds before it is kept, shown or passed on.

A driver may be anybody's. What it says is of the right type, or it could not be read; but a number may be infinite or
below nothing, a word may have a megabyte, and a table may hold what cannot be written as JSON. None of it may fill the
memory of the kernel or of its clients, or have one of them stumble over what is no number. What an honest driver says
passes as it is.
"""

import math
import re
from itertools import islice

from msgspec.structs import replace

from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Failure, Finish, ModelHealthStatus, ModelSpecification, Usage

__all__ = ["bounded_failure", "bounded_finish", "bounded_health", "bounded_specification", "shortened"]

_CODE = re.compile(r"[a-z0-9_]{1,64}")
LONGEST_WORD = 256
LONGEST_SENTENCE = 8192
"""Characters of what went wrong: vendors send pages."""
MOST_WORDS = 256
LONGEST_WAIT_S = 1e10
LARGEST_BITS = 53
LARGEST = 1 << LARGEST_BITS
"""What every reader of JSON takes for a whole number."""


def bounded_finish(said: Finish) -> Finish:
    """Return how a driver says that an answer is complete; one that is within bounds as it is."""
    usage = said.usage
    figures = (usage.input_tokens or 0) | (usage.output_tokens or 0) | usage.cached_tokens
    figures |= usage.cache_write_tokens | usage.reasoning_tokens
    short = len(said.model) <= LONGEST_WORD and len(said.detail) <= LONGEST_WORD
    if short and not figures >> LARGEST_BITS and not said.adapted and said.stop_sequence is None:
        return said  # none of the figures has a sign or a bit too many
    return replace(
        said,
        usage=_bounded_usage(said.usage),
        model=said.model[:LONGEST_WORD],
        detail=said.detail[:LONGEST_WORD],
        stop_sequence=said.stop_sequence[:LONGEST_SENTENCE] if said.stop_sequence is not None else None,
        adapted=tuple(map(shortened, said.adapted[:MOST_WORDS])),
    )


def bounded_failure(said: Failure) -> Failure:
    """Return how a driver says that something went wrong."""
    wait_s = said.retry_after_s
    known = wait_s is None or 0 <= wait_s <= LONGEST_WAIT_S  # which no NaN is
    code = said.code if _CODE.fullmatch(said.code) else ByenatosError.code
    if known and len(said.message) <= LONGEST_SENTENCE and code is said.code:
        return said
    return replace(
        said,
        code=code,
        message=shortened(said.message),
        retry_after_s=wait_s if known else None,
    )


def bounded_specification(said: ModelSpecification) -> ModelSpecification:
    """Return what a driver says of a model; settings are a list's to tell (``offers.py``), and not one model's."""
    return replace(
        said,
        id=said.id[:LONGEST_WORD],
        driver=said.driver[:LONGEST_WORD],
        name=said.name[:LONGEST_WORD],
        architecture=said.architecture[:LONGEST_WORD],
        quantization=said.quantization[:LONGEST_WORD],
        tokenizer=said.tokenizer[:LONGEST_WORD],
        parameters=_within(said.parameters),
        context_length=_within(said.context_length),
        size_bytes=_within(said.size_bytes),
        memory_bytes=_within(said.memory_bytes),
        features=frozenset(one[:LONGEST_WORD] for one in sorted(said.features)[:MOST_WORDS]),
        metadata={
            key[:LONGEST_WORD]: value[:LONGEST_SENTENCE] for key, value in islice(said.metadata.items(), MOST_WORDS)
        },
        settings={},
    )


def bounded_health(said: ModelHealthStatus) -> ModelHealthStatus:
    """Return how a driver says that an instance feels."""
    first = islice(said.metrics.items(), MOST_WORDS)
    metrics = {name[:LONGEST_WORD]: value for name, value in first if math.isfinite(value)}
    return replace(said, detail=shortened(said.detail), metrics=metrics)


def shortened(text: str) -> str:
    """Return a sentence that is not too long."""
    return text if len(text) <= LONGEST_SENTENCE else f"{text[: LONGEST_SENTENCE - 1]}…"


def _bounded_usage(said: Usage) -> Usage:
    return Usage(
        None if said.input_tokens is None else _within(said.input_tokens),
        None if said.output_tokens is None else _within(said.output_tokens),
        _within(said.cached_tokens),
        _within(said.cache_write_tokens),
        _within(said.reasoning_tokens),
    )


def _within(value: int) -> int:
    return max(0, min(value, LARGEST))
