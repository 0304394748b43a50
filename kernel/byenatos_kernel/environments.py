"""Packages of a driver's own: built once, at install time, from the lock that lies in the signed folder.

A plugin may carry ``requirements.lock``: requirements with hashes, as ``pip-compile --generate-hashes`` or ``uv pip
compile --generate-hashes`` write it. ``byenatos driver install`` has pip build ``<home>/environments/<SHA-256 of the
lock>`` from it: wheels only, each with a hash that the signature covers, so that nothing is compiled, no package's code
runs, and what is installed is what the publisher named. At load time the folder is one more place to import from, for
that driver alone, and read only. A finished folder is renamed into place; one lock is built once, whoever asks.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable

__all__ = ["LOCK", "build_environment", "environment_of"]

LOCK = "requirements.lock"
MAX_LOCK = 4 << 20
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
        return place
    _check(lock)
    home.environments.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=home.environments))
    try:
        written = new / LOCK
        written.write_bytes(lock)
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
        _seal(new / "site")
        (new / "site").rename(place)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pip did not finish within {INSTALL_S:.0f} s") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return place


def _check(lock: bytes) -> None:
    """Refuse options in a lock: it names packages and hashes; where they come from is the operator's to say."""
    if len(lock) > MAX_LOCK:
        raise InvalidRequest(f"{LOCK}: expected at most {MAX_LOCK} bytes, found {len(lock)}")
    try:
        lines = lock.decode().replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{LOCK}: expected UTF-8: {error}") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        words = text.split()
        if words[0].startswith("-") or "@" in words[0] or "/" in words[0] or "==" not in text:
            raise InvalidRequest(f"{LOCK}: expected lines like 'name==1.0 --hash=sha256:…', found {text!r:.80} "
                                 f"(logical line {number})")  # fmt: skip
        if any(word.startswith("-") and not word.startswith("--hash=sha256:") for word in words):
            raise InvalidRequest(f"{LOCK}: expected no option but --hash=sha256:…, found {text!r:.80}")


def _seal(site: Path) -> None:
    """Make the folder one that is only read; scripts that packages brought along are of no use and go."""
    shutil.rmtree(site / "bin", ignore_errors=True)
    site.mkdir(exist_ok=True)  # an empty lock
    for folder, _, files in os.walk(site, topdown=False):
        for name in files:
            (Path(folder) / name).chmod(0o444)
        Path(folder).chmod(0o755 if Path(folder) == site else 0o555)
