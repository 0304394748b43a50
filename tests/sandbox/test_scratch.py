"""What drivers leave behind is removed, whatever they have done so that it should not be."""

import pytest
from tests.sandbox.nested_folders import nest

from byenatos_sandbox.scratch import remove

DEEP = 3000
"""Deeper than a function that calls itself for each folder can go."""


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_folder_is_removed_however_deep_it_is_nested(scratch):
    nest(scratch, DEEP)
    remove(scratch)
    assert not scratch.exists()


def test_names_that_stand_in_the_way_do_not_keep_a_folder(scratch):
    for number in range(50):
        (scratch / f"up-{number}").write_text("in the way")
    nest(scratch, 5)
    remove(scratch)
    assert not scratch.exists()


def test_folders_that_may_not_be_read_are_removed(scratch):
    inner = scratch / "one" / "two"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    for folder in (inner, inner.parent, scratch):
        folder.chmod(0)
    remove(scratch)
    assert not scratch.exists()


def test_what_a_link_points_to_stays(scratch, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("")
    (scratch / "to_a_folder").symlink_to(kept)
    (scratch / "to_a_file").symlink_to(kept / "file")
    (scratch / "inner").mkdir()
    (scratch / "inner" / "to_a_folder").symlink_to(kept)
    remove(scratch)
    assert not scratch.exists()
    assert (kept / "file").exists()


def test_a_folder_that_is_not_there_is_removed(scratch):
    scratch.rmdir()
    remove(scratch)
    assert not scratch.exists()
