"""Tests of the memory that a model will take, and of its refusal."""

import asyncio
import importlib.util
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.errors import Unavailable
from llamacpp_available import Bound, bounds, check_memory
from llamacpp_gguf import Array, Header
from llamacpp_memory import MemoryNeed, estimate, token_bytes
from llamacpp_probe import probe_file
from llamacpp_settings import Settings

MIB = 1 << 20
NEED = MemoryNeed(weights=100 * MIB, kv=50 * MIB, compute=5 * MIB, output=MIB, vocabulary=4 * MIB)


def header(architecture: str = "llama", **values: Any) -> Header:
    """A header with eight layers of four heads of 16, of which two hold keys and values."""
    usual = {
        "block_count": 8,
        "embedding_length": 64,
        "feed_forward_length": 128,
        "context_length": 4096,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    values = {key.replace("__", "."): value for key, value in values.items()}
    known = {f"{architecture}.{key}": value for key, value in {**usual, **values}.items()}
    known |= {"general.architecture": architecture, "tokenizer.ggml.tokens": Array(1000, "")}
    return Header(3, {key: value for key, value in known.items() if value is not None}, 9, 0, "F16", 7 * MIB, 8 * MIB)


@pytest.mark.parametrize(
    ("found", "settings", "expected"),
    [
        (header(), {}, 8 * 2 * 2 * 16 * 2),
        (header(), {"cache_type_k": "q8_0", "cache_type_v": "q4_0"}, 8 * (34 + 18)),
        (header(attention__key_length=32, attention__value_length=8), {}, 8 * 2 * (32 + 8) * 2),
        (header(attention__head_count_kv=Array(8, "", (1, 2, 0, 0, 1, 1, 1, 1))), {}, 7 * 2 * 16 * 2),
        (header(attention__head_count_kv=None), {}, 8 * 4 * 2 * 16 * 2),
        (header(attention__key_length_mla=16, attention__key_length=72), {}, 8 * 2 * 72 * 2),
        (header(nextn_predict_layers=1), {}, 7 * 2 * 2 * 16 * 2),
        (header("gemma3n", attention__shared_kv_layers=3), {}, 5 * 2 * 2 * 16 * 2),
    ],
)
def test_a_token_takes_two_times_heads_times_size_in_each_layer(found: Header, settings: Any, expected: int) -> None:
    assert token_bytes(found, Settings(**settings)) == expected


@pytest.mark.parametrize(
    ("architecture", "values", "windowed"),
    [
        ("gemma3", {}, 7),
        ("gemma2", {}, 4),
        ("gpt-oss", {}, 4),
        ("cohere2moe", {}, 6),
        ("other", {"attention.sliding_window_pattern": 4}, 6),
        ("other", {"attention.sliding_window_pattern": Array(8, "", (1, 0, 0, 0, 0, 0, 0, 0))}, 1),
        ("other", {}, 0),
    ],
)
def test_layers_with_a_sliding_window_keep_all_or_only_that(
    architecture: str, values: dict[str, Any], windowed: int
) -> None:
    found = header(architecture, **values, **{"attention.sliding_window": 512})
    whole, narrow = (estimate(found, Settings(full_window=full)).kv for full in (True, False))
    one = 2 * 2 * 16 * 2
    assert whole == 8 * one * 4096
    assert narrow == (8 - windowed) * one * 4096 + windowed * one * 2816  # 512 * 5 + 128, rounded up to 256


def test_states_of_recurrent_layers_are_counted_for_each_sequence() -> None:
    values = {"ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 1}
    found = header("jamba", **values, **{"attention.head_count_kv": Array(8, "", (0, 0, 0, 2, 0, 0, 0, 2))})
    state = (3 * (128 + 32) + 16 * 128) * 4
    assert estimate(found, Settings()).kv == 2 * 2 * 2 * 16 * 2 * 4096 + 6 * state * 5


@settings(deadline=None)
@given(
    values=st.dictionaries(
        st.sampled_from(
            ["block_count", "embedding_length", "feed_forward_length", "context_length", "attention.head_count",
             "attention.head_count_kv", "attention.key_length", "attention.sliding_window", "ssm.inner_size",
             "attention.sliding_window_pattern", "attention.shared_kv_layers", "nextn_predict_layers"]
        ),
        st.integers(-(1 << 63), 1 << 64) | st.just(0) | st.booleans() | st.text(max_size=3)
        | st.lists(st.integers(-9, 9), max_size=3).map(lambda items: Array(len(items), "", tuple(items))),
    ),
    full=st.booleans(),
)  # fmt: skip
def test_a_header_may_say_anything(values: dict[str, Any], full: bool) -> None:
    need = estimate(header(**values), Settings(full_window=full))
    assert min(need.weights, need.kv, need.compute, need.output, need.vocabulary) >= 0
    assert need.private >= need.kv


def test_what_does_not_fit_is_refused_with_all_figures() -> None:
    check_memory("m", NEED, [Bound("b", 60 * MIB, mapped=False), Bound("c", 160 * MIB, mapped=True)])
    with pytest.raises(
        Unavailable,
        match=r"m: expected 60.0 MiB of memory \(weights 100.0 MiB, not counted here; context 50.0 MiB, computing "
        r"6.0 MiB, vocabulary 4.0 MiB\), found 59.0 MiB left \(b\); choose a smaller n_ctx",
    ):
        check_memory("m", NEED, [Bound("b", 59 * MIB, mapped=False)])
    with pytest.raises(Unavailable, match=r"expected 160.0 MiB of memory \(weights 100.0 MiB; .* found 0.0 MiB left"):
        check_memory("m", NEED, [Bound("c", -1, mapped=True)])


def test_the_machine_bounds_every_process() -> None:
    assert all(bound.left > 0 for bound in bounds())
    assert bounds()[-1].mapped


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2", "gemma-3-270m"])
def test_the_estimate_is_what_llama_cpp_allocates(load: Callable[..., Any], name: str) -> None:
    driver = load(name)
    figures = asyncio.run(driver.health()).metrics
    assert figures["kv_estimated_bytes"] == figures["kv_measured_bytes"]
    assert abs(figures["memory_error"]) < 0.02
    metadata = driver.specification.metadata
    assert int(metadata["kv_bytes"]) == 4096 * int(metadata["kv_bytes_per_token"]) == figures["kv_estimated_bytes"]


@pytest.mark.model
def test_the_probe_says_what_a_model_takes(models: Path) -> None:
    found = probe_file(models / "smollm2.gguf").specification
    assert found is not None
    assert found.metadata["kv_bytes_per_token"] == "23040"
    assert abs(int(found.metadata["weights_bytes"]) - found.size_bytes) < 3 * MIB


@pytest.mark.model
def test_a_model_beyond_the_process_s_limit_is_refused_and_a_smaller_context_loads(models: Path) -> None:
    code = f"""
import asyncio, resource, sys
sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
from pathlib import Path
from byenatos_sdk.driver import Model
from driver import LlamaCpp
resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))
for tokens in (8192, 1024):
    driver = LlamaCpp({{}})
    try:
        model = Model("m", Path({str(models / "smollm2.gguf")!r}), {{"n_ctx": tokens}})
        print(asyncio.run(driver.start(model)).context_length)
    except Exception as error:
        print(error.code, error)
asyncio.run(driver.stop())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    refused, loaded = done.stdout.splitlines()
    assert refused.startswith("unavailable smollm2.gguf: expected 20")
    assert "context 180.0 MiB" in refused
    assert "RLIMIT_DATA" in refused
    assert loaded == "1024"


@pytest.mark.model
def test_a_corrupt_model_is_a_typed_error_and_no_crash(driver_class: Any, models: Path, tmp_path: Path) -> None:
    data = bytearray((models / "smollm2.gguf").read_bytes())
    name = data.index(b"blk.3.attn_k.weight") + len(b"blk.3.attn_k.weight")
    data[name + 4 : name + 12] = struct.pack("<Q", 32)  # a row of another length
    path = tmp_path / "corrupt.gguf"
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"corrupt.gguf: (llama.cpp cannot load it|expected)") as found:
        asyncio.run(driver_class({}).start(Model("m", path, {})))
    assert getattr(found.value, "code", "") == "invalid_request"


def test_a_failed_assertion_neither_forks_nor_executes_a_debugger() -> None:
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    import os

    import llamacpp_library  # noqa: F401  (sets the environment before the libraries are loaded)

    assert os.environ["GGML_NO_BACKTRACE"] == "1"
    assert os.environ["GOMP_SPINCOUNT"]
