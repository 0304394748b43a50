"""Tests of vectors, token counts and adapters, with the real models."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_file import write_adapter

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.errors import ContextLengthExceeded, InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import InferenceRequest, Tool, system, user
from llamacpp_adapters import identity
from llamacpp_settings import Adapter

pytestmark = pytest.mark.model

Ask = Callable[..., Any]
Load = Callable[..., Any]
CAT, KITTEN = "The cat sits on the mat.", "A kitten is sitting on a rug."
STOCKS = "Stock markets fell sharply today."


def product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("name", "width"), [("smollm2", 576), ("gemma-3-270m", 640)])
def test_vectors_have_length_one_and_lie_close_for_texts_that_mean_the_same(load: Load, name: str, width: int) -> None:
    driver = load(name)
    vectors, tokens = driver._engine.embed([CAT, KITTEN, STOCKS]).result(60)
    assert [len(vector) for vector in vectors] == [width] * 3
    assert all(math.isclose(product(vector, vector), 1, rel_tol=1e-6) for vector in vectors)
    assert product(vectors[0], vectors[1]) > product(vectors[0], vectors[2]) + 0.05
    assert tokens > 15


def test_many_texts_are_embedded_in_batches_while_an_answer_goes_on(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    call = ask(driver, user("Tell me a story."), max_tokens=30, temperature=0.0, logit_bias={2: -100.0})
    call.wait_for_deltas(1)
    job = driver._engine.embed([f"{CAT} {number}" for number in range(20)])
    vectors, _ = job.result(120)
    assert len(vectors) == 20
    alone, _ = driver._engine.embed([f"{CAT} 7"]).result(60)
    assert product(alone[0], vectors[7]) > 0.999
    assert call.wait().usage.output_tokens == 30


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([CAT, ""], InvalidRequest, "text 2: expected a text to embed, found an empty one"),
        (["word " * 1100], ContextLengthExceeded, "text 1: expected at most 1024 tokens"),
    ],
)
def test_texts_that_cannot_be_embedded_are_refused(load: Load, texts: list[str], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        load("smollm2")._engine.embed(texts).result(60)


def test_no_texts_give_no_vectors(load: Load) -> None:
    assert load("smollm2")._engine.embed([]).result(60) == ([], 0)


def test_tokens_are_counted_with_template_and_tools(load: Load, ask: Ask) -> None:
    driver = load("smollm2")
    messages = (system("Be brief."), user("Hi"))
    several: list[dict[str, Any]] = [{}, {"tools": (Tool("add", "Add numbers"),)}]
    for asking in several:
        counted = driver._engine.count_tokens(InferenceRequest(messages, **asking))
        end = ask(driver, *messages, asking=asking, max_tokens=1).wait()
        assert counted == end.usage.input_tokens > 10


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A folder with the model and two adapters."""
    (tmp_path / "m.gguf").symlink_to(models / "smollm2.gguf")
    write_adapter(tmp_path / "small.gguf", 0.0)
    write_adapter(tmp_path / "large.gguf", 1.0)
    return tmp_path


def answer(driver_class: Any, ask: Ask, folder: Path, lora: list[Any]) -> str:
    driver = driver_class({})
    asyncio.run(driver.start(Model("m", folder / "m.gguf", {"n_ctx": 256, "threads": 1, "lora": lora})))
    call = ask(driver, user("What is the capital of France?"), max_tokens=8, temperature=0.0)
    call.wait()
    asyncio.run(driver.stop())
    return str(call.text)


def test_adapters_beside_the_model_change_its_answers_by_their_scale(driver_class: Any, ask: Ask, folder: Path) -> None:
    plain = answer(driver_class, ask, folder, [])
    assert answer(driver_class, ask, folder, ["small.gguf"]) == plain
    assert answer(driver_class, ask, folder, [{"file": "large.gguf", "scale": 0.0}, "small.gguf"]) == plain
    assert answer(driver_class, ask, folder, ["large.gguf"]) != plain


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.gguf", "lora: none.gguf: cannot be opened: No such file or directory"),
        ("m.gguf", "lora: m.gguf: expected a LoRA adapter, found model"),
        ("short.gguf", "lora: short.gguf: the file is truncated or damaged: expected at least 9"),
        ("rubbish.gguf", "lora: rubbish.gguf: not a GGUF file"),
        ("other.gguf", "lora: other.gguf: expected an adapter for llama, found one for gemma3"),
        ("alora.gguf", "lora: alora.gguf: expected a LoRA adapter, found adapter alora"),
    ],
)
def test_an_adapter_that_is_none_is_refused(driver_class: Any, ask: Ask, folder: Path, name: str, message: str) -> None:
    (folder / "short.gguf").write_bytes((folder / "large.gguf").read_bytes()[:-4])
    (folder / "rubbish.gguf").write_bytes(b"rubbish")
    write_adapter(folder / "other.gguf", 1.0, architecture="gemma3")
    write_adapter(folder / "alora.gguf", 1.0, kind="alora")
    with pytest.raises(InvalidRequest, match=message):
        answer(driver_class, ask, folder, [name])


def test_an_adapter_may_lie_elsewhere(driver_class: Any, ask: Ask, folder: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "large.gguf"
    (folder / "large.gguf").rename(elsewhere)
    assert answer(driver_class, ask, folder, [str(elsewhere)]) != answer(driver_class, ask, folder, [])


def test_the_adapters_and_their_scales_are_part_of_what_a_state_means() -> None:
    folder = Path("/models")
    digests = {"/models/a": "11", "/models/b": "22", "/elsewhere/a": "11"}
    both = identity(folder, ["a", Adapter("b", 0.5)], digests)
    assert both == identity(folder, ["/elsewhere/a", Adapter("b", 0.5)], digests)
    others: list[list[Adapter | str]] = [["a"], ["a", "b"], [Adapter("a", 0.5), "b"]]
    assert len({both, *(identity(folder, other, digests) for other in others)}) == 4
    with pytest.raises(Unavailable, match="lora: c: expected the digest"):
        identity(folder, ["c"], digests)
