"""When a file that appeared or changed is whole: nobody writes it, and it has been the same for long enough."""

import asyncio
from pathlib import Path

from byenatos_kernel.folders import QUIET_S, QUIET_WITHOUT_LEASE_S, Stamp, is_being_written

__all__ = ["Settling"]


class Settling:
    """The files that are waited for, each as it was seen last and since when."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[Stamp, float]] = {}
        self._loop = asyncio.get_running_loop()

    def is_over(self, path: Path, stamp: Stamp) -> bool:
        """Look at a file, which is as ``stamp`` says, and return whether it is whole: then it is waited for no more."""
        writing = is_being_written(path)
        now = self._loop.time()
        earlier = self._seen.get(path)
        if earlier is None or earlier[0] != stamp or writing:
            self._seen[path] = (stamp, now)
            return False
        quiet = QUIET_S if writing is False else QUIET_WITHOUT_LEASE_S
        if now - earlier[1] < quiet * 0.9:
            return False
        del self._seen[path]
        return True

    def forget(self, path: Path) -> None:
        """The file is gone."""
        self._seen.pop(path, None)
