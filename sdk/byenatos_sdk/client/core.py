"""The client's end of the bus without any I/O: method calls become frames to send, frames that came become events.

Both shells (``aio``, ``blocking``) and load generators drive this one class. They send whatever stands in
:attr:`Connection.outgoing`, hand every frame that arrives to :meth:`Connection.receive`, and call
:meth:`Connection.lost` when the kernel is gone. Everything that must be right whatever the schedule is decided here:

- **One terminal.** An exchange is a stream (ends in ``Finish`` or ``Failure``) or a call (``Reply`` or ``Failure``).
  There are two ways to end and one place for each: its terminal arrived (:meth:`Connection.receive`), or the connection
  ended and a ``Failure`` is put in its place. An event for an exchange that has ended means that the two ends no longer
  agree; going on would risk mixing up answers, so the connection is lost. Ids that were never given out are ignored: no
  exchange of ours can be harmed by them.
- **Ids** count up from 1 and are never used twice: msgpack carries 64 bits and JavaScript peers 53; at a million
  requests per second 2**53 lasts 285 years. Id 0 is the handshake.
- **Leaving** an exchange sends ``Cancel`` and forgets the inbox, but not the id: until the kernel confirms with the
  terminal, events that are already on the way are dropped, and are no violation.
- **Acknowledgements.** The kernel keeps at most ``4 * ACK_EVERY`` frames and some megabytes on the way. So frames are
  acknowledged every ``ACK_EVERY`` *and* every megabyte: a few large ones (a long transcript) would otherwise close the
  window for good. They are acknowledged when they are *taken from the socket*, not when the application has read its
  events: otherwise one stream that nobody reads would stop all others. What bounds such a stream is its pause.
- **Pause.** When more than 64 K characters wait in one inbox the kernel is asked to hold that stream, and to go on when
  less than a quarter is left. What the kernel then collects is its own to bound (``client_too_slow``).

Cost: decoding is half of it. On one core of a small virtual machine on which ``decode_client_events`` takes 0.22 us for
each delta of a batch of 64, ``receive`` takes 0.35 us without and 0.45 us with an inbox, a whole exchange 4 and 8 us.
"""

import math
from collections import deque
from typing import Any

from byenatos_sdk.client.inbox import Inbox, weigh
from byenatos_sdk.protocol.errors import InvalidRequest, Overloaded, Unavailable
from byenatos_sdk.protocol.frames import (
    ACK_EVERY,
    MAX_BODY,
    MAX_HEADER,
    UNREADABLE,
    Ack,
    Bye,
    Call,
    Cancel,
    ClientEvent,
    ClientHeader,
    Hello,
    Notice,
    Open,
    Pause,
    Refused,
    Reply,
    Welcome,
    decode_client_events,
    encode,
)
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, Moved, TextDelta
from byenatos_sdk.protocol.versions import FEATURES, MAJORS

__all__ = ["ACK_BYTES", "MOST_OUTGOING", "PAUSE_ABOVE", "RESUME_BELOW", "Connection", "Frames", "KernelNotRunning"]

Frames = tuple[bytes, bytes]
"""One message to the kernel: header and body."""

PAUSE_ABOVE = 64 << 10
"""Characters waiting in one inbox above which its stream is paused."""

RESUME_BELOW = PAUSE_ABOVE // 4
"""Characters waiting in one inbox below which its stream goes on."""

ACK_BYTES = 1 << 20
"""Bytes in unacknowledged frames at which they are acknowledged, few as they may be."""

MOST_OUTGOING = 10_000
"""Messages that may wait because the socket takes no more, before new exchanges are refused as ``overloaded``."""

MOST_MS = 10**12
"""The longest time limit that is sent, thirty years."""

_HANDSHAKE = 0
_TERMINALS = frozenset({Finish, Failure, Reply})
_NEWS = frozenset({Moved, Notice})  # events that are no part of an answer


class KernelNotRunning(Unavailable):
    """No kernel answers at the home's socket. Start one with ``byenatos up``, or name another home."""


