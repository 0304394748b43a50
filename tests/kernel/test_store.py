"""The store gives back what was put into it, byte for byte, or says what was changed."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from byenatos_kernel.store import Store
from byenatos_sdk.signing import File, Untrusted, encode_statement

FILES = {
    "plugin.toml": File(b"facts"),
    "driver.py": File(b"code" * 1000, executable=True),
    "vendor/it/__init__.py": File(b""),
    "plugin.sig": File(b"the envelope"),
}
STATEMENT = encode_statement(FILES, id="acme", version="1", publisher="acme")
DIGEST = hashlib.sha256(STATEMENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    assert store.ingest(STATEMENT, b"the envelope", FILES) == DIGEST
    return store


def loosen(path: Path) -> Path:
    """Make a file of the store one that can be changed, as somebody with the operator's rights could."""
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    return path


def test_what_was_stored_is_loaded(store):
    assert store.load(DIGEST) == {name: file.data for name, file in FILES.items() if name != "plugin.sig"}
    assert (store.folder / DIGEST / "plugin.sig").read_bytes() == b"the envelope"


def test_one_file_can_be_looked_at_and_is_what_was_stored(store):
    data, statement = store.glance(DIGEST, "plugin.toml")
    assert (data, statement.predicate.id) == (b"facts", "acme")
    loosen(store.files(DIGEST) / "plugin.toml").write_bytes(b"facta")
    with pytest.raises(Untrusted, match=r"plugin\.toml: expected the content"):
        store.glance(DIGEST, "plugin.toml")
    with pytest.raises(Untrusted):
        store.glance(DIGEST, "nothing")


def test_what_is_stored_can_be_read_and_nothing_else(store):
    for folder, _, files in os.walk(store.folder / DIGEST):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o555
        for name in files:
            assert stat.S_IMODE((Path(folder) / name).stat().st_mode) == 0o444


def _flip(path: Path) -> None:
    data = path.read_bytes()
    loosen(path).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _grow(path: Path) -> None:
    with loosen(path).open("ab") as file:
        file.write(b"\n")


def _vanish(path: Path) -> None:
    loosen(path).unlink()


def _link(path: Path) -> None:
    data = path.read_bytes()
    other = path.parents[3] / "other"
    other.write_bytes(data)
    loosen(path).unlink()
    path.symlink_to(other)


def _another(path: Path) -> None:
    loosen(path.with_name("json.py")).write_text("evil")


@pytest.mark.parametrize(
    ("deed", "file", "named"),
    [
        (_flip, "files/driver.py", r"driver\.py: expected the content"),
        (_grow, "files/driver.py", r"driver\.py: expected the content"),
        (_vanish, "files/driver.py", r"driver\.py: expected a file that is signed, found none"),
        (_link, "files/driver.py", r"driver\.py: expected a plain file, found a link"),
        (_another, "files/driver.py", r"json\.py: expected only files that are signed"),
        (_another, "files/vendor/it/__init__.py", r"vendor/it/json\.py: expected only files"),
        (_flip, "statement.json", r"statement\.json: expected the statement of this address"),
        (_vanish, "statement.json", r"statement\.json"),
    ],
)
def test_a_change_in_the_store_is_named_and_repaired_by_storing_again(store, deed, file, named):
    deed(store.folder / DIGEST / file)
    with pytest.raises(Untrusted, match=named):
        store.load(DIGEST)
    assert store.ingest(STATEMENT, b"the envelope", FILES) == DIGEST
    assert store.load(DIGEST)["driver.py"] == FILES["driver.py"].data


def test_a_version_that_is_another_one_is_refused(store):
    other = encode_statement(FILES, id="acme", version="2", publisher="acme")
    digest = store.ingest(other, None, FILES)
    (store.folder / DIGEST).rename(store.folder / "aside")
    (store.folder / digest).rename(store.folder / DIGEST)
    with pytest.raises(Untrusted, match="expected the statement of this address"):
        store.load(DIGEST)


@pytest.mark.parametrize("digest", ["0" * 64, "", "..", "../store"])
def test_what_is_not_there_is_refused(store, digest):
    with pytest.raises(Untrusted):
        store.load(digest)


def test_what_nobody_needs_is_removed_and_what_a_crash_left_too(store):
    other = store.ingest(encode_statement(FILES, id="acme", version="2", publisher="acme"), None, FILES)
    (store.folder / ".new-half").mkdir()
    (store.folder / ".new-half" / "files").mkdir(mode=0o555)
    assert store.sweep({other}) == [DIGEST]
    assert [path.name for path in store.folder.iterdir()] == [other]


def test_a_failed_write_leaves_nothing(store, tmp_path):
    files = {"a": File(b"1"), "a/b": File(b"2")}  # no folder holds both
    with pytest.raises(OSError, match="a"):
        store.ingest(encode_statement(files, id="acme", version="3", publisher=""), None, files)
    assert [path.name for path in store.folder.iterdir()] == [DIGEST]
