"""The operator's ``access.toml`` as it is now: a change takes effect while the kernel runs, once it is written.

What a change means is for those who are told of it: hosts and keys for drivers that run already, all else for what is
started from then on. A file that is not as it must be changes nothing, and is reported until it is corrected. What was
written and cannot be in force before the next start of the kernel is reported as well.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from byenatos_kernel.access import Access, AccessError, read_access
from byenatos_kernel.folders import QUIET_S, is_being_written, stamp_of
from byenatos_kernel.shipped import access_file
from byenatos_sdk.home import Home

__all__ = ["Rules"]

log = logging.getLogger("byenatos")


class Rules:
    """Keeps ``access`` true. Its owner sets ``on_change``, which is told of rules that differ from those before."""

    def __init__(self, home: Home, access: Access, *, quiet_s: float = QUIET_S) -> None:
        self.access = access
        self.on_change: Callable[[Access], None] = lambda _: None
        self._home = home
        self._quiet_s = quiet_s
        self._handed_over = _variables(access)
        self._problem = ""
        self._seen: object = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know about the file."""
        late = sorted(_variables(self.access) - self._handed_over)
        restart = tuple(
            f"policies/access.toml takes a key from the variable {name}, which it did not name when the kernel was "
            "started: start the kernel again, or name a file"
            + (" (until then the key is in the kernel's own environment)" if name in os.environ else "")
            for name in late
        )
        return (*((self._problem,) if self._problem else ()), *self.access.warnings(), *restart)

    def look(self, changed: set[str] | None) -> None:
        """Something changed below the watched folders: these paths, or any if ``None``."""
        folder = str(self._home.policies)
        if self._timer is None and (changed is None or any(path.startswith(folder) for path in changed)):
            self._seen = _stamp(access_file(self._home))
            self._timer = self._loop.call_later(self._quiet_s, self._settled)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _settled(self) -> None:
        self._timer = None
        path = access_file(self._home)
        if _stamp(path) != self._seen or is_being_written(path):
            self.look(None)
            return
        try:
            access = read_access(path)
        except AccessError as error:
            problem = f"{error.message}; what it said before holds until it is corrected"
            if problem != self._problem:
                log.warning("%s", problem)
            self._problem = problem
            return
        self._problem = ""
        if access == self.access:
            return
        before = self.warnings
        self.access = access
        log.info("%s has changed, and counts from now on", path)
        for sentence in self.warnings:
            if sentence not in before:
                log.warning("%s", sentence)
        self.on_change(access)


def _stamp(path: Path) -> object:
    return path, stamp_of(path)


def _variables(access: Access) -> set[str]:
    return {source.environment for source in access.secrets.values() if source.environment is not None}
