"""One of the operator's files as it is now: a change takes effect while the kernel runs, once it is written.

A file that is not as it must be changes nothing, and is reported until it is corrected.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from byenatos_kernel.folders import QUIET_S, is_being_written, stamp_of
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["WatchedFile"]

log = logging.getLogger("byenatos")

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """Keeps ``value`` true to the file that ``find`` names. Its owner sets ``on_change``, told of values that differ.

    ``folder`` is where a change may mean another file; ``problem`` is what is wrong with the file, if anything is.
    """

    def __init__(
        self,
        value: T,
        folder: Path,
        find: Callable[[], Path],
        read: Callable[[Path], T],
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.value = value
        self.problem = ""
        self.on_change: Callable[[T], None] = lambda _: None
        self._folder = str(folder)
        self._find = find
        self._read = read
        self._quiet_s = quiet_s
        self._seen: object = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def look(self, changed: set[str] | None) -> None:
        """Something changed below the watched folders: these paths, or any if ``None``."""
        if self._timer is None and (changed is None or any(path.startswith(self._folder) for path in changed)):
            self._seen = self._stamp()
            self._timer = self._loop.call_later(self._quiet_s, self._settled)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _settled(self) -> None:
        self._timer = None
        path = self._find()
        if self._stamp() != self._seen or is_being_written(path):
            self.look(None)
            return
        try:
            value = self._read(path)
        except InvalidRequest as error:
            problem = f"{error.message}; what it said before holds until it is corrected"
            if problem != self.problem:
                log.warning("%s", problem)
            self.problem = problem
            return
        self.problem = ""
        if value != self.value:
            self.value = value
            log.info("%s has changed, and counts from now on", path)
            self.on_change(value)

    def _stamp(self) -> object:
        path = self._find()
        return path, stamp_of(path)
