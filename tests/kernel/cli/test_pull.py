"""Pulling from a path: the models folder holds either nothing new or the whole, checked file."""

import errno
import hashlib
import json
from pathlib import Path

import pytest

from byenatos_kernel.cli.meter import SilentMeter
from byenatos_kernel.cli.pull import pull
from byenatos_kernel.cli.staging import Growing, Staging
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Overloaded

CONTENT = b"GGUF" + bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(CONTENT)
    return path


def names(home: Home) -> list[str]:
    return sorted(path.name for path in home.models.iterdir()) if home.models.exists() else []


def test_a_file_is_copied_into_the_models_folder(source, home):
    pulled = pull(str(source), home.models, SilentMeter())
    assert (pulled.model, pulled.sha256, pulled.size_bytes) == ("tiny", SHA256, len(CONTENT))
    assert Path(pulled.path).read_bytes() == CONTENT
    assert names(home) == ["tiny.gguf"]


def test_a_file_that_is_there_is_not_copied_again(source, home):
    pull(str(source), home.models, SilentMeter())
    assert pull(str(source), home.models, SilentMeter()).already_there


def test_another_file_of_the_same_name_is_left_as_it_is(source, home):
    home.models.mkdir(parents=True)
    (home.models / "tiny.gguf").write_bytes(b"mine")
    with pytest.raises(InvalidRequest, match="--as ID"):
        pull(str(source), home.models, SilentMeter())
    assert (home.models / "tiny.gguf").read_bytes() == b"mine"


def test_a_model_is_stored_under_the_id_that_was_asked_for(source, home):
    assert pull(str(source), home.models, SilentMeter(), name="other-1.5").model == "other-1.5"
    assert names(home) == ["other-1.5.gguf"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b"])
def test_an_id_that_is_no_file_name_is_refused(source, home, name):
    with pytest.raises(InvalidRequest):
        pull(str(source), home.models, SilentMeter(), name=name)
    assert names(home) == []


def test_a_file_with_the_given_hash_is_taken(source, home):
    assert pull(str(source), home.models, SilentMeter(), sha256=SHA256.upper()).sha256 == SHA256


def test_a_file_with_another_hash_is_refused_and_nothing_is_left(source, home):
    with pytest.raises(ByenatosError, match=f"expected a file with SHA-256 {'0' * 64}, found {SHA256}"):
        pull(str(source), home.models, SilentMeter(), sha256="0" * 64)
    assert names(home) == []


def test_a_hash_that_is_none_is_refused(source, home):
    with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
        pull(str(source), home.models, SilentMeter(), sha256="abc")


def test_an_unknown_name_is_answered_with_the_known_ones(home):
    with pytest.raises(NotFound, match="gemma-3-270m, smollm2"):
        pull("smolm", home.models, SilentMeter())


@pytest.mark.parametrize("source", ["~nobody-of-that-name/x.gguf", "~"])
def test_a_home_that_nobody_has_is_a_name_like_any_other(home, monkeypatch, source):
    monkeypatch.setenv("HOME", str(home.path / "nowhere"))
    with pytest.raises(NotFound, match="no such file"):
        pull(source, home.models, SilentMeter())


@pytest.mark.parametrize(
    "url", ["http://[::1/x.gguf", "http://host:99999/x.gguf", "http://host:port/x", "ftp://host/x"]
)
def test_an_address_that_is_none_is_refused(home, url):
    with pytest.raises(InvalidRequest, match="expected an address like"):
        pull(url, home.models, SilentMeter())


def test_a_folder_is_no_model(tmp_path, home):
    with pytest.raises(InvalidRequest, match="expected a model's file"):
        pull(str(tmp_path), home.models, SilentMeter())


def test_a_full_disk_leaves_nothing_behind_and_says_what_to_do(source, home, monkeypatch):
    def full(self: Growing, chunk: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(home.models))

    monkeypatch.setattr(Growing, "write", full)  # the one thing that a test cannot do to a real disk
    with pytest.raises(ByenatosError, match="the disk is full; make room"):
        pull(str(source), home.models, SilentMeter())
    assert names(home) == []


def test_a_pull_that_the_disk_cannot_hold_is_refused_before_it_begins(home):
    with Staging(home.models, "huge.gguf") as staging, pytest.raises(ByenatosError, match="of free space"):
        staging.reserve(1 << 60)
    assert names(home) == []


def test_two_pulls_of_one_model_do_not_mix(source, home):
    with Staging(home.models, "tiny.gguf"), pytest.raises(Overloaded, match="by another process"):
        pull(str(source), home.models, SilentMeter())
    assert pull(str(source), home.models, SilentMeter()).sha256 == SHA256


def test_the_unfinished_file_is_hidden_from_the_kernel(home):
    with Staging(home.models, "tiny.gguf") as staging:
        staging.part.write_bytes(b"half")
    assert names(home) == [".pull-tiny.gguf"]


def test_the_command_prints_what_it_did_as_lines_of_json(source, home, run):
    outcome = run("models", "pull", str(source), "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == {
        "model": "tiny",
        "path": str(home.models / "tiny.gguf"),
        "sha256": SHA256,
        "size_bytes": len(CONTENT),
        "already_there": False,
    }


def test_the_command_shows_at_most_a_line_for_each_tenth(source, run):
    lines = [line for line in run("models", "pull", str(source)).out.splitlines() if " % of " in line]
    assert lines[-1].startswith("tiny: copying: 100 %")
    assert len(lines) == len(set(lines)) <= 11


def test_the_command_can_put_a_model_into_another_folder(source, run, tmp_path):
    assert run("models", "pull", str(source), "--into", str(tmp_path / "there")).code == 0
    assert (tmp_path / "there" / "tiny.gguf").read_bytes() == CONTENT


def test_an_id_for_two_models_at_once_is_wrong_usage(source, run):
    assert run("models", "pull", str(source), "smollm2", "--as", "one").code == 2
