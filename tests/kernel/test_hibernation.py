"""Hibernated sessions: what was written is read, and a file that anybody has touched is refused."""

import io
import os

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from byenatos_kernel.hibernation import Dormant, Hibernation, StoredPiece
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unavailable

PIECES = [StoredPiece(0, 3, b"first" * 20), StoredPiece(3, 4, b""), StoredPiece(4, 9, os.urandom(200))]
SLOW = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def files(tmp_path):
    return Hibernation(tmp_path / "warm", tmp_path / "keys" / "warm.key")


def written(files, session="s"):
    files.write(Dormant(session, "layout", 9, len(PIECES)), PIECES)
    return next(path for path in files._folder.iterdir() if path.name == files.name(session))


def read(files, session="s"):
    dormant, pieces = files.read(session)
    return dormant, list(pieces)


def test_what_was_written_is_read(files):
    path = written(files, "../talk/ü")
    dormant, pieces = read(files, "../talk/ü")
    assert (dormant, pieces) == (Dormant("../talk/ü", "layout", 9, 3), PIECES)
    assert files.names() == {path.name}
    assert path.stat().st_mode & 0o777 == 0o600
    files.remove("../talk/ü")
    with pytest.raises(NotFound):
        files.read("../talk/ü")


def test_nothing_of_the_state_can_be_read_in_the_file(files):
    assert b"first" not in written(files).read_bytes()


@SLOW
@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_a_single_bit_that_is_another_one_is_found(files, place, bit):
    path = written(files)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(InvalidRequest):
        read(files)


@SLOW
@given(end=st.integers(0, 600))
def test_a_file_that_was_cut_or_went_on_is_refused(files, end):
    path = written(files)
    data = path.read_bytes()
    path.write_bytes(data[: end % len(data)])
    with pytest.raises(InvalidRequest):
        read(files)
    path.write_bytes(data + b"x")
    with pytest.raises(InvalidRequest):
        read(files)


@SLOW
@given(rubbish=st.binary(max_size=200))
def test_rubbish_is_refused(files, rubbish):
    path = written(files)
    path.write_bytes(b"BYENWARM" + rubbish)
    with pytest.raises(InvalidRequest):
        read(files)


def test_a_file_under_another_sessions_name_is_refused(files):
    other = written(files, "b")
    written(files, "a").rename(other)
    with pytest.raises(InvalidRequest):
        read(files, "b")


def test_a_file_of_another_key_is_refused(files):
    written(files)
    files._key_file.write_bytes(os.urandom(32))
    with pytest.raises(InvalidRequest):
        read(files)


def test_the_key_is_private_and_a_key_that_others_can_read_is_not_used(files):
    written(files)
    assert files._key_file.stat().st_mode & 0o777 == 0o600
    assert len(files._key_file.read_bytes()) == 32
    files._key_file.chmod(0o640)
    with pytest.raises(Unavailable, match="chmod 600"):
        read(files)
    files._key_file.chmod(0o600)
    files._key_file.write_bytes(b"short")
    with pytest.raises(Unavailable, match="32 bytes"):
        read(files)


def test_a_full_disk_is_told_and_leaves_the_old_file(files, monkeypatch):
    written(files)
    key = files._key_file.read_bytes()
    monkeypatch.setattr(files, "_key", lambda: key)
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "fdopen", lambda *_: io.FileIO(full, "wb"))
    with pytest.raises(Unavailable, match="No space"):
        files.write(Dormant("s", "layout", 9, 3), PIECES)
    monkeypatch.undo()
    assert read(files)[1] == PIECES
