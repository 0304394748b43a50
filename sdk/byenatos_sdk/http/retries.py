"""When a request is sent once more, and when it is not.

A request is repeated only while nothing of its answer was passed on, and only after what may pass: a connection that
broke, a vendor that is overloaded, limits its rate or failed. What a vendor refuses for good, what the broker refuses,
and what took too long (the next try would take as long) is told at once. A vendor's own word on when to come back
counts, up to a bound: beyond it the caller is told, who may have another model to ask.

The wait doubles from half a second up to eight, less up to half of it at random, so that those who failed together do
not come back together.
"""

import asyncio
import random

from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["FIRST_WAIT_S", "MOST_WAIT_S", "Retries"]

FIRST_WAIT_S = 0.5
MOST_WAIT_S = 8.0


class Retries:
    """The tries of one request. ``due``: when it must be answered, in the loop's time."""

    def __init__(self, attempts: int, most_wait_s: float, due: float) -> None:
        self._left = attempts - 1
        self._most_wait_s = most_wait_s
        self._due = due
        self._wait_s = FIRST_WAIT_S

    async def after(self, error: ByenatosError) -> None:
        """Wait until the next try.

        Raises:
            ByenatosError: ``error``, if there is none.
        """
        wait_s = self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._wait_s = min(MOST_WAIT_S, 2 * self._wait_s)
        if error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s) if error.retry_after_s else wait_s
        over = asyncio.get_running_loop().time() + wait_s >= self._due
        if not error.retryable or self._left < 1 or over or (error.retry_after_s or 0) > self._most_wait_s:
            raise error
        self._left -= 1
        await asyncio.sleep(wait_s)
