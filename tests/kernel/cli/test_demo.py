"""The demonstration proves itself, and fails where it cannot."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from byenatos_kernel.cli.rehearsal import Report


def test_without_its_models_the_demonstration_fails_and_says_what_to_pull(run):
    outcome = run("demo")
    assert outcome.code == 1
    assert "byenatos models pull smollm2" in outcome.error
    assert "kernel stopped" in outcome.out
    assert run("status").code == 3


@pytest.mark.model
def test_the_demonstration_holds_twice_on_real_models(run, home):
    folder = os.environ.get("BYENATOS_TEST_MODELS")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder")
    home.models.mkdir(parents=True)
    for name in ("smollm2.gguf", "gemma-3-270m.gguf"):
        shutil.copy(Path(folder) / name, home.models)
    first = run("demo", "--keep")
    assert first.code == 0, first.error
    assert "The capital of France is Paris" in first.out
    assert first.out.count("⟨smollm2 → gemma-3-270m") == 1
    second = run("demo", "--json")  # finds the slot bound to the second model
    report = msgspec.json.decode(second.out, type=Report)
    assert (second.code, report.ok) == (0, True)
    assert run("down").code == 0
