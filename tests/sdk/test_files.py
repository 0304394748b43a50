import os

import pytest

from byenatos_sdk import files


@pytest.fixture
def granted(tmp_path):
    """A granted file that has lost its name."""
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    files.granted[str(path)] = descriptor
    yield path
    del files.granted[str(path)]
    os.close(descriptor)


def test_a_granted_file_is_read_whatever_became_of_its_name(granted):
    for _ in range(2):
        with files.open_file(granted) as file:
            assert file.read() == b"weights"


def test_another_file_is_opened_by_its_name(tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    with files.open_file(tmp_path / "other") as file:
        assert file.read() == b"other"
    with pytest.raises(FileNotFoundError):
        files.open_file(tmp_path / "missing")
