"""A driver's own packages: installed once, and noticed when they are not as they were installed."""

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from byenatos_kernel.environments import (
    build_environment,
    check_environment,
    environment_of,
    seal_environment,
    stamp_environment,
)
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.signing import Untrusted


@pytest.fixture
def place(tmp_path):
    """An environment with a package, its bytecode and a link."""
    place = tmp_path / "environments" / ("a" * 64)
    (place / "it" / "__pycache__").mkdir(parents=True)
    (place / "it" / "__init__.py").write_text("version = 'one'")
    (place / "it" / "__pycache__" / "it.pyc").write_bytes(b"bytecode")
    (place / "it" / "link").symlink_to("__init__.py")
    seal_environment(place, place)
    return place


def _unlocked(folder: Path) -> Path:
    folder.chmod(0o755)
    return folder


def _other_content(place: Path) -> None:
    file = place / "it" / "__init__.py"
    before = file.stat()
    file.chmod(0o644)
    file.write_text("version = 'two'")
    file.chmod(0o444)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_bytecode(place: Path) -> None:
    (place / "it" / "__pycache__" / "it.pyc").chmod(0o644)
    (place / "it" / "__pycache__" / "it.pyc").write_bytes(b"forged!!")


def _one_more(place: Path) -> None:
    (_unlocked(place / "it") / "more.py").touch()


def _one_less(place: Path) -> None:
    (_unlocked(place / "it") / "__init__.py").unlink()


def _another_link(place: Path) -> None:
    (_unlocked(place / "it") / "link").unlink()
    (place / "it" / "link").symlink_to("/etc/passwd")


def _a_file_for_a_link(place: Path) -> None:
    (_unlocked(place / "it") / "link").unlink()
    (place / "it" / "link").write_text("__init__.py")


def _no_seal(place: Path) -> None:
    place.with_name(f"{place.name}.seal").unlink()


def _no_json(place: Path) -> None:
    seal = place.with_name(f"{place.name}.seal")
    seal.chmod(0o644)
    seal.write_text("[" * 100_000)


CHANGES = [
    (_other_content, r"it/__init__\.py: expected the file that was installed, found another"),
    (_other_bytecode, r"it\.pyc: expected the file that was installed, found another"),
    (_one_more, r"it/more\.py: expected no such file, found this one"),
    (_one_less, r"it/__init__\.py: expected the file that was installed, found none"),
    (_another_link, "it/link: expected the file that was installed, found another"),
    (_a_file_for_a_link, "it/link: expected the file that was installed, found another"),
    (_no_seal, r"cannot be read: .*\.seal: No such file"),
    (_no_json, "expected a seal, found what cannot be read"),
]


@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_whatever_was_changed_is_named(place, change, reason):
    check_environment(place)
    change(place)
    with pytest.raises(Untrusted, match=reason):
        check_environment(place)


@pytest.mark.parametrize("change", [change for change, _ in CHANGES[:6]])
def test_a_stamp_tells_every_change_without_reading(place, change):
    stamp = check_environment(place)
    assert stamp_environment(place) == stamp
    change(place)
    assert stamp_environment(place) != stamp


def write_wheel(folder: Path, source: bytes) -> str:
    """Write a wheel with one module and return its line of a lock."""
    wheel = folder / "seen-1-py3-none-any.whl"
    files = {
        "seen.py": source,
        "seen-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: seen\nVersion: 1\n",
        "seen-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in files.items()
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("seen-1.dist-info/RECORD", f"{record}seen-1.dist-info/RECORD,,\n")
    return f"seen==1 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def test_what_was_installed_is_sealed_and_what_was_damaged_is_installed_again(tmp_path):
    home = Home(tmp_path)
    lock = write_wheel(tmp_path, b"here = True\n").encode()
    pip = ("--no-index", "--find-links", str(tmp_path))
    place = build_environment(home, lock, pip=pip)
    assert place == environment_of(home, lock)
    check_environment(place)
    assert list((place / "__pycache__").glob("seen.*.pyc"))  # a start does not compile it
    assert build_environment(home, lock) == place  # without pip: it is there
    (place / "seen.py").chmod(0o644)
    (place / "seen.py").write_text("here = False\n")
    build_environment(home, lock, pip=pip)
    assert (place / "seen.py").read_text() == "here = True\n"
    check_environment(place)


@pytest.mark.parametrize("line", [b"--index-url https://x", b"-e .", b"it @ https://x/it.whl", b"it==1 --pre", b"it>1"])
def test_a_lock_that_asks_for_more_than_packages_is_refused(tmp_path, line):
    with pytest.raises(InvalidRequest, match=r"requirements\.lock: expected"):
        build_environment(Home(tmp_path), line)
