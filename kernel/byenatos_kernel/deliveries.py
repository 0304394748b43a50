"""Deliveries: what drivers say, on its way to the clients. The hot path of the kernel.

The events of one read are sorted by stream before anything else is done, because the bookkeeping is the cost and not
the delta; what came of them leaves for the clients at the end of the same read. What waits for a client is bounded
here: a stream that its client does not read, or that has no end, is cut off.
"""

from collections.abc import Callable
from time import thread_time
from typing import Protocol

import msgspec

from byenatos_kernel.clients import ClientState
from byenatos_kernel.hearsay import bounded_failure, bounded_finish
from byenatos_kernel.instances import Instance
from byenatos_kernel.streams import JOIN_EVERY, Stream
from byenatos_sdk.protocol.errors import ByenatosError, ClientTooSlow, Overloaded
from byenatos_sdk.protocol.frames import MOST_EVENTS, DriverEvent, count_events, decode_driver_events
from byenatos_sdk.protocol.messages import Failure, Finish, Logprobs, ReasoningDelta, Terminal, ToolCallDelta

__all__ = ["Deliveries", "Wire"]

LAG_LIMIT = 256 << 10
"""Bytes of one stream that may wait for its client."""
CLIENT_LAG_LIMIT = 16 << 20
"""Bytes of all streams of one client that may wait for it."""
STREAM_LIMIT = 4 << 20
"""Bytes of one whole answer."""
_LONG_PIECE = 4096
_FEW = 8
_CONTENT = (ReasoningDelta, ToolCallDelta, Logprobs)


class Wire(Protocol):
    """Where events leave for the clients; the bus."""

    dirty: dict[ClientState, None]
    flush_due: bool

    def flush(self) -> None:
        """Send what waits for the dirty clients."""

    def schedule_flush(self) -> None:
        """Flush at the end of this turn of the loop."""


class Deliveries:
    """Takes the events of instances. ``deltas`` counts since the start.

    ``terminal`` is told of the driver's last word on a stream, ``cut_off`` of one that became too long or too slow.
    """

    def __init__(
        self,
        wire: Wire,
        terminal: Callable[[Stream, Terminal], None],
        cut_off: Callable[[Stream, ByenatosError], None],
    ) -> None:
        self.deltas = 0
        self._wire = wire
        self._terminal = terminal
        self._cut_off = cut_off

    def take(self, instance: Instance, frames: list[bytes]) -> None:
        """Take the events of one read of a driver's channel and pass them on."""
        wire = self._wire
        wire.flush_due = True  # below, whatever the frames hold
        # a call of the system, which the few words of one step of an engine are not worth
        began = thread_time() if len(frames) > _FEW or len(frames[0]) > _LONG_PIECE else 0.0
        strays, deltas = instance.strays, self.deltas
        try:
            idle = self._take(instance, frames) + instance.strays - strays
            if idle and began:
                instance.waste((thread_time() - began) * idle / (idle + self.deltas - deltas))
        finally:
            wire.flush()

    def touch(self, stream: Stream) -> None:
        """Have the stream's client flushed."""
        client = stream.client
        if not stream.dirty:
            stream.dirty = True
            client.dirty.append(stream)
        self._wire.dirty[client] = None
        self._wire.schedule_flush()

    def _take(self, instance: Instance, frames: list[bytes]) -> int:
        """Sort the events of one read by stream and give each its text at once: the bookkeeping is the cost.

        Return how many pieces of text were for nobody.
        """
        streams = instance.streams
        for_nobody = 0
        texts: dict[int, list[str]] = {}
        try:
            for frame in frames:
                if len(frame) > MOST_EVENTS and count_events(frame) > MOST_EVENTS:
                    raise msgspec.DecodeError(
                        f"expected at most {MOST_EVENTS} events in a frame, found {count_events(frame)}"
                    )
                for number, event in decode_driver_events(frame):
                    if type(event) is str:
                        pieces = texts.get(number)
                        if pieces is not None:
                            pieces.append(event)
                        elif number in streams:
                            texts[number] = [event]
                        elif number in instance.listeners:
                            instance.event(number, event)
                        else:
                            for_nobody += 1
                    else:
                        if number in texts:
                            self._add_text(instance, number, texts.pop(number))
                        self._take_other(instance, number, event)
        finally:  # what came before a frame that cannot be read counts
            for number, pieces in texts.items():
                self._add_text(instance, number, pieces)
        return for_nobody

    def _add_text(self, instance: Instance, number: int, pieces: list[str]) -> None:
        """Queue what one read brought of a stream's text."""
        stream = instance.streams.get(number)
        if stream is None:
            return
        text = pieces[0] if len(pieces) == 1 else "".join(pieces)
        size = len(text)
        if not size:
            instance.stray(len(pieces))  # what has no size would be counted by no limit
        client = stream.client
        pending = stream.pending
        pending.append(text)
        self.deltas += len(pieces)
        stream.total += size
        stream.lag += size
        client.lag += size
        if not stream.dirty:
            stream.progress = instance.last_seen
            if stream.awaited:
                self._heard(stream, instance.last_seen)
            stream.dirty = True
            client.dirty.append(stream)
            self._wire.dirty[client] = None
        elif len(pending) >= JOIN_EVERY:
            stream.settle()
        if size > _LONG_PIECE:
            stream.settle()
        if stream.lag > LAG_LIMIT or client.lag > CLIENT_LAG_LIMIT or stream.total > STREAM_LIMIT:
            self._over_limit(stream)

    def _take_other(self, instance: Instance, number: int, event: DriverEvent) -> None:
        """Take any event but text."""
        stream = instance.streams.get(number) if number else None
        if stream is None:
            instance.event(number, event)
        elif type(event) is Finish:
            self._terminal(stream, bounded_finish(event))
        elif type(event) is Failure:
            self._terminal(stream, bounded_failure(event))
        elif isinstance(event, _CONTENT):
            self.deltas += 1
            stream.progress = instance.last_seen
            if stream.awaited:
                self._heard(stream, instance.last_seen)
            stream.add_event(event)
            self.touch(stream)
            if stream.lag > LAG_LIMIT or stream.client.lag > CLIENT_LAG_LIMIT or stream.total > STREAM_LIMIT:
                self._over_limit(stream)

    def _heard(self, stream: Stream, at: float) -> None:
        """The first delta of a stream came at its present place."""
        stream.awaited = False
        if not stream.first_at:
            stream.first_at = at
        if stream.trial is not None:
            stream.trial.heard(at)

    def _over_limit(self, stream: Stream) -> None:
        if stream.total > STREAM_LIMIT:
            self._cut_off(
                stream, Overloaded(f"the answer is longer than {STREAM_LIMIT >> 20} MiB and was cut off here")
            )
        else:
            stream.discard()
            stream.paused = False
            self._cut_off(
                stream,
                ClientTooSlow(
                    f"the client did not read: {LAG_LIMIT >> 10} KiB of this stream, or "
                    f"{CLIENT_LAG_LIMIT >> 20} MiB of all its streams, were waiting for it"
                ),
            )
