"""What the relay needs of a connection to a vendor, whichever version of HTTP it speaks."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from byenatos_sandbox.broker.keys import Header

__all__ = ["Exchange", "Head", "Order", "Upstream", "UpstreamError"]


class UpstreamError(Exception):
    """The vendor's side broke off or broke the protocol; the sentence says how, and quotes nothing of it."""


class Order(Struct, frozen=True):
    """The head of a request as it goes out, but for the Host. Names are in lower case."""

    method: bytes
    target: bytes
    authority: bytes
    headers: list[Header]


class Head(Struct, frozen=True):
    """The head of an answer."""

    status: int
    headers: list[Header]


class Exchange(Protocol):
    """One request and its answer."""

    def send(self, data: bytes) -> None:
        """Queue a piece of the request's body."""

    def finish(self) -> None:
        """Queue the end of the request."""

    async def flush(self) -> None:
        """Write what is queued and wait until the vendor has room; raises ``UpstreamError``."""

    async def head(self) -> Head:
        """Wait for the answer to begin; raises ``UpstreamError``."""

    def take(self) -> bytes | None:
        """Return what is here of the answer, empty if that is nothing yet; ``None`` at its end.

        Raises:
            UpstreamError: there will be no end.
        """

    async def more(self, taker: Callable[[], bool]) -> None:
        """Wait until there may be something to take.

        ``taker`` may be called when there is, in place of coming back, as often as it says that it wants to be again.
        """

    def release(self) -> None:
        """Be done with it. An exchange that is not over is broken off, which its vendor is told at once."""


class Upstream(Protocol):
    """A connection to a vendor."""

    multiplexed: bool
    """Whether it carries several exchanges at a time."""
    idle_since: float
    """When its last exchange ended."""

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin now."""

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""

    def begin(self, order: Order) -> Exchange:
        """Queue the head of a request; it leaves with the first flush."""

    def close(self) -> None:
        """Close it, and break off what goes on over it."""
