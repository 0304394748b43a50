"""Jobs that others want done on the engine's thread, between two of its steps."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

__all__ = ["AGAIN", "MORE", "Jobs"]

AGAIN: Final = object()
"""What a job returns to be run again after the next step."""

MORE: Final = object()
"""What a job returns to be run again, whether there is a step to compute in between or not."""


class Jobs:
    """A queue of jobs. ``add`` may be called from any thread, all else from the engine's."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], object], Future[object]]] = deque()

    def add(self, job: Callable[[], object]) -> Future[object]:
        """Queue ``job``; what it returns or raises is the future's."""
        future: Future[object] = Future()
        self._waiting.append((job, future))
        return future

    def run(self) -> bool:
        """Run what waits; return whether to look again: a job is done, which may let an answer begin, or has more."""
        changed = False
        for _ in range(len(self._waiting)):
            job, future = self._waiting.popleft()
            if future.cancelled():
                continue
            try:
                result = job()
            except Exception as error:  # noqa: BLE001  (whoever asked for the job hears of it)
                changed = True
                _settle(future, error=error)
                continue
            changed = changed or result is not AGAIN
            if result is AGAIN or result is MORE:
                self._waiting.append((job, future))
            else:
                _settle(future, result)
        return changed

    def fail(self, error: Exception) -> None:
        """End what waits with ``error``."""
        while self._waiting:
            _settle(self._waiting.popleft()[1], error=error)


def _settle(future: Future[object], result: object = None, error: Exception | None = None) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
