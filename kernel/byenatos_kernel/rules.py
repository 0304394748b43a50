"""The operator's ``access.toml`` as it is now.

What a change means is for those who are told of it: hosts and keys for drivers that run already, all else for what is
started from then on. What was written and cannot be in force before the next start of the kernel is reported.
"""

import logging
import os
from collections.abc import Callable

from byenatos_kernel.access import Access, read_access
from byenatos_kernel.folders import QUIET_S
from byenatos_kernel.shipped import access_file
from byenatos_kernel.watched_file import WatchedFile
from byenatos_sdk.home import Home

__all__ = ["Rules"]

log = logging.getLogger("byenatos")


class Rules:
    """Keeps ``access`` true. Its owner sets ``on_change``, which is told of rules that differ from those before."""

    def __init__(self, home: Home, access: Access, *, quiet_s: float = QUIET_S) -> None:
        self.on_change: Callable[[Access], None] = lambda _: None
        self._handed_over = _variables(access)
        self._file = WatchedFile(access, home.policies, lambda: access_file(home), read_access, quiet_s=quiet_s)
        self._file.on_change = self._changed
        self._said = self.warnings

    @property
    def access(self) -> Access:
        """What counts now."""
        return self._file.value

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
        problem = (self._file.problem,) if self._file.problem else ()
        return (*problem, *self.access.warnings(), *restart)

    def look(self, changed: set[str] | None) -> None:
        """Something changed below the watched folders: these paths, or any if ``None``."""
        self._file.look(changed)

    def close(self) -> None:
        """Look no more."""
        self._file.close()

    def _changed(self, access: Access) -> None:
        said, self._said = self._said, self.warnings
        for sentence in self._said:
            if sentence not in said:
                log.warning("%s", sentence)
        self.on_change(access)


def _variables(access: Access) -> set[str]:
    return {source.environment for source in access.secrets.values() if source.environment is not None}
