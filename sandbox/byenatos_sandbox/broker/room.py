"""What all drivers together may have of the broker: connections, and memory for requests that are kept whole.

Each driver has bounds of its own (``port.py``); these are for many of them at once. A few connections are every
driver's own, so that others, who took all the rest, do not shut it out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from byenatos_sandbox.broker.refusal import Refused

__all__ = ["Room"]

MOST_LINES = 512
OWN_LINES = 4
MOST_HELD = 64 << 20


class Room:
    """One for all ports of a server. A connection takes up to a quarter of a MiB in buffers, both sides of it."""

    def __init__(self, most_lines: int = MOST_LINES, most_held: int = MOST_HELD) -> None:
        self._most_lines = most_lines
        self._most_held = most_held
        self._lines = 0
        self._held = 0

    def take_line(self, has: int) -> str:
        """Count one more connection of a driver that ``has`` some; return why it cannot be, empty if it can."""
        if self._lines >= self._most_lines and has >= OWN_LINES:
            return f"all drivers together have {self._most_lines} connections open; try again later"
        self._lines += 1
        return ""

    def give_line_back(self) -> None:
        """A connection that was counted is gone."""
        self._lines -= 1

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Keep ``size`` bytes of a request.

        Raises:
            Refused: there is no room for them now.
        """
        if self._held + size > self._most_held:
            raise Refused(503, f"all drivers together keep {self._most_held >> 20} MiB of requests; try again later")
        self._held += size
        try:
            yield
        finally:
            self._held -= size
