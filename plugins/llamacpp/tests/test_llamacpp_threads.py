"""Tests of the choice of threads and of layers for a GPU: arithmetic, and the ways without a GPU."""

import asyncio
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

from llamacpp_gguf import Header
from llamacpp_gpu import RESERVE, choose_layers, free_memory, layers_that_fit
from llamacpp_memory import MemoryNeed
from llamacpp_settings import Settings, read_settings
from llamacpp_threads import candidates, fastest

NEED = MemoryNeed(weights=3300, kv=3200, compute=100, output=0, vocabulary=0)  # of 32 layers, and the output


@pytest.mark.parametrize(
    ("cores", "numbers"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_powers_of_two_and_all_cores_are_tried(cores: int, numbers: list[int]) -> None:
    assert candidates(cores) == numbers


@pytest.mark.parametrize(
    ("costs", "best"),
    [({1: 1, 2: 1, 4: 1}, 1), ({1: 4, 2: 2, 4: 1}, 4), ({1: 10, 2: 5, 4: 4.8}, 2), ({1: 2, 2: 9, 4: 9}, 1)],
)
def test_the_least_threads_win_that_are_nearly_as_quick_as_any(
    costs: dict[int, float], best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step(threads: int) -> None:
        now[0] += costs[threads] / 1000

    assert fastest(list(costs), step) == best


@pytest.mark.model
def test_threads_are_measured_unless_they_are_given(load: Callable[..., Any]) -> None:
    measured = asyncio.run(load("smollm2").health()).metrics["threads"]
    assert measured in candidates(Settings().prefill_threads())
    assert asyncio.run(load("smollm2", n_ctx=256, threads=2).health()).metrics["threads"] == 2


@pytest.mark.parametrize(
    ("free", "layers"),
    [
        (RESERVE + 100 + 6500, 33),
        (RESERVE + 100 + 6499, 32),
        (RESERVE + 100 + 2000, 10),
        (RESERVE + 100 + 199, 0),
        (RESERVE, 0),
        (0, 0),
    ],
)
def test_as_many_layers_go_to_a_gpu_as_fit_with_their_context(free: int, layers: int) -> None:
    assert layers_that_fit(32, NEED, free) == layers


def test_without_a_gpu_none_go_there_and_a_given_number_is_kept() -> None:
    header = Header(3, {"general.architecture": "llama", "llama.block_count": 32}, 1, 1, "F16", 1, 1)
    for automatic in ("auto", -1):
        settings = read_settings({"gpu_layers": automatic})
        assert choose_layers(header, NEED, settings, None) == 0
        assert choose_layers(header, NEED, settings, RESERVE + 2100) == 10
    assert choose_layers(header, NEED, read_settings({"gpu_layers": 7}), None) == 7


def test_the_free_memory_is_the_first_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    fake = types.ModuleType("pynvml")
    fake.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: ("gpu", index),
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(free={("gpu", 0): 4242}[handle]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert free_memory() == 4242

    def fail() -> None:
        raise NVMLError

    fake.__dict__["nvmlInit"] = fail
    assert free_memory() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert free_memory() is None