class Connection:
    """One connection to one kernel; see the module. Not safe for use by several threads at once."""

    __slots__ = (
        "_calls",
        "_ignored",
        "_inboxes",
        "_next",
        "_unacknowledged",
        "_unacknowledged_bytes",
        "_unattended",
        "loss",
        "outgoing",
        "welcome",
    )

    def __init__(self) -> None:
        self.outgoing: deque[Frames] = deque()
        """Messages to send, the oldest first; whoever sends takes them out."""
        self.welcome: Welcome | None = None
        """The kernel's side of the handshake, once it came."""
        self.loss: str | None = None
        """Why the connection ended; ``None`` while it lasts."""
        self._inboxes: dict[int, Inbox] = {}
        self._unattended: set[int] = set()  # run, but nobody reads them here: left ones and those without an inbox
        self._calls: set[int] = set()
        self._next = 1
        self._unacknowledged = 0
        self._unacknowledged_bytes = 0
        self._ignored = False

    # ---- out ---------------------------------------------------------------------------------------------------

    def hello(self, name: str = "") -> Inbox:
        """Begin the handshake; ``Welcome`` or ``Refused`` comes to the inbox that is returned."""
        inbox = self._inboxes[_HANDSHAKE] = Inbox(_HANDSHAKE)
        self._send(Hello(MAJORS, tuple(sorted(FEATURES)), name))
        return inbox

    def open(
        self,
        target: str,
        body: bytes,
        *,
        session: str | None = None,
        timeout_s: float | None = None,
        gap_timeout_s: float | None = None,
        inbox: Inbox | None = None,
    ) -> int:
        """Start a stream whose request is already encoded, and return its id.

        Without an ``inbox`` its events are only returned by :meth:`receive`: for load generators.

        Raises:
            Unavailable: if the connection has ended or has not begun.
            Overloaded: if too many messages wait to be sent.
            InvalidRequest: if the body, or a name, is larger than a kernel takes.
        """
        _check_size(body)
        header = Open(self._next, target, session, _milliseconds(timeout_s), _milliseconds(gap_timeout_s))
        encoded = _encoded(header)
        if len(encoded) > MAX_HEADER:
            longest = max(target, session or "", key=len)
            raise InvalidRequest(f"expected the name of a slot, model or session, found {len(longest)} characters")
        number = self._begin(inbox)
        self.outgoing.append((encoded, body))
        return number

    def stream(self, request: InferenceRequest) -> Inbox:
        """Start a stream and return where its events will arrive; raises what :meth:`open` raises.

        Raises:
            InvalidRequest: if the request holds what cannot travel.
        """
        inbox = Inbox(self._next)
        self.open(
            request.model,
            _encoded(request),
            session=request.session,
            timeout_s=request.timeout_s,
            gap_timeout_s=request.gap_timeout_s,
            inbox=inbox,
        )
        return inbox

    def call(self, method: str, parameters: Any) -> Inbox:
        """Call a control method; its notices and its one ``Reply`` or ``Failure`` come to the inbox.

        Raises what :meth:`stream` raises.
        """
        body = _encoded(parameters)
        _check_size(body)
        inbox = Inbox(self._next)
        number = self._begin(inbox)
        self._calls.add(number)
        self.outgoing.append((encode(Call(number, method)), body))
        return inbox

    def cancel(self, id: int) -> None:
        """Ask the kernel to stop an exchange; its terminal still comes. Nothing is sent for one that has ended."""
        if id in self._inboxes or id in self._unattended:
            self._send(Cancel(id))

    def leave(self, inbox: Inbox) -> None:
        """Give an exchange up: the kernel is told to stop; whoever waits is woken and finds the inbox ended."""
        inbox.events.clear()
        inbox.weight = 0
        if not inbox.ended:
            inbox.ended = True
            self.cancel(inbox.id)
            del self._inboxes[inbox.id]
            self._unattended.add(inbox.id)
            inbox.rouse()

    def close(self) -> list[tuple[int, ClientEvent]]:
        """Say goodbye; what still runs ends in ``Failure(cancelled)``, which is returned."""
        if self.loss is None:
            self._send(Bye())
        return self._end("cancelled", "this client was closed; open a new one")

    # ---- in ----------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes | memoryview) -> list[tuple[int, ClientEvent]]:
        """Take one frame from the kernel and return the events in it that belong to running exchanges.

        A frame that breaks the protocol ends the connection, and the failures of all that ran are among the events.
        """
        if self.loss is not None:
            return []
        try:
            events = decode_client_events(frame)
        except UNREADABLE as error:
            return self.lost(_violation(f"a frame that cannot be decoded ({error})"))
        self._unacknowledged += 1
        self._unacknowledged_bytes += len(frame)
        if self._unacknowledged >= ACK_EVERY or self._unacknowledged_bytes >= ACK_BYTES:
            self._send(Ack(self._unacknowledged))
            self._unacknowledged = self._unacknowledged_bytes = 0
        inboxes, unattended = self._inboxes, self._unattended
        for position, (number, event) in enumerate(events):
            inbox = inboxes.get(number)
            if type(event) is TextDelta:
                if inbox is not None:
                    inbox.events.append(event)
                    inbox.delivered = True
                    inbox.weight += len(event.text)
                    if inbox.weight > PAUSE_ABOVE and not inbox.paused:
                        self._pause(inbox)
                    if inbox.wake is not None:
                        inbox.rouse()
                    continue
                if number in unattended:
                    continue
            if reason := self._take_in(number, event, inbox):
                return self._ours(events[:position]) + self.lost(reason)
        return self._ours(events) if self._ignored else events

    def take(self, inbox: Inbox) -> ClientEvent | None:
        """Take the oldest event out of an inbox; ``None`` when nothing waits in it."""
        if not inbox.events:
            return None
        event = inbox.events.popleft()
        inbox.weight -= weigh(event)
        if inbox.paused and inbox.weight < RESUME_BELOW:
            inbox.paused = False
            if not inbox.ended:
                self._send(Pause(inbox.id, False))
        return event

    def take_all(self, inbox: Inbox) -> list[ClientEvent]:
        """Take everything out of an inbox, the oldest first."""
        events = list(inbox.events)
        inbox.events.clear()
        inbox.weight = 0
        if inbox.paused:
            inbox.paused = False
            if not inbox.ended:
                self._send(Pause(inbox.id, False))
        return events

    def lost(self, reason: str) -> list[tuple[int, ClientEvent]]:
        """End the connection: what runs ends in ``Failure(unavailable)``, which is returned; nothing more is sent."""
        self.outgoing.clear()
        return self._end("unavailable", reason)

    # ---- inside ------------------------------------------------------------------------------------------------

    def _send(self, header: ClientHeader) -> None:
        self.outgoing.append((encode(header), b""))

    def _begin(self, inbox: Inbox | None) -> int:
        """Give out the next id; an inbox was made with it."""
        if self.loss is not None:
            raise Unavailable(self.loss)
        if self.welcome is None:
            raise Unavailable("expected a client that is connected; use it inside `with` or `async with`")
        if len(self.outgoing) >= MOST_OUTGOING:
            raise Overloaded(
                f"{len(self.outgoing)} messages wait to be sent: the kernel takes no more; start fewer requests at once"
            )
        number = self._next
        self._next = number + 1
        if inbox is None:
            self._unattended.add(number)
        else:
            self._inboxes[number] = inbox
        return number

    def _take_in(self, number: int, event: ClientEvent, inbox: Inbox | None) -> str | None:
        """Take in any event but the text of an attended stream; return why the connection ends, if it does."""
        kind = type(event)
        if inbox is None and number not in self._unattended:
            if 0 < number < self._next:
                return _violation(f"{kind.__name__} for exchange {number}, which had ended")
            if number == _HANDSHAKE and isinstance(event, Refused):
                return f"the kernel refused this client: {event.reason}"
            self._ignored = True
            return None
        if number == _HANDSHAKE:
            if isinstance(event, Welcome):
                self.welcome = event
            elif not isinstance(event, Refused):
                return _violation(f"{kind.__name__} in answer to the handshake")
        elif kind not in _TERMINALS:
            if inbox is not None:
                self._put(inbox, event)
            return None
        elif kind is not Failure and (kind is Reply) != (number in self._calls):
            return _violation(f"{kind.__name__} at the end of exchange {number}, which is of another kind")
        self._calls.discard(number)
        if inbox is None:
            self._unattended.discard(number)
        else:
            del self._inboxes[number]
            inbox.ended = True
            self._put(inbox, event)
        return None

    def _put(self, inbox: Inbox, event: ClientEvent) -> None:
        inbox.events.append(event)
        inbox.weight += weigh(event)
        if not inbox.ended:
            inbox.delivered = inbox.delivered or type(event) not in _NEWS
            if inbox.weight > PAUSE_ABOVE and not inbox.paused:
                self._pause(inbox)
        inbox.rouse()

    def _pause(self, inbox: Inbox) -> None:
        """Ask for a pause where the kernel knows one; a call has none."""
        if self.welcome is not None and "pause" in self.welcome.features and inbox.id not in self._calls:
            inbox.paused = True
            self._send(Pause(inbox.id, True))

    def _ours(self, events: list[tuple[int, ClientEvent]]) -> list[tuple[int, ClientEvent]]:
        """Leave out the events of ids that were never given out."""
        self._ignored = False
        return [pair for pair in events if 0 <= pair[0] < self._next]

    def _end(self, code: str, reason: str) -> list[tuple[int, ClientEvent]]:
        if self.loss is not None:
            return []
        self.loss = reason
        failures: list[tuple[int, ClientEvent]] = [
            (number, Failure(code, reason)) for number in sorted(self._unattended)
        ]
        for number, inbox in self._inboxes.items():
            failure = Failure(code, reason, None, inbox.delivered)
            inbox.ended = True
            self._put(inbox, failure)
            failures.append((number, failure))
        self._inboxes.clear()
        self._unattended.clear()
        self._calls.clear()
        return failures


def _encoded(value: Any) -> bytes:
    try:
        return encode(value)
    except OverflowError:
        raise InvalidRequest("expected integers of at most 64 bits, found a larger one") from None
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"expected text, found half a surrogate pair in {error.object!a:.60}") from None
    except RecursionError:
        raise InvalidRequest("expected values within values a few hundred deep at most, found deeper ones") from None


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BODY:
        raise InvalidRequest(
            f"expected a request of at most {MAX_BODY >> 20} MiB, found {len(body) / (1 << 20):.1f} MiB; "
            "send fewer or smaller images and files, or a url in place of their bytes"
        )


def _milliseconds(seconds: float | None) -> int:
    """Convert a time limit for the wire, where 0 means the kernel's default; a limit never rounds to none."""
    return 0 if seconds is None else min(max(1, math.ceil(seconds * 1000)), MOST_MS)


def _violation(found: str) -> str:
    return f"the kernel broke the protocol: it sent {found}; use the same release of kernel and client"
