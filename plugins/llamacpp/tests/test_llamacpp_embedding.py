"""Tests of vectors, token counts and adapters, with the real models."""

import asyncio
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.errors import ContextLengthExceeded, InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Tool, system, user

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


def adapter(path: Path, size: float) -> None:
    """Write a LoRA adapter of rank 2 for one matrix of SmolLM2's."""
    width, rank = 576, 2

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    values = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
    }
    head = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in values.items())
    head += text("adapter.lora.alpha") + struct.pack("<If", 6, 2.0)
    tensors = {"lora_a": (width, rank), "lora_b": (rank, width)}
    place = 0
    for name, shape in tensors.items():
        head += text(f"blk.0.attn_q.weight.{name}") + struct.pack("<IQQIQ", 2, *shape, 0, place)
        place += width * rank * 4
    data = b"GGUF" + struct.pack("<IQQ", 3, 2, 4) + head
    data += b"\0" * (-len(data) % 32)
    data += struct.pack(f"<{2 * width * rank}f", *(size * math.sin(at) for at in range(2 * width * rank)))
    path.write_bytes(data)


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A folder with the model and two adapters."""
    (tmp_path / "m.gguf").symlink_to(models / "smollm2.gguf")
    adapter(tmp_path / "small.gguf", 0.0)
    adapter(tmp_path / "large.gguf", 1.0)
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
        ("none.gguf", "none.gguf: cannot be opened: No such file or directory; an adapter lies beside its model"),
        ("../m.gguf", "lora: expected the name of a file beside the model's"),
        ("m.gguf", "lora: m.gguf: llama.cpp cannot load it"),
    ],
)
def test_an_adapter_that_is_none_is_refused(driver_class: Any, ask: Ask, folder: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        answer(driver_class, ask, folder, [name])
