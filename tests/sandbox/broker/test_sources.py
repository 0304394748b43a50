"""Where keys come from, and which files are no place for one."""

import os
import sys

import pytest

from byenatos_sandbox.broker.messages import Source
from byenatos_sandbox.broker.sources import MAX_KEY, SecretError, Sources


def sources(path=None, **environment) -> Sources:
    found = Sources(environment)
    found.replace({"a": Source(file=str(path)) if path is not None else Source(environment="A_KEY")})
    return found


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text("sk-0123456789\n")
    return path


def problem(found: Sources) -> str:
    with pytest.raises(SecretError) as error:
        found.read("a")
    return str(error.value)


def test_a_private_file_is_read_without_its_line_break(key):
    assert sources(key).read("a") == b"sk-0123456789"


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_changes_is_read_again(key, replaced):
    found = sources(key)
    found.read("a")
    new = key.with_name("new") if replaced else key
    new.touch(0o600)
    new.write_text("sk-another-key-of-ours")
    new.rename(key)
    assert found.read("a") == b"sk-another-key-of-ours"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_file_that_others_may_touch_is_refused(key, mode):
    key.chmod(mode)
    assert f"chmod 600 {key}" in problem(sources(key))


def test_links_folders_pipes_and_files_that_are_not_there_are_refused(key, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(key)
    assert "is a link" in problem(sources(link))
    assert "expected a file" in problem(sources(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert "expected a file" in problem(sources(pipe))
    assert "No such file" in problem(sources(tmp_path / "none"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(key):
    os.chown(key, 12345, 12345)
    assert "expected it to belong to user 0, found user 12345" in problem(sources(key))


@pytest.mark.parametrize(
    "text", ["", "\n", "two words", "line\nbreak", "umläut-0123456", "x" * (MAX_KEY + 1), "\0" * 9]
)
def test_what_is_no_key_is_refused_and_not_quoted(key, text):
    key.write_text(text)
    said = problem(sources(key))
    assert not text.strip() or text[:30] not in said


def test_a_variable_that_was_not_set_takes_a_new_start(key):
    assert sources(A_KEY="sk-from-the-environment").read("a") == b"sk-from-the-environment"
    assert "start the kernel again" in problem(sources())


def test_nothing_shows_a_key(key):
    found = sources(A_KEY="sk-from-the-environment")
    found.read("a")
    assert "sk-from" not in repr(found) + repr(found.states())


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(SecretError, match="names no such key"):
        sources().read("b")


def test_the_keyring_is_asked_in_a_process_of_its_own(monkeypatch, tmp_path):
    found = Sources({})
    found.replace({"a": Source(keyring="service/me")})
    if "keyring" not in sys.modules:
        assert "pip install 'byenatos[keyring]'" in problem(found)
