"""A client as the kernel sees it: its streams, what waits for it, and how much is on the way to it."""

from collections import deque

from byenatos_kernel.streams import JOIN_EVERY, Stream, StreamState
from byenatos_sdk.protocol.frames import ACK_EVERY, ClientEvent
from byenatos_sdk.protocol.messages import Delta

__all__ = ["ClientState"]

WINDOW_FRAMES = 4 * ACK_EVERY
"""Event frames on the way to one client; what does not fit waits in its streams, joined."""

WINDOW_BYTES = 8 << 20
"""Bytes on the way to one client."""

FRAME_BYTES = 32 << 10
"""About how many bytes of events go into one frame."""


class ClientState:
    """One connection.

    ``lag``: bytes that its streams hold back; ``control_bytes``: of replies that wait; ``body_bytes``: of the requests
    that run; ``in_flight``: sizes of the unacknowledged frames; ``since``: when it came, in the loop's time;
    ``features``: what it understands besides what every client does.
    """

    __slots__ = (
        "body_bytes",
        "calls",
        "control",
        "control_bytes",
        "dirty",
        "features",
        "gone",
        "in_flight",
        "in_flight_bytes",
        "lag",
        "name",
        "owner",
        "pid",
        "since",
        "streams",
    )

    def __init__(self, owner: str, pid: int) -> None:
        self.owner = owner
        self.pid = pid
        self.name = ""
        self.features: frozenset[str] = frozenset()
        self.streams: dict[int, Stream] = {}
        self.calls: dict[int, str] = {}
        self.dirty: list[Stream] = []
        self.control: list[tuple[int, ClientEvent]] = []
        self.control_bytes = 0
        self.body_bytes = 0
        self.in_flight: deque[int] = deque()
        self.in_flight_bytes = 0
        self.lag = 0
        self.gone = False
        self.since = 0.0

    @property
    def open(self) -> bool:
        """Whether the window has room for another frame."""
        return len(self.in_flight) < WINDOW_FRAMES and self.in_flight_bytes < WINDOW_BYTES

    def sent(self, size: int) -> None:
        """Note that a frame of ``size`` bytes is on its way."""
        self.in_flight.append(size)
        self.in_flight_bytes += size

    def acknowledge(self, count: int) -> None:
        """Note that the client has read ``count`` more frames; more than were sent counts as all."""
        in_flight = self.in_flight
        for _ in range(min(max(count, 0), len(in_flight))):
            self.in_flight_bytes -= in_flight.popleft()

    def next_frame(self) -> list[tuple[int, ClientEvent | Delta]]:
        """Collect the next frame's events: control answers first, then streams, in the order they became ready."""
        out: list[tuple[int, ClientEvent | Delta]] = []
        if self.control:
            out, self.control = self.control, []
            self.control_bytes = 0
            return out
        size = taken = 0
        for stream in self.dirty:
            taken += 1
            stream.dirty = False
            if stream.paused:
                if len(stream.pending) >= JOIN_EVERY:
                    stream.settle()
                continue
            size += stream.take(out)
            if stream.state is StreamState.ENDED:
                self.streams.pop(stream.client_id, None)
            if size > FRAME_BYTES:
                break
        del self.dirty[:taken]
        return out
