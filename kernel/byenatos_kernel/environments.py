"""Packages of a driver's own: built once, at install time, from the lock that lies in the signed folder.

A plugin may carry ``requirements.lock``: requirements with hashes, as ``pip-compile --generate-hashes`` or ``uv pip
compile --generate-hashes`` write it. ``byenatos driver install`` has pip build ``<home>/environments/<SHA-256 of the
lock>`` from it: wheels only, each with a hash that the signature covers, so that nothing is built, no package's code
runs, and what is installed is what the publisher named. At load time the folder is one more place to import from, for
that driver alone, and read only. A finished folder is renamed into place; one lock is built once, whoever asks.

Beside the folder lies its *seal*: the hash of every file in it, Python's bytecode among them. The verifier reads all of
it again whenever it judges the driver; the kernel compares sizes, modes, times and inode numbers before each start,
which tells that something was changed since, and not what. Whoever can write folder and seal, as its owner can, is not
stopped by them.
"""

import hashlib
import operator
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from byenatos_kernel.locks import LOCK, read_lock
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.signing import Untrusted

__all__ = ["LOCK", "build_environment", "check_environment", "environment_of", "seal_environment", "stamp_environment"]

MAX_SEAL = 32 << 20
INSTALL_S = 1800.0
_LAST_LINES = 5


def environment_of(home: Home, lock: bytes) -> Path:
    """Where the packages of a lock belong."""
    return home.environments / hashlib.sha256(lock).hexdigest()


def build_environment(home: Home, lock: bytes, *, pip: tuple[str, ...] = ()) -> Path:
    """Install what a lock names, unless it is there; ``pip`` are further arguments (``--find-links`` and the like).

    Raises:
        InvalidRequest: the lock asks for more than packages.
        Unavailable: pip failed; the message holds its last lines.
    """
    place = environment_of(home, lock)
    if place.is_dir():
        try:
            check_environment(place)
        except Untrusted:
            _remove(place)
        else:
            return place
    requirements = read_lock(lock)
    home.environments.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=home.environments))
    try:
        written = new / LOCK
        written.write_text(requirements)
        command = [sys.executable, "-I", "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:",
                   "--no-deps", "--compile", "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
                   "--target", str(new / "site"), *pip, "--requirement", str(written)]  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own interpreter; the lock is checked above
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_S,
            check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stdout.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
            raise Unavailable("\n  ".join(("the packages could not be installed; pip says:", *lines)))
        _tidy(new / "site")
        seal_environment(new / "site", place)
        (new / "site").rename(place)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pip did not finish within {INSTALL_S:.0f} s") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return place


def seal_environment(site: Path, place: Path) -> None:
    """Write down what is in ``site``, which is about to be ``place``, and make it read only."""
    seal = _seal_of(place)
    seal.unlink(missing_ok=True)
    seal.write_bytes(msgspec.json.encode(_read(site), order="deterministic"))
    seal.chmod(0o444)
    for folder, _, files in os.walk(site, topdown=False):
        for name in files:
            (Path(folder) / name).chmod(0o444)
        Path(folder).chmod(0o755 if Path(folder) == site else 0o555)


def check_environment(place: Path) -> str:
    """Make sure that a folder is as it was installed, and return its stamp.

    Raises:
        Untrusted: it is not; the message names the file.
    """
    try:
        stamp = stamp_environment(place)
        with _seal_of(place).open("rb") as file:
            data = file.read(MAX_SEAL + 1)
        if len(data) > MAX_SEAL:
            raise Untrusted(f"its packages: expected a seal of at most {MAX_SEAL} bytes, found more")
        sealed = msgspec.json.decode(data, type=dict[str, str])
        found = _read(place)
    except OSError as error:
        raise Untrusted(f"its packages cannot be read: {error.filename}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Untrusted(f"its packages: expected a seal, found what cannot be read: {error}") from None
    for name in sorted(sealed.keys() | found.keys()):
        if found.get(name) != sealed.get(name):
            what = "none" if name not in found else "this one" if name not in sealed else "another"
            wanted = "no such file" if name not in sealed else "the file that was installed"
            raise Untrusted(f"its packages: {name}: expected {wanted}, found {what}")
    return stamp


def stamp_environment(place: Path) -> str:
    """Return what changes when anything in a folder does.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    _stamp(str(place), digest)
    return digest.hexdigest()


def _stamp(folder: str, digest: "hashlib.blake2b") -> None:
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=operator.attrgetter("name"))
    for entry in entries:
        found = entry.stat(follow_symlinks=False)
        times = f"{found.st_mode} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
        digest.update(f"{times} {entry.name}\n".encode("utf-8", "surrogateescape"))
        if entry.is_dir(follow_symlinks=False):
            _stamp(entry.path, digest)


def _read(place: Path) -> dict[str, str]:
    """The hash of every file below ``place``, of links where they lead."""
    found = {}
    for folder, folders, files in os.walk(place):
        for name in (*files, *(one for one in folders if (Path(folder) / one).is_symlink())):
            path = Path(folder) / name
            data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            shown = os.fsencode(path.relative_to(place)).decode("utf-8", "backslashreplace")
            found[shown] = ("link " if path.is_symlink() else "") + hashlib.blake2b(data).hexdigest()
    return found


def _seal_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.seal")


def _remove(place: Path) -> None:
    for folder, _, _ in os.walk(place):
        Path(folder).chmod(0o700)
    shutil.rmtree(place)


def _tidy(site: Path) -> None:
    """Scripts that packages brought along are of no use and go."""
    shutil.rmtree(site / "bin", ignore_errors=True)
    site.mkdir(exist_ok=True)  # an empty lock
