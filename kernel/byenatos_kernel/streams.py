"""A stream: one request on its way from a client to a driver, with everything that its answer has said so far.

The journal of a stream is two things at once: what a failover or a swap continues from, and the send buffer of a client
that lags. Text waits as small pieces in ``pending``, in front of it ``events`` in order; every 64 pieces are joined, so
that a waiting token costs its characters and not a Python object. ``lag`` counts characters while text is pending and
is set right at each join to the bytes of memory that it really takes, so that a flood of four-byte characters is
bounded like one of ASCII. What was delivered lies in ``journal``, joined every 64 pieces into a chapter: constant cost
per delta, however long the answer.
"""

import sys
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.frames import ClientEvent
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Logprobs,
    Moved,
    Reasoning,
    ReasoningDelta,
    Terminal,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

if TYPE_CHECKING:
    from byenatos_kernel.clients import ClientState
    from byenatos_kernel.instances import Instance
    from byenatos_kernel.pieces import Record
    from byenatos_kernel.trials import Trial
    from byenatos_kernel.units import Unit

__all__ = ["Refusal", "Stream", "StreamState"]

JOIN_EVERY = 64
_EVENT_BYTES = 128


class StreamState(Enum):
    """Where a stream stands. It only ever moves down this list, except from RUNNING back to WAITING on a failover."""

    WAITING = 1
    RUNNING = 2
    STORING = 3
    ENDED = 4


class Refusal(NamedTuple):
    """A place that failed a stream, and what it said."""

    unit: "Unit"
    failure: Failure


