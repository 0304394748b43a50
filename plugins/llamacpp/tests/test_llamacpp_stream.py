"""Tests of answers that are suspended, made again, and answered in company: their tokens stay the same."""

from collections.abc import Callable
from typing import Any

import pytest
from recorded_call import RecordedCall

from byenatos_sdk.protocol.messages import InferenceRequest, Logprobs, Sampling, Tool, ToolCallDelta, user

pytestmark = pytest.mark.model

Ask = Callable[..., Any]
Load = Callable[..., Any]

STORY = user("Tell me a story about a lighthouse keeper.")
LIST = {
    "type": "object",
    "properties": {"words": {"type": "array", "items": {"type": "string", "maxLength": 9}, "minItems": 5}},
    "required": ["words"],
}
TOOL = Tool(
    "note", "", {"type": "object", "properties": {"text": {"type": "string", "maxLength": 30}}, "required": ["text"]}
)
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": LIST}}
GRAMMAR = {"grammar": 'root ::= ([a-z]{1,7} [ \\n])+ "END"'}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({"temperature": 0.0, "max_tokens": 36, "logit_bias": {2: -100.0}}, {}),
    "seeded": ({"temperature": 1.0, "seed": 11, "max_tokens": 36, "logit_bias": {2: -100.0}}, {}),
    "schema": ({"temperature": 0.8, "seed": 12, "max_tokens": 36}, {"response_format": FORMAT}),
    "grammar": ({"temperature": 1.0, "seed": 13, "max_tokens": 36}, {"extra": GRAMMAR}),
    "penalised": ({"temperature": 0.7, "seed": 14, "max_tokens": 36, "presence_penalty": 1.0, "top_k": 0}, {}),
}


@pytest.fixture(scope="module")
def alone(load: Load) -> dict[str, str]:
    """What each way gives without company and with room."""
    driver, texts = load("smollm2", n_ctx=1024, parallel=1), {}
    for name, (sampling, asking) in WAYS.items():
        call = RecordedCall(InferenceRequest((STORY,), sampling=Sampling(**sampling), **asking))
        driver.serve(call)
        call.wait()
        texts[name] = call.text
    return texts


def test_answers_are_the_same_alone_in_company_and_after_being_suspended(
    load: Load, ask: Ask, alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load("smollm2", n_ctx=256, parallel=5)  # five answers of 70 tokens do not fit
    suspended: list[bool] = []
    suspend = driver._engine._suspend_youngest
    monkeypatch.setattr(driver._engine, "_suspend_youngest", lambda: suspended.append(suspend() is None))
    calls = {name: ask(driver, STORY, asking=asking, **sampling) for name, (sampling, asking) in WAYS.items()}
    for name, call in calls.items():
        call.wait()
        assert call.text == alone[name], name
    assert suspended


def test_an_answer_whose_context_could_not_be_kept_is_read_again(
    load: Load, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = load("smollm2", n_ctx=256, parallel=5)
    monkeypatch.setattr(driver._engine._model, "save", lambda *_: None)
    sampling, _ = WAYS["greedy"]
    calls = [ask(driver, STORY, **sampling | {"max_tokens": 80}) for _ in range(3)]
    assert [call.wait().usage.output_tokens for call in calls] == [80] * 3


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("stop", [2, 25])
def test_an_answer_that_is_made_again_from_its_tokens_goes_on_as_it_would_have(
    load: Load, alone: dict[str, str], name: str, stop: int
) -> None:
    driver = load("smollm2", n_ctx=1024, parallel=1)
    sampling, asking = WAYS[name]
    request = InferenceRequest((STORY,), sampling=Sampling(**sampling), **asking)
    first, progress, known = cut(driver, request, stop)
    second = again(driver, request, progress, known, first.text)
    second.wait()
    assert first.text + second.text == alone[name]


def test_the_seed_that_was_drawn_is_part_of_what_an_answer_is_made_from(load: Load) -> None:
    driver = load("smollm2", n_ctx=1024, parallel=1)
    request = InferenceRequest((STORY,), sampling=Sampling(temperature=1.3, max_tokens=30))
    first, progress, known = cut(driver, request, 10)
    rests = set()
    for _ in range(3):
        call = again(driver, request, progress, known, first.text)
        call.wait()
        rests.add(call.text)
    assert len(rests) == 1


def test_a_call_of_a_tool_is_made_once_by_an_answer_that_is_made_again(load: Load) -> None:
    driver = load("smollm2", n_ctx=1024, parallel=1)
    sampling = Sampling(temperature=0.0, max_tokens=80, logprobs=1, seed=1)
    request = InferenceRequest((STORY,), sampling=sampling, tools=(TOOL,), tool_choice="required")
    whole = RecordedCall(request)
    driver.serve(whole)
    whole.wait()
    first, progress, known = cut(driver, request, 12)
    second = again(driver, request, progress, known, first.text)
    second.wait()
    assert first.deltas == []
    assert second.deltas == whole.deltas
    assert isinstance(second.deltas[0], ToolCallDelta)


def test_log_probabilities_go_on_where_an_answer_is_made_again(load: Load) -> None:
    driver = load("smollm2", n_ctx=1024, parallel=1)
    request = InferenceRequest((STORY,), sampling=Sampling(temperature=0.0, max_tokens=20, logprobs=1))
    whole = RecordedCall(request)
    driver.serve(whole)
    whole.wait()
    first, progress, known = cut(driver, request, 9)
    second = again(driver, request, progress, known, first.text)
    second.wait()
    assert tokens(first) + tokens(second) == tokens(whole)


def tokens(call: RecordedCall) -> list[Any]:
    return [token for delta in call.deltas if isinstance(delta, Logprobs) for token in delta.tokens]


def cut(driver: Any, request: InferenceRequest, stop: int) -> tuple[RecordedCall, Any, list[int]]:
    """Answer ``stop`` tokens; return the call, its progress and its tokens, after it was cancelled."""
    call = RecordedCall(request)
    call.id = 77
    taken: list[Any] = []

    def look() -> object:
        from llamacpp_engine import AGAIN

        stream = driver._engine.answer(77)
        if stream is None or stream.answer_tokens < stop:
            return AGAIN
        taken.append((stream.progress(len(stream.tokens)), list(stream.tokens)))
        call.cancelled = True
        return None

    job = driver._engine.between_steps(look)
    driver.serve(call)
    job.result(60)
    return call, *taken[0]


def again(driver: Any, request: InferenceRequest, progress: Any, known: list[int], said: str) -> RecordedCall:
    """Have the engine go on with an answer that was cut."""
    from llamacpp_stream import Stream

    call, engine = RecordedCall(request), driver._engine

    def adopt() -> None:
        stream = Stream(
            call, engine._model, engine._template, engine._settings, progress=progress, known=known, said=said
        )
        sequence = engine.take_free()
        engine.forget(sequence)
        engine.adopt(sequence, stream)

    engine.between_steps(adopt).result(60)
    return call
