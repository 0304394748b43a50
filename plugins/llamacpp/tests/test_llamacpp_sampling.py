"""Tests of the sampling settings and of the position-keyed draw."""

import importlib.util
from pathlib import Path

import pytest

if importlib.util.find_spec("llama_cpp") is None:
    pytest.skip("llama-cpp-python is not installed", allow_module_level=True)

from byenatos_sdk.manifest import read_manifest
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Sampling
from llamacpp_sampling import check_sampling, draw_seed
from llamacpp_settings import Settings, read_settings


def test_a_draw_is_decided_by_seed_and_position() -> None:
    draws = [draw_seed(seed, position) for seed in (0, 1, -5, 1 << 70) for position in range(1000)]
    assert draws == [draw_seed(seed, position) for seed in (0, 1, -5, 1 << 70) for position in range(1000)]
    assert len(set(draws)) == len(draws)
    assert all(0 <= draw < 0xFFFFFFFF for draw in draws)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(temperature=2.5), r"sampling.temperature: expected 0.0 to 2.0, found 2.5"),
        (Sampling(temperature=float("nan")), "sampling.temperature"),
        (Sampling(top_p=-0.1), "sampling.top_p"),
        (Sampling(max_tokens=0), "sampling.max_tokens: expected 1 to"),
        (Sampling(logit_bias={100: 1.0}), "expected a token below 100"),
        (Sampling(logit_bias={1: float("inf")}), "and a number, found 1: inf"),
    ],
)
def test_values_that_mean_nothing_are_refused(sampling: Sampling, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_sampling(sampling, vocabulary=100)


def test_the_manifest_says_what_the_defaults_are() -> None:
    manifest = read_manifest(Path(__file__).resolve().parent.parent)
    assert manifest.settings == {name: getattr(Settings(), name) for name in Settings.__struct_fields__}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_ctxt": 1}, "llamacpp settings: Object contains unknown field `n_ctxt`"),
        ({"parallel": 0}, "parallel"),
        ({"cache_type_k": "q5"}, "cache_type_k"),
    ],
)
def test_wrong_settings_are_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_settings(given)


def test_threads_are_bounded_by_what_the_sandbox_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Settings().prefill_threads() == 1
    assert Settings(batch_threads=3).prefill_threads() == 3
    assert Settings().decode_threads(100 << 20) == 1