class Stream:
    """One request and its answer. ``client_id`` is the client's number for it, ``id`` the kernel's current one.

    ``lag`` is what waits for the client and ``total`` the whole answer, both about in bytes. ``deadline`` and
    ``progress`` are loop times, and so is ``first_at``, when its first delta came (0: none has); a ``gap_s`` of 0 means
    no gap limit. ``epoch`` and ``model`` are those of the last instance that it was on.

    ``base`` is how many characters of the answer its present driver, or the one whose warm state that went on from, was
    begun with. ``awaited``: nothing has come from its present place yet. ``record`` is the journal of its warm state,
    ``trial`` a move that may still be undone. ``refusals`` are the places that failed it. ``departed``: the model that
    it left, and why, until it goes on elsewhere.
    """

    __slots__ = (
        "awaited",
        "base",
        "body",
        "body_bytes",
        "chapters",
        "client",
        "client_id",
        "crashes",
        "deadline",
        "departed",
        "dirty",
        "epoch",
        "event_lag",
        "events",
        "first_at",
        "gap_s",
        "id",
        "instance",
        "journal",
        "lag",
        "model",
        "moves",
        "opened_at",
        "parts",
        "paused",
        "pending",
        "progress",
        "record",
        "refusals",
        "session",
        "slot",
        "state",
        "target",
        "terminal",
        "total",
        "trial",
    )

    def __init__(self, client: "ClientState", client_id: int, target: str) -> None:
        self.client = client
        self.client_id = client_id
        self.target = target
        self.slot: str | None = None
        self.id = 0
        self.body = b""
        self.body_bytes = 0
        self.session: str | None = None
        self.instance: Instance | None = None
        self.state = StreamState.WAITING
        self.pending: list[str] = []
        self.events: list[Delta] = []
        self.terminal: Terminal | None = None
        self.journal: list[str] = []
        self.chapters: list[str] = []
        self.parts: list[ToolCall | Reasoning] = []
        self.dirty = False
        self.lag = 0
        self.event_lag = 0
        self.total = 0
        self.moves = 0
        self.crashes = 0
        self.paused = False
        self.opened_at = 0.0
        self.first_at = 0.0
        self.progress = 0.0
        self.deadline = 0.0
        self.gap_s = 0.0
        self.base = 0
        self.awaited = True
        self.epoch = 0
        self.model = ""
        self.refusals: list[Refusal] = []
        self.departed: tuple[str, str] | None = None
        self.record: Record | None = None
        self.trial: Trial | None = None

    @property
    def text(self) -> str:
        """All text of the answer so far, delivered or not."""
        waiting = [event.text for event in self.events if type(event) is TextDelta]
        return "".join((*self.chapters, *self.journal, *waiting, *self.pending))

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self.pending or self.events or self.terminal)

    @property
    def started(self) -> bool:
        """Whether any part of the answer exists."""
        return bool(self.total)

    @property
    def answered(self) -> bool:
        """Whether anything came from the place where it is."""
        return not self.awaited

    @property
    def bound(self) -> bool:
        """Whether a tool call is out: what follows it must come from the same turn, so the stream is not moved."""
        return any(type(part) is ToolCall for part in self.parts)

    def check_at(self, instance: "Instance | None", number: int) -> None:
        """Look, after waiting, whether the stream still runs at ``instance`` under ``number``.

        Raises:
            Unavailable: it does not.
        """
        if self.instance is not instance or self.id != number or self.state is not StreamState.RUNNING:
            raise Unavailable("the answer has ended meanwhile, or is elsewhere")

    def end_trial(self) -> None:
        """Wherever the stream is on trial, if it is: it stays, or somebody else decides where it goes."""
        if self.trial is not None:
            self.trial.end()
            self.trial = None

    def depart(self, source: str, reason: str) -> None:
        """The stream goes on at another model than ``source``, or at another process of it, which has other thoughts.

        A thought that has no signature would be taken for the beginning of the next one.
        """
        if self.departed is None:
            self.departed = (source, reason)
        self.parts = [
            part
            for part in self.parts
            if not isinstance(part, Reasoning) or part.signature is not None or part.redacted
        ]

    def arrive(self, target: str) -> bool:
        """The stream goes on at ``target``: queue the ``Moved`` that its client is owed, if any; return whether."""
        if self.departed is None:
            return False
        source, reason = self.departed
        self.departed = None
        self.moves += 1
        self.add_event(Moved(source, target, reason))
        return True

    def settle(self) -> None:
        """Join the pending pieces into one event and count what it really weighs."""
        if self.pending:
            text = "".join(self.pending)
            self.pending.clear()
            self.events.append(TextDelta(text))
            self.event_lag += sys.getsizeof(text)
            self._weigh()

    def add_event(self, delta: Delta) -> None:
        """Queue a delta that is not text behind the text that came before it."""
        self.settle()
        self.events.append(delta)
        cost = _EVENT_BYTES
        if isinstance(delta, ReasoningDelta):
            cost += sys.getsizeof(delta.text) + sys.getsizeof(delta.signature)
            self.parts.append(Reasoning(delta.text, delta.signature, delta.source, delta.redacted))
        elif isinstance(delta, ToolCallDelta):
            cost += sum(map(sys.getsizeof, (delta.id, delta.name, delta.arguments)))
            self.parts.append(ToolCall(delta.id, delta.name, delta.arguments, delta.signature))
        elif isinstance(delta, Logprobs):
            for token in delta.tokens:
                cost += _EVENT_BYTES + sys.getsizeof(token.token)
                cost += sum(_EVENT_BYTES + sys.getsizeof(text) for text, _ in token.top)
        if not isinstance(delta, Moved):  # which is no part of the answer
            self.total += cost
        self.event_lag += cost
        self._weigh()

    def take(self, out: list[tuple[int, ClientEvent]]) -> int:
        """Move what waits to ``out``, the terminal last, and its text to the journal; return about how many bytes."""
        number = self.client_id
        size = self.lag
        if self.events:
            self.settle()
            text: list[str] = []
            for event in self.events:
                if type(event) is TextDelta:
                    text.append(event.text)
                    continue
                if text:
                    self._deliver("".join(text), out)
                    text.clear()
                out.append((number, event))
            if text:
                self._deliver("".join(text), out)
            self.events.clear()
        else:
            pending = self.pending
            if pending:
                self._deliver(pending[0] if len(pending) == 1 else "".join(pending), out)
                pending.clear()
        if self.terminal is not None:
            out.append((number, self.terminal))
            self.terminal = None
        self._clear_lag()
        return size

    def discard(self) -> None:
        """Forget what waits for the client but the terminal."""
        self.pending.clear()
        self.events.clear()
        self._clear_lag()

    def _deliver(self, text: str, out: list[tuple[int, ClientEvent]]) -> None:
        out.append((self.client_id, TextDelta(text)))
        journal = self.journal
        journal.append(text)
        if len(journal) >= JOIN_EVERY:
            self.chapters.append("".join(journal))
            journal.clear()

    def _weigh(self) -> None:
        """Set ``lag`` to the real weight; nothing is pending."""
        self.client.lag += self.event_lag - self.lag
        self.lag = self.event_lag

    def _clear_lag(self) -> None:
        self.client.lag -= self.lag
        self.lag = 0
        self.event_lag = 0
