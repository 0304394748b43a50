"""What has arrived for one exchange, a stream or a call, and has not been read yet."""

from collections import deque
from collections.abc import Callable

from byenatos_sdk.protocol.frames import ClientEvent, Notice
from byenatos_sdk.protocol.messages import Logprobs, ReasoningDelta, TextDelta, ToolCallDelta

__all__ = ["Inbox", "weigh"]


class Inbox:
    """A queue of events that :class:`~byenatos_sdk.client.core.Connection` fills and empties.

    ``weight`` is the characters that wait in it; ``delivered`` whether any part of an answer arrived; ``ended`` whether
    nothing more will arrive. ``wake``, when set, is called once at the next arrival: whoever waits sets it.
    """

    __slots__ = ("delivered", "ended", "events", "id", "paused", "wake", "weight")

    def __init__(self, id: int) -> None:
        self.id = id
        self.events: deque[ClientEvent] = deque()
        self.weight = 0
        self.delivered = False
        self.ended = False
        self.paused = False
        self.wake: Callable[[], None] | None = None

    def rouse(self) -> None:
        """Call ``wake`` if somebody waits."""
        wake = self.wake
        if wake is not None:
            self.wake = None
            wake()


def weigh(event: ClientEvent) -> int:
    """Return about how many characters an event holds: a function of the event alone, so that sums balance."""
    if isinstance(event, TextDelta):
        return len(event.text)
    if isinstance(event, ReasoningDelta):
        return len(event.text)
    if isinstance(event, ToolCallDelta):
        return len(event.arguments)
    if isinstance(event, Logprobs):
        return sum(len(token.token) * (1 + len(token.top)) for token in event.tokens)
    if isinstance(event, Notice):
        return len(event.body)
    return 0
