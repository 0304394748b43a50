"""Counts what a worker answers: every request passes here, by route, method and status.

Nothing is counted per piece of a stream: what that would tell, the kernel counts anyway.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable

from http_front.exchange import Request, Response, Stream

__all__ = ["BOUNDS_S", "RECENT", "Meter", "Tally"]

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the classes of durations, in seconds; one more class has no bound."""
RECENT = 1024
"""Answers that are remembered one by one."""
_OWN = "/byenatos/"
NOWHERE = "none"
"""What stands for the route of a request whose path is nowhere: as many of these as anybody may think of are one."""


class Tally:
    """How long the answers of one route took: how many in each class of ``BOUNDS_S``, and all together in seconds."""

    __slots__ = ("classes", "total_s")

    def __init__(self) -> None:
        self.classes = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one answer."""
        self.classes[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


class Meter:
    """Hands requests on to ``handler``. A duration ends when a whole answer is there, or the beginning of a stream."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response | Stream]]) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self.answered: dict[tuple[str, str, int], int] = {}
        """Answers by route, method and status."""
        self.durations: dict[str, Tally] = {}
        """By route."""
        self.clients: dict[str, int] = {}
        """Requests by the name of the client, where there are keys."""
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        """When the last answers of models began, by the loop's clock, and how long each took to, in seconds."""
        self.waiting = 0
        """Requests that are being answered, streams only until they begin."""

    async def __call__(self, request: Request) -> Response | Stream:
        """Answer ``request``."""
        begun = self._loop.time()
        self.waiting += 1
        try:
            answer = await self._handler(request)
        finally:
            self.waiting -= 1
        route = request.route or NOWHERE
        method = request.method if request.route else NOWHERE
        status = answer.status if isinstance(answer, Response) else 200
        key = (route, method, status)
        self.answered[key] = self.answered.get(key, 0) + 1
        tally = self.durations.get(route)
        if tally is None:
            tally = self.durations[route] = Tally()
        now = self._loop.time()
        tally.add(now - begun)
        if method == "POST" and not route.startswith(_OWN):
            self.recent.append((now, now - begun))
        if name := request.client.name:
            self.clients[name] = self.clients.get(name, 0) + 1
        return answer
