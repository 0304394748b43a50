"""Folders: which files there are, who still writes them, and that changes are heard of."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from byenatos_kernel import folders
from byenatos_kernel.folders import FolderWatch, is_being_written, list_files, stamp_of


@pytest.fixture
def other_process():
    """Open a file in another process with a mode, and hold it until closed."""
    running: list[subprocess.Popen] = []

    def hold(path, mode: str) -> subprocess.Popen:
        script = f"file = open({str(path)!r}, {mode!r}); print('open', flush=True); input()"
        process = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True)
        running.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield hold
    for process in running:
        if process.poll() is None:
            process.communicate("\n", timeout=60)


@pytest.fixture(params=["disk", "tmpfs"])
def folder(request, tmp_path):
    """A folder on the usual file system, and one in memory."""
    if request.param == "disk":
        yield tmp_path
        return
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def test_a_file_that_another_process_writes_is_not_complete_until_it_closes_it(folder, other_process):
    path = folder / "model.gguf"
    writer = other_process(path, "wb")
    assert is_being_written(path) is True
    writer.communicate("\n", timeout=60)
    assert is_being_written(path) is False


def test_a_file_that_others_only_read_is_complete(folder, other_process):
    path = folder / "model.gguf"
    path.write_bytes(b"all of it")
    other_process(path, "rb")
    assert is_being_written(path) is False


def test_asking_leaves_no_lease_behind_that_a_writer_would_have_to_break(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"all of it")
    assert is_being_written(path) is False
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    assert is_being_written(path) is True
    os.close(descriptor)


@pytest.mark.parametrize("make", [lambda path: None, os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_cannot_be_told(tmp_path, make):
    path = tmp_path / "thing"
    make(path)
    assert stamp_of(path) is None
    assert is_being_written(path) is None


def test_a_stamp_changes_with_the_content(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    before = stamp_of(path)
    assert before == stamp_of(path)
    path.write_bytes(b"two and more")
    assert stamp_of(path) != before


def test_hidden_and_partial_files_are_left_out_and_links_are_followed_without_loops(tmp_path):
    models = tmp_path / "models"
    (models / "sub" / "deeper").mkdir(parents=True)
    (models / ".hidden").mkdir()
    elsewhere = tmp_path / "elsewhere.gguf"
    for path in (
        elsewhere,
        models / "b.gguf",
        models / "a.gguf",
        models / "sub" / "deeper" / "c.gguf",
        models / ".hidden" / "no.gguf",
        models / ".no.gguf",
        *(models / f"no.gguf{end}" for end in (".part", ".tmp", ".crdownload", "~")),
    ):
        path.write_bytes(b"x")
    (models / "link.gguf").symlink_to(elsewhere)
    (models / "dangling.gguf").symlink_to(tmp_path / "nowhere")
    (models / "itself.gguf").symlink_to(models / "itself.gguf")
    (models / "sub" / "up").symlink_to(models)
    found = [path for path in list_files(models) if stamp_of(path)]
    assert found == [models / name for name in ("a.gguf", "b.gguf", "link.gguf", "sub/deeper/c.gguf")]


def test_a_folder_without_end_is_listed_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "MOST_FILES", 20)
    for number in range(50):
        (tmp_path / f"{number:02}.gguf").touch()
    assert [path.name for path in list_files(tmp_path)] == [f"{number:02}.gguf" for number in range(20)]


def test_a_folder_that_is_missing_holds_nothing(tmp_path):
    assert list(list_files(tmp_path / "missing")) == []


async def test_a_change_in_any_of_the_folders_is_heard_of_though_one_is_missing(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    heard = asyncio.Event()
    watch = FolderWatch([one, tmp_path / "missing", two], lambda _: heard.set())
    watch.start()
    try:
        for number, folder in enumerate((one, two)):
            heard.clear()
            attempt = 0
            while not heard.is_set():  # the watch may still be starting: change until it is heard of
                (folder / f"{number} {attempt}.gguf").touch()
                attempt += 1
                try:
                    async with asyncio.timeout(2):
                        await heard.wait()
                except TimeoutError:
                    assert watch._thread.is_alive(), "the watch is gone"
    finally:
        watch.close()
        await asyncio.to_thread(watch._thread.join, 30)
    assert not watch._thread.is_alive()
