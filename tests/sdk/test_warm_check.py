"""What authors of warm state test with: it passes a driver that keeps the contract, and names what another breaks."""

from pathlib import Path

import pytest

from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import InferenceRequest, user
from byenatos_sdk.testing import check_warm_state

ABACUS = Path(__file__).parents[1] / "system" / "harness" / "abacus.py"
MANIFEST = """
[plugin]
id = "abacus"
version = "1"
entry = "driver:Abacus"
[permissions]
arena_mib = 1
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "abacus"
    folder.mkdir()
    (folder / "plugin.toml").write_text(MANIFEST)
    (folder / "driver.py").write_text(ABACUS.read_text())
    return folder


def counting(**more):
    return InferenceRequest((user("count"),), extra={"abacus": {"tokens": 60, "rate": 400, **more}})


def test_a_driver_that_keeps_the_contract_passes(folder):
    check_warm_state(folder, counting())


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (".frozen = True", ".frozen = False", "freeze: expected an answer that says nothing more"),
        ("answer.done = said", "answer.done = said + 1", "resume: expected '.*' after"),
        (
            "\n        self._answers[subject].frozen = False",
            "",
            "thaw: expected the answer to go on, found that the driver",
        ),
        ("raise missing(subject)", "raise KeyError(subject)", "reach: expected NotFound .* found internal"),
        ("Fingerprint(layout, ", "Fingerprint(self._own, ", "one fingerprint"),
        ("class Abacus(WarmState, Driver)", "class Abacus(Driver)", "expected a driver that inherits from WarmState"),
        ("Holding(subject, done,", "Holding(subject, done + 1,", "export: expected more up to position 61"),
    ],
)
def test_what_a_driver_does_otherwise_is_named(folder, monkeypatch, right, wrong, said):
    monkeypatch.setattr("byenatos_sdk.testing.driver_process.PATIENCE_S", 1.0)
    code = ABACUS.read_text()
    assert right in code
    (folder / "driver.py").write_text(code.replace(right, wrong))
    with pytest.raises(AssertionError, match=said):
        check_warm_state(folder, counting())


def test_a_refusal_is_raised_as_it_is(folder):
    with pytest.raises(Unavailable, match="takes nobody's beads"):
        check_warm_state(folder, counting(fault="restore refuses"))


def test_an_answer_that_is_too_short_to_be_caught_is_said_to_be(folder):
    with pytest.raises(AssertionError, match="ask for a longer one"):
        check_warm_state(folder, InferenceRequest((user("count"),), extra={"abacus": {"tokens": 2}}))
