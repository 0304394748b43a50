"""How often each application was answered in the last minute, whichever front and worker it came to."""

import time
from collections import deque
from collections.abc import Callable

from byenatos_kernel.access import ClientRules
from byenatos_sdk.protocol.errors import RateLimited, Unauthenticated

__all__ = ["WINDOW_S", "Rates"]

WINDOW_S = 60.0


class Rates:
    """Counts what fronts are asked with each key; ``known`` returns the clients of ``access.toml`` as they are now."""

    def __init__(
        self, known: Callable[[], tuple[ClientRules, ...]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._known = known
        self._clock = clock
        self._answered: dict[str, deque[float]] = {}

    def admit(self, name: str) -> None:
        """Count a request of the client ``name``.

        Raises:
            RateLimited: it has had as many in the last minute as it may.
            Unauthenticated: there is no such client any more.
        """
        rules = next((one for one in self._known() if one.name == name), None)
        if rules is None:
            raise Unauthenticated(f"{name[:80]!r}: expected a client that access.toml names")
        if not rules.per_minute:
            self._answered.pop(name, None)
            return
        now = self._clock()
        answered = self._answered.setdefault(name, deque())
        while answered and answered[0] <= now - WINDOW_S:
            answered.popleft()
        if len(answered) >= rules.per_minute:
            raise RateLimited(
                f"{name}: expected at most {rules.per_minute} requests in a minute, found more",
                retry_after_s=answered[len(answered) - rules.per_minute] + WINDOW_S - now,
            )
        answered.append(now)
