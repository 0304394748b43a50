"""Memory that llama.cpp only clears is given back, and what is computed is the same with and without that."""

import ctypes
from pathlib import Path

import pytest

import llamacpp_pages
from llamacpp_library import llama
from llamacpp_model import Entry, LlamaModel
from llamacpp_probe import read_model
from llamacpp_settings import read_settings

pytestmark = pytest.mark.model

CONTEXT_MIB = 4096 * 23_040 >> 20


def anonymous_mib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("Anonymous"))


def logits_after_some_tokens(model: LlamaModel) -> list[float]:
    model.decode([Entry(token, position, 0, position == 19) for position, token in enumerate(range(100, 120))])
    logits: list[float] = llama.llama_get_logits_ith(model.context, 19)[: model.vocabulary]
    return logits


def loaded(models: Path) -> tuple[int, list[float]]:
    """By how much loading a model has this process grow, in MiB, and what it computes."""
    before = anonymous_mib()
    settings = read_settings({})
    header, _ = read_model(models / "smollm2.gguf", settings)
    model = LlamaModel(models / "smollm2.gguf", settings, header)
    grown = anonymous_mib() - before
    logits = logits_after_some_tokens(model)
    model.close()
    return grown, logits


def test_a_context_takes_no_memory_before_use_and_computes_the_same(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown, logits = loaded(models)

    def built_in_another_way() -> None:
        raise OSError

    monkeypatch.setattr(llamacpp_pages, "_ggml", built_in_another_way)
    grown_whole, logits_whole = loaded(models)
    assert grown < CONTEXT_MIB / 2 < grown_whole - grown
    assert logits == logits_whole


def test_the_function_that_allocates_is_put_back_and_what_is_not_zeros_stays(models: Path) -> None:
    ggml = llamacpp_pages._ggml()
    kind = ggml.ggml_backend_cpu_buffer_type()
    slots = ctypes.cast(kind, ctypes.POINTER(ctypes.c_void_p))
    before = slots[1]
    size = 1 << 20
    with llamacpp_pages.without_cleared_pages():
        cleared, written = (ggml.ggml_backend_buft_alloc_buffer(kind, size) for _ in range(2))
        places = [ggml.ggml_backend_buffer_get_base(buffer) for buffer in (cleared, written)]
        for place in places:
            ctypes.memset(place, 0, size)
        ctypes.memset(places[1] + size - 1, 7, 1)
    assert slots[1] == before
    assert ctypes.string_at(places[0], size) == bytes(size)
    assert ctypes.string_at(places[1], size) == bytes(size - 1) + b"\7"
    for buffer in (cleared, written):
        ggml.ggml_backend_buffer_free(buffer)
