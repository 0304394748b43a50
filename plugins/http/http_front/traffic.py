"""What a worker answered in the last minute, for people and their charts; ``metrics`` has what programs collect."""

import asyncio
from typing import Self

from byenatos_sdk.protocol.messages import Value
from http_front.meter import Meter

__all__ = ["Traffic"]

WINDOW_S = 60.0


class Traffic(Value, frozen=True, omit_defaults=True):
    """Answers of models by ``worker``, the one that says this, and after how long they began: half of them, 99 of 100.

    ``answers``: at most as many of the last minute as are remembered; ``waiting``: requests whose answer has not begun.
    """

    worker: int
    answers: int
    median_s: float = 0.0
    slow_s: float = 0.0
    waiting: int = 0

    @classmethod
    def of(cls, meter: Meter, worker: int) -> Self:
        """Return the traffic that ``meter`` saw."""
        since = asyncio.get_running_loop().time() - WINDOW_S
        took = sorted(seconds for at, seconds in meter.recent if at >= since)
        if not took:
            return cls(worker, 0, waiting=meter.waiting)
        return cls(worker, len(took), took[len(took) // 2], took[len(took) * 99 // 100], meter.waiting)
