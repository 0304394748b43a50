"""What the driver has said and the kernel has not been sent yet.

The message is the unit of cost (2 us) and not the delta (0.05 us), so events are collected and leave together,
at the end of the loop's turn and never by a timer. Any thread may put events in: a list's ``append``, its slice and the
deletion of a slice are each one step for other threads, and nothing but a flush takes away.

A channel that is full keeps its events here. ``congested`` tells whoever makes them to stop, so that the memory stays
bounded; the outbox then says once, through ``room``, that there is room again.
"""

from collections.abc import Callable

from msgspec.structs import replace

from byenatos_sdk.protocol.frames import DriverEvent, encode
from byenatos_sdk.protocol.messages import Failure, ReasoningDelta
from byenatos_sdk.runtime.channel import Channel
from byenatos_sdk.runtime.plugin import cleaned

__all__ = ["Outbox"]

FRAME_BYTES = (128 << 10) + 512
"""The largest frame of several events; a single event that cannot be cut, such as a tool call, may be longer."""

EVENT_BYTES = 1 << 20
"""The largest single event that the kernel takes."""

FRAME_EVENTS = 4096

TEXT_PIECE = 32 << 10
"""Characters, at most four bytes each, of the longest text in one delta; a longer one is cut."""

CROWDED = 8192
"""Events that may wait before their makers are told to pause."""


class Outbox:
    """Events on their way to the kernel.

    ``wake`` is called when a flush is wanted, ``room`` when an outbox that was seen full is so no more; both are called
    from any thread.
    """

    __slots__ = ("_channel", "_room", "_wake", "_watched", "awake", "blocked", "pending")

    def __init__(self, channel: Channel, wake: Callable[[], None], room: Callable[[], None]) -> None:
        self._channel = channel
        self._wake = wake
        self._room = room
        self._watched = False
        self.pending: list[tuple[int, DriverEvent]] = []
        self.awake = False
        """Whether a flush is coming anyway."""
        self.blocked = False
        """Whether the channel takes nothing more for now."""

    def put(self, id: int, event: DriverEvent) -> None:
        """Add an event of stream or call ``id``; 0 is the instance itself."""
        self.pending.append((id, event))
        if not self.awake:
            self.rouse()

    def rouse(self) -> None:
        """Have what was put in flushed soon."""
        self.awake = True
        self._wake()

    @property
    def congested(self) -> bool:
        """Whether makers of events should pause until ``room`` is called."""
        if not self.blocked and len(self.pending) <= CROWDED:
            return False
        self._watched = True  # first, then look again: a flush in another thread either sees this or is seen here
        return self.blocked or len(self.pending) > CROWDED

    def flush(self) -> bool:
        """Send until nothing is left or the channel is full; return whether it takes more."""
        pending = self.pending
        channel = self._channel
        most = FRAME_EVENTS
        with channel.lock:
            while pending:
                batch = pending[:most]
                try:
                    frame = encode(batch)
                except UnicodeEncodeError:
                    pending[: len(batch)] = [(number, _encodable(event)) for number, event in batch]
                    continue
                if len(frame) > FRAME_BYTES:
                    if len(batch) > 1:
                        most = len(batch) // 2
                        continue
                    pieces = _pieces(*batch[0], len(frame))
                    if pieces:
                        pending[:1] = pieces
                        continue
                if not channel.send(frame):
                    self.blocked = True
                    return False
                del pending[: len(batch)]
            self.blocked = not channel.resume()
        if self.blocked:
            return False
        if self._watched:
            self._watched = False
            self._room()
        return True


def _encodable(event: DriverEvent) -> DriverEvent:
    """Replace half a surrogate pair, which is no character and has no UTF-8, by a question mark.

    What comes out can be encoded, whatever came in: the outbox must get rid of it.
    """
    if isinstance(event, str):
        return cleaned(event)
    if isinstance(event, ReasoningDelta):
        return replace(event, text=cleaned(event.text))
    try:
        encode(event)
    except UnicodeEncodeError:
        return Failure("internal", f"expected text, found a {type(event).__name__} with half a surrogate pair")
    return event


def _pieces(id: int, event: DriverEvent, size: int) -> list[tuple[int, DriverEvent]]:
    """Cut a text that is too long for one frame; empty if the event, of ``size`` bytes, is to be sent as it is.

    A reasoning's signature stays with its last piece.
    """
    text = event if isinstance(event, str) else event.text if isinstance(event, ReasoningDelta) else ""
    if len(text) > TEXT_PIECE:
        texts = [text[start : start + TEXT_PIECE] for start in range(0, len(text), TEXT_PIECE)]
        if not isinstance(event, ReasoningDelta):
            return [(id, piece) for piece in texts]
        return [*((id, ReasoningDelta(text)) for text in texts[:-1]), (id, replace(event, text=texts[-1]))]
    if size > EVENT_BYTES:
        kind = type(event).__name__
        return [(id, Failure("internal", f"expected a {kind} of at most {EVENT_BYTES} bytes, found one of {size}"))]
    return []
