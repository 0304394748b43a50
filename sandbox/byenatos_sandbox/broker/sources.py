"""Where keys come from: the environment that the kernel was started in, a private file, the desktop's keyring.

A file or keyring entry that changes is used from the next request on. A variable cannot change while its process runs:
a new key in the environment takes a new start of the kernel.
"""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from byenatos_sandbox.broker.messages import SecretState, Source

__all__ = ["MAX_KEY", "SecretError", "Sources"]

MAX_KEY = 8 << 10
KEYRING_FRESH_S = 60.0
KEYRING_S = 30.0


class SecretError(Exception):
    """A key cannot be used; the sentence says why and what to do, and quotes nothing of it."""


class Sources:
    """Reads keys. ``environment`` are the variables that were taken out of the kernel's environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._table: dict[str, Source] = {}
        self._keyring: dict[str, tuple[float, bytes]] = {}
        self._files: dict[str, tuple[tuple[int, ...], bytes]] = {}

    def __repr__(self) -> str:
        return f"Sources({sorted(self._table)})"

    def replace(self, table: Mapping[str, Source]) -> None:
        """Read from these places from now on."""
        self._table = dict(table)
        self._keyring.clear()
        self._files.clear()

    def read(self, name: str) -> bytes:
        """Return the key called ``name``, as it is now.

        Raises:
            SecretError: it cannot be used.
        """
        source = self._table.get(name)
        if source is None:
            raise SecretError("the operator's access.toml names no such key")
        if source.environment is not None:
            return self._from_environment(source.environment)
        if source.file is not None:
            return self._from_file(source.file)
        return self._from_keyring(source.keyring or "")

    def states(self) -> tuple[SecretState, ...]:
        """Say of each key where it comes from and whether it can be used."""
        found = []
        for name, source in sorted(self._table.items()):
            try:
                self.read(name)
                problem = ""
            except SecretError as error:
                problem = str(error)
            found.append(SecretState(name, _described(source), problem))
        return tuple(found)

    # ---- private -----------------------------------------------------------------------------------------------

    def _from_environment(self, variable: str) -> bytes:
        value = self._environment.get(variable)
        if value is None:
            raise SecretError(
                f"{variable} was not set when the kernel was started; set it and start the kernel again "
                "(or use a file, which may change while it runs)"
            )
        return _checked(value.encode("utf-8", "surrogateescape"), variable)

    def _from_file(self, path: str) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            why = "is a link, which is not followed" if _is_link(path) else f"cannot be read: {error.strerror}"
            raise SecretError(f"{path} {why}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SecretError(f"{path}: expected a file, found something else")
            if found.st_uid != os.geteuid():
                raise SecretError(f"{path}: expected it to belong to user {os.geteuid()}, found user {found.st_uid}")
            if found.st_mode & 0o077:
                raise SecretError(f"{path}: others can read it (mode {found.st_mode & 0o777:04o}); chmod 600 {path}")
            version = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            known = self._files.get(path)
            if known is None or known[0] != version:
                known = self._files[path] = (version, _checked(os.read(descriptor, MAX_KEY + 1), path))
            return known[1]
        except OSError as error:
            raise SecretError(f"{path} cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)

    def _from_keyring(self, entry: str) -> bytes:
        at, value = self._keyring.get(entry, (0.0, b""))
        if value and time.monotonic() - at < KEYRING_FRESH_S:
            return value
        service, _, user = entry.partition("/")
        # in a process of its own: the keyring brings D-Bus, threads and questions to the user along
        command = [sys.executable, "-I", "-B", "-m", "byenatos_sandbox.broker.desktop", service, user]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=KEYRING_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise SecretError(f"the keyring did not answer within {KEYRING_S:g} s; is it locked?") from None
        if done.returncode:
            raise SecretError(done.stderr.decode(errors="replace").strip()[-300:] or "the keyring cannot be asked")
        value = _checked(done.stdout, f"{entry} of the keyring")
        self._keyring[entry] = (time.monotonic(), value)
        return value


def _checked(value: bytes, where: str) -> bytes:
    value = value.strip(b" \t\r\n")
    if not value:
        raise SecretError(f"{where} is empty")
    if len(value) > MAX_KEY:
        raise SecretError(f"{where} is longer than {MAX_KEY} bytes: that is no key")
    if not all(0x21 <= one <= 0x7E for one in value):
        raise SecretError(f"{where} has spaces, line breaks or letters beyond ASCII: that is no key")
    return value


def _is_link(path: str) -> bool:
    try:
        return Path(path).is_symlink()
    except OSError:
        return False


def _described(source: Source) -> str:
    if source.environment is not None:
        return f"variable {source.environment}"
    return f"file {source.file}" if source.file is not None else f"keyring {source.keyring}"
