"""Tests of what sequences have in common: read once, kept in the same cells, and the same answers as alone."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sdk.protocol.messages import system, user
from llamacpp_prefix import count_shared

Ask = Callable[..., Any]
Load = Callable[..., Any]

RULES = system("You answer for a shop that sells boats. Be kind, be short, and name a price. " * 3)
QUESTIONS = [user(f"What does a {boat} cost?") for boat in ("canoe", "raft", "ferry", "yacht")]
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 12, "logit_bias": {2: -100.0}}


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_the_common_beginning_ends_where_two_lists_differ(common: list[int], one: list[int], other: list[int]) -> None:
    held, wanted = common + one, common + other
    count = count_shared(held, wanted)
    assert held[:count] == wanted[:count]
    assert count == min(len(held), len(wanted)) or held[count] != wanted[count]


@pytest.fixture(scope="module")
def alone(load: Load) -> list[str]:
    """What each question is answered where nothing is remembered: with a seed nothing is."""
    from recorded_call import RecordedCall

    from byenatos_sdk.protocol.messages import InferenceRequest, Sampling

    driver, texts = load("smollm2", n_ctx=1024, parallel=1), []
    for question in QUESTIONS:
        call = RecordedCall(InferenceRequest((RULES, question), sampling=Sampling(seed=1, **GREEDY)))
        driver.serve(call)
        call.wait()
        texts.append(call.text)
    return texts


def record(driver: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    driver._engine.between_steps(lambda: None).result(60)  # behind the first step, which it takes by itself
    batches: list[list[Any]] = []
    decode = driver._engine._model.decode

    def record_one(entries: list[Any]) -> None:
        batches.append(entries)
        decode(entries)

    monkeypatch.setattr(driver._engine._model, "decode", record_one)
    return batches


def at_once(driver: Any, send: Callable[[], list[Any]]) -> list[Any]:
    """Have calls arrive between two steps, all together."""
    calls: list[Any] = []
    driver._engine.between_steps(lambda: calls.extend(send())).result(30)
    return calls


@pytest.mark.model
def test_prompts_that_begin_alike_are_read_once_and_answered_as_alone(
    load: Load, ask: Ask, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load("smollm2", n_ctx=2048, parallel=4)
    batches = record(driver, monkeypatch)
    for _ in range(2):  # the second time they find their own, behind holes
        batches.clear()
        calls = at_once(driver, lambda: [ask(driver, RULES, question, **GREEDY) for question in QUESTIONS])
        ends = [call.wait() for call in calls]
        assert [call.text for call in calls] == alone
        prompts = [end.usage.input_tokens for end in ends]
        computed = sum(len(entries) for entries in batches) - sum(end.usage.output_tokens - 1 for end in ends)
        assert computed < min(prompts) + 4 * 16
        assert computed + sum(end.usage.cached_tokens for end in ends) == sum(prompts)
    driver._engine.between_steps(lambda: [driver._engine.forget(one) for one in driver._engine.sequences]).result(30)


@pytest.mark.model
def test_what_is_shared_stays_shared_when_holes_are_closed(
    load: Load, ask: Ask, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load("smollm2", n_ctx=2048, parallel=4)
    calls = at_once(driver, lambda: [ask(driver, RULES, question, **GREEDY) for question in QUESTIONS])
    calls[0].wait_for_deltas(3)
    saved: list[int] = []
    save = driver._engine._model.save

    def measure(sequence: int, start: int = 0) -> bytearray | None:
        data: bytearray | None = save(sequence, start)
        saved.append(len(data or b""))
        return data

    monkeypatch.setattr(driver._engine._model, "save", measure)
    calls[0].cancelled = True  # who has read it goes, and leaves a hole
    ask(driver, user("Hello."), max_tokens=1).wait()
    for call, text in list(zip(calls, alone, strict=True))[1:]:
        call.wait()
        assert call.text == text
    first, *others = sorted(saved, reverse=True)
    assert others
    assert all(size < first * 0.7 for size in others)  # the beginning went out and in once


@pytest.mark.model
@pytest.mark.parametrize("seeds", [(None, None, None), (3, 4, 5)])
def test_short_prompts_are_read_in_one_step_but_those_with_a_seed(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int | None, ...]
) -> None:
    driver = load("smollm2", n_ctx=2048, parallel=4)
    batches = record(driver, monkeypatch)
    texts = [f"{word} {word} {word}" for word in ("canoe", "raft", "ferry")]
    asking = {"raw": True}
    calls = at_once(
        driver,
        lambda: [
            ask(driver, user(text), asking=asking, seed=seed, **GREEDY) for text, seed in zip(texts, seeds, strict=True)
        ],
    )
    for call in calls:
        call.wait()
    together = max(len({entry.sequence for entry in entries if entry.position == 1}) for entries in batches)
    assert together == (3 if seeds == (None, None, None) else 1)
