"""Model files: opened once, hashed once, and known again by what identifies their content."""

import hashlib
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from byenatos_kernel import model_files
from byenatos_kernel.database import Database
from byenatos_kernel.model_files import Digests, ModelFile, further_paths
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "kernel.db")
    database.open()
    yield database
    database.close()


def written(folder, content=b"weights"):
    path = folder / "model"
    path.write_bytes(content)
    return path


@given(st.binary(max_size=200), st.integers(1, 64))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_digest_is_that_of_the_whole_content_however_it_is_read(tmp_path, monkeypatch, content, piece):
    monkeypatch.setattr(model_files, "_PIECE", piece)
    file = ModelFile(written(tmp_path, content))
    assert model_files._hash(file.descriptor) == hashlib.blake2b(content, digest_size=32).hexdigest()


async def test_a_file_is_read_once_until_it_changes_and_also_under_another_name(database, tmp_path, monkeypatch):
    read = []
    real = model_files._hash
    monkeypatch.setattr(model_files, "_hash", lambda descriptor: read.append(1) or real(descriptor))
    digests, path = Digests(database), written(tmp_path)
    found = []
    for change in (None, None, "content"):
        if change:
            path.write_bytes(b"others!")
        file = ModelFile(path)
        await digests.fill(file)
        found.append(file.digest)
    assert found[0] == found[1] != found[2]
    assert len(read) == 2


async def test_a_file_that_keeps_its_size_and_time_but_was_written_to_is_read_again(database, tmp_path):
    digests, path = Digests(database), written(tmp_path)
    first, times = ModelFile(path), path.stat()
    await digests.fill(first)
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = ModelFile(path)
    await digests.fill(second)
    assert second.digest != first.digest


async def test_a_file_that_changes_while_it_is_read_has_no_digest(database, tmp_path, monkeypatch):
    path = written(tmp_path)
    file = ModelFile(path)
    monkeypatch.setattr(model_files, "_hash", lambda _: path.write_bytes(b"longer than before") and "")
    with pytest.raises(Unavailable, match="was changed while it was read"):
        await Digests(database).fill(file)
    assert not file.digest
    assert not file.intact


async def test_without_a_database_it_is_read(tmp_path):
    file = ModelFile(written(tmp_path))
    await Digests(Database(tmp_path / "never opened")).fill(file)
    assert file.digest == hashlib.blake2b(b"weights", digest_size=32).hexdigest()


async def test_no_more_digests_are_kept_than_there_is_room_for(database, tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_KEPT", 3)
    for number in range(6):
        await Digests(database).fill(ModelFile(written(tmp_path, bytes([number]))))
    assert await database.run(lambda connection: connection.execute("SELECT count(*) FROM digests").fetchone()[0]) == 3


def test_a_renamed_file_is_still_what_it_was(tmp_path):
    path = written(tmp_path)
    file = ModelFile(path)
    path.rename(tmp_path / "elsewhere")
    assert file.intact


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="expected a regular file"):
        ModelFile(tmp_path / "pipe")


def test_settings_name_further_files_in_three_ways_each_once_and_beside_the_model_unless_they_say():
    named = {
        "one": "a",
        "list": ["b", {"file": "/elsewhere/c", "scale": 0.5}, {"file": "b"}, {"scale": 1}, 7, ""],
        "table": {"file": "d"},
        "unasked": "e",
    }
    found = further_paths(["one", "list", "table", "absent"], named, Path("/models"))
    assert found == (
        ("one", Path("/models/a")),
        ("list", Path("/models/b")),
        ("list", Path("/elsewhere/c")),
        ("table", Path("/models/d")),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [([str(number) for number in range(17)], "lora: expected at most 16 files, found 17"), ("a\0b", "lora: expected")],
)
def test_names_that_cannot_be_are_refused(value, message):
    with pytest.raises(InvalidRequest, match=message):
        further_paths(["lora"], {"lora": value}, Path("/models"))


async def test_further_files_are_hashed_and_go_where_the_models_goes_and_a_change_of_one_is_one_of_it(
    database, tmp_path
):
    model, further = ModelFile(written(tmp_path)), tmp_path / "further"
    further.write_bytes(b"adapter")
    await Digests(database).add_further(model, [("lora", further)])
    [added] = model.further
    assert added.digest == hashlib.blake2b(b"adapter", digest_size=32).hexdigest()
    assert model.opened == {str(model.path): model.descriptor, str(further): added.descriptor}
    assert model.intact
    further.write_bytes(b"another adapter")
    assert not model.intact


async def test_a_further_file_that_is_not_there_is_refused_by_setting_and_path(database, tmp_path):
    model = ModelFile(written(tmp_path))
    with pytest.raises(InvalidRequest, match=f"lora: {tmp_path}/none: cannot be opened: No such file"):
        await Digests(database).add_further(model, [("lora", tmp_path / "none")])
    with pytest.raises(InvalidRequest, match=r"lora: .*: cannot be opened: expected a regular file"):
        await Digests(database).add_further(model, [("lora", tmp_path)])
