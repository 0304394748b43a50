"""Tests of the whole driver with real models: what it answers, and that its answers share one engine in peace."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Sampling,
    TextDelta,
    assistant,
    user,
)
from llamacpp_library import llama

pytestmark = pytest.mark.model

CAPITAL = user("What is the capital of France? Answer in one sentence.")
LONG = user("Explain how a computer works, in three paragraphs.")
GREEDY: dict[str, Any] = {"temperature": 0.0}

Ask = Callable[..., Any]
Load = Callable[..., Any]


def test_a_question_is_answered(load: Load, ask: Ask) -> None:
    call = ask(load("smollm2"), CAPITAL, **GREEDY)
    end = call.wait()
    assert isinstance(end, Finish)
    assert end.reason == "stop"
    assert "Paris" in call.text
    assert (end.usage.input_tokens or 0) > 10
    assert 1 < (end.usage.output_tokens or 0) < 40


def test_the_loaded_model_says_which_context_it_has(load: Load) -> None:
    found = load("smollm2").specification
    assert (found.id, found.architecture, found.context_length) == ("smollm2", "llama", 4096)
    assert "continue" in found.features


def test_a_base_model_without_a_template_answers(load: Load, ask: Ask) -> None:
    call = ask(load("gemma-3-270m"), CAPITAL, **GREEDY)
    call.wait()
    assert "Paris" in call.text
    assert "Question:" not in call.text
    assert call.text == call.text.lstrip()


def test_a_model_whose_weights_are_rearranged_answers(load: Load, ask: Ask) -> None:
    if b"AMX_INT8" in llama.llama_print_system_info():
        pytest.skip("llama.cpp is compiled with AMX, of which it may die (plugins/llamacpp/README.md)")
    call = ask(load("smollm2", repack=True, n_ctx=512), CAPITAL, **GREEDY)
    assert isinstance(call.wait(), Finish)
    assert "Paris" in call.text


@pytest.mark.parametrize("name", ["smollm2", "gemma-3-270m"])
@pytest.mark.parametrize(("partial", "rest"), [("The capital of", " France"), ("The capital of Fr", "ance is Paris")])
def test_a_partial_answer_is_continued_even_in_the_middle_of_a_word(
    load: Load, ask: Ask, name: str, partial: str, rest: str
) -> None:
    call = ask(load(name), CAPITAL, assistant(partial), max_tokens=12, **GREEDY)
    call.wait()
    assert call.text.startswith(rest)


def test_a_greedy_answer_goes_on_in_the_same_words_wherever_it_is_cut(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    whole = ask(driver, CAPITAL, **GREEDY)
    whole.wait()
    for place in range(1, len(whole.text)):
        rest = ask(driver, CAPITAL, assistant(whole.text[:place]), **GREEDY)
        rest.wait()
        assert whole.text[:place] + rest.text == whole.text


@pytest.mark.parametrize("partial", ["The capital of", "The capital of Fr"])
def test_the_last_word_of_a_partial_answer_costs_no_step_of_its_own(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch, partial: str
) -> None:
    driver = load("smollm2")
    batches: list[int] = []
    decode = driver._engine._model.decode

    def record(entries: list[Any]) -> None:
        batches.append(len(entries))
        decode(entries)

    ask(driver, CAPITAL, max_tokens=1, **GREEDY).wait()  # the question is read
    monkeypatch.setattr(driver._engine._model, "decode", record)
    ask(driver, CAPITAL, assistant(partial), max_tokens=4, **GREEDY).wait()
    assert len(batches) == 4


def test_another_model_goes_on_where_one_was_cut(load: Load, ask: Ask) -> None:
    first = ask(load("smollm2"), LONG, max_tokens=40, **GREEDY)
    assert first.wait().reason == "length"
    rest = ask(load("gemma-3-270m"), LONG, assistant(first.text), max_tokens=20, **GREEDY)
    assert isinstance(rest.wait(), Finish)
    assert rest.text
    assert not rest.text.startswith(first.text[:20])


def test_four_calls_at_once_all_finish(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    calls = [ask(driver, CAPITAL, **GREEDY) for _ in range(4)]
    for call in calls:
        assert call.wait().reason == "stop"
        assert "Paris" in call.text


def test_more_calls_than_sequences_wait_and_are_answered(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    calls = [ask(driver, CAPITAL, max_tokens=5, **GREEDY) for _ in range(9)]
    assert [call.wait().usage.output_tokens for call in calls] == [5] * 9


def test_answers_that_outgrow_the_shared_context_are_suspended_and_finished(load: Load, ask: Ask) -> None:
    driver = load("smollm2", n_ctx=256, parallel=3)
    calls = [ask(driver, LONG, max_tokens=70, logit_bias={2: -100.0}) for _ in range(3)]  # 3 * (40 + 70) tokens
    ends = [call.wait() for call in calls]
    assert [end.usage.output_tokens for end in ends] == [70] * 3
    assert driver.specification.context_length == 256


def test_an_answer_that_reaches_the_end_of_the_context_ends_as_too_long(load: Load, ask: Ask) -> None:
    driver = load("smollm2", n_ctx=256, parallel=3)
    end = ask(driver, LONG, logit_bias={2: -100.0}).wait()
    assert end.reason == "length"
    assert end.usage.input_tokens + end.usage.output_tokens == 256


def test_a_conversation_longer_than_the_context_is_refused_with_both_figures(load: Load, ask: Ask) -> None:
    driver = load("smollm2", n_ctx=256, parallel=3)
    end = ask(driver, user("word " * 400)).wait()
    assert isinstance(end, Failure)
    assert end.code == "context_length_exceeded"
    assert "expected fewer than 256 tokens" in end.message


def test_a_request_that_cannot_be_served_ends_in_a_failure_and_disturbs_nobody(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    beside = ask(driver, CAPITAL, **GREEDY)
    end = ask(driver, CAPITAL, logprobs=99).wait()
    assert (end.code, end.message) == ("invalid_request", "sampling.logprobs: expected 0 to 20, found 99")
    assert beside.wait().reason == "stop"


def test_a_cancelled_call_stops_within_a_step(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    call = ask(driver, LONG, max_tokens=2000, logit_bias={2: -100.0})
    call.wait_for_deltas(3)
    call.cancelled = True
    seen = len(call.deltas)
    assert ask(driver, CAPITAL, max_tokens=4, **GREEDY).wait().reason == "length"
    assert len(call.deltas) <= seen + 2  # what the running step had begun
    assert call.end is None


def test_a_long_prompt_is_read_in_pieces_between_the_tokens_of_others(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load("smollm2")
    batches: list[tuple[int, bool]] = []
    decode = driver._engine._model.decode

    def record(entries: list[Any]) -> None:
        batches.append((len(entries), len({entry.sequence for entry in entries}) == len(entries)))
        decode(entries)

    monkeypatch.setattr(driver._engine._model, "decode", record)
    running = [ask(driver, LONG, max_tokens=200, logit_bias={2: -100.0}, **GREEDY) for _ in range(2)]
    for call in running:
        call.wait_for_deltas(2)
    batches.clear()
    arriving = [ask(driver, user("word " * count), max_tokens=1) for count in (1300, 100)]
    arriving[1].wait()
    assert arriving[0].end is None  # the shorter one did not wait for the longer
    arriving[0].wait()
    for call in running:
        call.cancelled = True
    pieces = [place for place, (_, answers) in enumerate(batches) if not answers]
    assert len(pieces) >= 1300 // 64
    assert all(size <= 128 for size, _ in batches)
    assert all(batches[place - 1][1] for place in pieces)  # never two pieces without a token of the others between


def test_a_cancelled_prompt_is_left_in_the_middle_of_a_step(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llamacpp_model import Aborted

    driver = load("smollm2", n_ctx=2048, prefill_chunk=1536, exact_tokens=0, parallel=2)
    driver._engine.between_steps(lambda: None).result(60)  # behind the first step, which it takes by itself
    steps: list[type] = []
    decode = driver._engine._model.decode
    begun = threading.Event()

    def record(entries: list[Any]) -> None:
        begun.set()
        try:
            decode(entries)
        except Aborted:
            steps.append(Aborted)
            raise
        steps.append(list)

    monkeypatch.setattr(driver._engine._model, "decode", record)
    call = ask(driver, user("word " * 1400), max_tokens=1)
    assert begun.wait(60)
    call.cancelled = True
    assert ask(driver, CAPITAL, max_tokens=4, **GREEDY).wait().reason == "length"
    assert steps[0] is Aborted
    assert call.end is None


def test_a_congested_call_pauses_and_goes_on(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    call = ask(driver, LONG, max_tokens=60, logit_bias={2: -100.0})
    call.wait_for_deltas(3)
    call.congested = True
    assert ask(driver, CAPITAL, max_tokens=6, **GREEDY).wait().reason == "length"
    seen = len(call.deltas)
    assert ask(driver, CAPITAL, max_tokens=6, **GREEDY).wait().reason == "length"
    assert len(call.deltas) == seen
    call.congested = False
    driver.uncongested()
    assert call.wait().usage.output_tokens == 60


def test_an_answer_ends_before_its_stop_sequence(load: Load, ask: Ask) -> None:
    call = ask(load("smollm2"), CAPITAL, stop=("ance is Par",), **GREEDY)
    assert call.wait().reason == "stop"
    assert call.text == "The capital of Fr"


def test_an_answer_ends_after_max_tokens(load: Load, ask: Ask) -> None:
    end = ask(load("smollm2"), LONG, max_tokens=7).wait()
    assert (end.reason, end.usage.output_tokens) == ("length", 7)


def test_the_same_seed_gives_the_same_answer_and_another_another(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    texts = []
    for seed in (7, 7, 8):
        call = ask(driver, LONG, max_tokens=40, temperature=1.0, seed=seed)
        call.wait()
        texts.append(call.text)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("name", ["smollm2", "gemma-3-270m"])
def test_the_next_turn_of_a_conversation_does_not_read_the_first_again(load: Load, ask: Ask, name: str) -> None:
    driver, question = load(name), user("Say how radios work, in three paragraphs.")
    begun = "A radio"  # else it may begin with line breaks, which the transcript does not keep
    first = ask(driver, question, assistant(begun), max_tokens=30, **GREEDY)
    before = first.wait().usage
    second = ask(driver, question, assistant(begun + first.text), user("And a phone?"), max_tokens=5, **GREEDY)
    assert second.wait().usage.cached_tokens > before.input_tokens


def test_infer_answers_like_serve(load: Load) -> None:
    async def collect() -> tuple[str, Any]:
        request = InferenceRequest((CAPITAL,), sampling=Sampling(temperature=0.0))
        deltas = [delta async for delta in load("smollm2").infer(request)]
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), deltas[-1]

    text, end = asyncio.run(collect())
    assert "Paris" in text
    assert isinstance(end, Finish)


def test_stopping_ends_what_is_running_as_draining(driver_class: Any, models: Path, ask: Ask) -> None:
    driver = driver_class({})
    asyncio.run(driver.start(Model("m", models / "smollm2.gguf", {"n_ctx": 512})))
    call = ask(driver, LONG)
    call.wait_for_deltas(1)
    asyncio.run(driver.stop())
    assert call.wait().code == "draining"
    assert asyncio.run(driver.health()).status == "down"


def test_after_a_failed_step_the_driver_says_so_and_every_call_ends(
    driver_class: Any, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("llama_decode failed with code -3")

    driver = driver_class({})
    asyncio.run(driver.start(Model("m", models / "smollm2.gguf", {"n_ctx": 512})))
    call = ask(driver, LONG)
    call.wait_for_deltas(1)
    monkeypatch.setattr(driver._engine._model, "decode", fail)
    for failed in (call, ask(driver, CAPITAL)):
        end = failed.wait()
        assert (end.code, "code -3" in end.message) == ("unavailable", True)
    health = asyncio.run(driver.health())
    assert (health.status, "code -3" in health.detail) == ("down", True)
    asyncio.run(driver.stop())


def test_a_file_that_is_no_model_is_refused_before_llama_cpp_sees_it(driver_class: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(InvalidRequest, match=r"x.gguf: not a GGUF file: expected the magic"):
        asyncio.run(driver_class({}).start(Model("x", path, {})))


def test_a_file_that_llama_cpp_cannot_load_is_refused_with_its_words(
    driver_class: Any, models: Path, tmp_path: Path
) -> None:
    data = bytearray((models / "smollm2.gguf").read_bytes())
    place = data.index(b"general.architecture") + len(b"general.architecture") + 12
    data[place : place + 5] = b"lxama"
    data = data.replace(b"llama.", b"lxama.")
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"llama.cpp cannot load it: .*lxama"):
        asyncio.run(driver_class({}).start(Model("x", path, {})))
