"""A long prompt that arrives never stalls those who are being answered, whatever its length.

What is measured is the CPU time of the engine's thread, which does all the work here. A busy machine
does not add to it, but a virtual one whose processor was taken away does: a prompt arrives up to three
times, and the rule is kept if one of them kept it. That no answer waits for two pieces holds each time.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from byenatos_sdk.protocol.messages import Finish, user

pytestmark = pytest.mark.model

STREAMS = 4
WARM_UP = 12
CEILING_S = 1800
SPARE = 30
"""Tokens that the chat template may add."""

ARRIVALS = 3
STALL = 3
"""How many of its usual token times an answer may wait beyond the piece of prompt that is read meanwhile."""


class Batch(NamedTuple):
    """What was computed, for which answers (none: a piece of a prompt), and the thread's time before and after it."""

    answers: frozenset[int]
    size: int
    begun: float
    ended: float


def recorded_batches(driver: Any, monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The list to which each batch of the engine is added."""
    batches: list[Batch] = []
    decode = driver._engine._model.decode

    def record(entries: list[Any]) -> None:
        begun = time.thread_time()
        decode(entries)
        sequences = [entry.sequence for entry in entries]
        alone = len(set(sequences)) == len(sequences) and all(entry.sampled for entry in entries)
        batches.append(Batch(frozenset(sequences if alone else ()), len(entries), begun, time.thread_time()))

    monkeypatch.setattr(driver._engine._model, "decode", record)
    return batches


def waits(batches: list[Batch], before: int) -> list[tuple[float, float, float]]:
    """How long each answer waited each time after the batch ``before``, its usual wait, and how long reading took."""
    found = []
    answers = frozenset().union(*(batch.answers for batch in batches[:before]))
    assert len(answers) == STREAMS
    for answer in sorted(answers):
        own = [place for place, batch in enumerate(batches) if answer in batch.answers]
        usual = statistics.median(
            batches[here].ended - batches[last].ended
            for last, here in itertools.pairwise(own)
            if last + 1 == here < before
        )
        for last, here in itertools.pairwise(own):
            if here < before:
                continue
            pieces = [batch for batch in batches[last + 1 : here] if not batch.answers]
            assert len(pieces) <= 1
            read = sum(batch.ended - batch.begun for batch in pieces)
            found.append((batches[here].ended - batches[last].ended, usual, read))
    return found


@pytest.mark.timeout(CEILING_S)
@pytest.mark.parametrize("tokens", [pytest.param(6000, marks=pytest.mark.long), 1100])
def test_a_long_prompt_stalls_no_answer_for_more_than_three_tokens_and_one_piece(
    load: Callable[..., Any], ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    broken = []
    for _ in range(ARRIVALS):
        driver = load("smollm2", n_ctx=8192, parallel=STREAMS + 1, threads=1, batch_threads=1)
        batches = recorded_batches(driver, monkeypatch)
        stories = [user(f"Tell me story {number} of the sea.") for number in range(STREAMS)]
        running = [ask(driver, story, temperature=0.0, max_tokens=500, logit_bias={2: -100.0}) for story in stories]
        for call in running:
            call.wait_for_deltas(WARM_UP)
        before = len(batches)
        arriving = ask(driver, user("word " * (tokens - SPARE)), max_tokens=1, temperature=0.0)
        arriving.wait(CEILING_S)
        assert all(call.end is None for call in running)  # they were answered all the while
        for call in running:
            call.cancelled = True
        end = arriving.end
        assert isinstance(end, Finish)
        assert (end.usage.input_tokens or 0) >= tokens - SPARE
        broken = [one for one in waits(batches, before) if one[0] > STALL * one[1] + one[2]]
        if not broken:
            break
    assert not broken
