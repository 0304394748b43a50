"""Tests of the seam behind words that no model would have chosen: it costs no look at the whole vocabulary."""

from collections.abc import Callable
from typing import Any

import pytest

from byenatos_sdk.protocol.messages import assistant, user

pytestmark = pytest.mark.model


@pytest.mark.parametrize("partial", ["The capital of bananas", "One two zebra"])
def test_an_unlikely_word_is_taken_as_it_was_without_a_look_at_all_tokens(
    load: Callable[..., Any], ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, partial: str
) -> None:
    driver = load("gemma-3-270m")
    model = driver._engine._model
    looked: list[int] = []
    by_likelihood = model.by_likelihood

    def record(index: int, count: int) -> Any:
        looked.append(count)
        return by_likelihood(index, count)

    monkeypatch.setattr(model, "by_likelihood", record)
    call = ask(driver, user("What is the capital of France?"), assistant(partial), temperature=0.0, max_tokens=3)
    assert call.wait().usage.output_tokens > 0
    assert looked
    assert max(looked) < 1024
