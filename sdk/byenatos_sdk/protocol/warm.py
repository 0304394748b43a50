"""Warm state on its way from one instance to another: what pieces of it are called, and the calls that move them.

A *subject* is what has warm state: a running answer (the kernel's number for its stream) or a session (its id). Its
state is cut along positions (tokens, for a language model): a :class:`Piece` is the state of the range from ``start``
to ``stop``, as bytes that only drivers with the same :class:`Fingerprint` can read. The bytes lie in the *arena*, the
memory that the kernel shares with one instance; only where they lie travels in messages.

The calls are :class:`~byenatos_sdk.protocol.frames.DriverCall` methods, from the kernel to drivers whose specification
has the feature ``warm``; parameters and results are maps in msgpack:

==============  ==========================  ==========================================================================
``fingerprint``                             :class:`Fingerprint`
``holdings``                                list of :class:`Holding`: the idle sessions with warm state
``reach``       :class:`Reach`              :class:`Reached`, once the state goes to that position
``export``      :class:`Export`             :class:`Piece`, written to the arena
``freeze``      :class:`Export`             :class:`Piece`; the answer says nothing more until ``thaw``
``thaw``        :class:`Subject`            nothing; the answer goes on
``restore``     :class:`Restore`            nothing; the pieces in the arena continue what the subject has
``release``     :class:`Subject`            nothing; the subject's state is dropped (a running answer is stopped)
``prefill``     :class:`Prefill`            :class:`Reached`; the conversation is read and kept for the session
``read``        :class:`Read`               :class:`Reached`; the request is read and kept for whoever begins like it
==============  ==========================  ==========================================================================
"""

from typing import Final, TypeAlias

from msgspec import Struct

from byenatos_sdk.protocol.messages import InferenceRequest, Message, Value

__all__ = [
    "WARM",
    "Export",
    "Fingerprint",
    "Holding",
    "Piece",
    "Placed",
    "Prefill",
    "Reach",
    "Reached",
    "Read",
    "Restore",
    "Subject",
    "SubjectId",
]

WARM: Final = "warm"
"""The feature of a specification, and of the handshake, of drivers with warm state."""

SubjectId: TypeAlias = int | str
"""A running answer by the number of its stream, or a session by its id."""


class Fingerprint(Value, frozen=True):
    """What two instances must share. With another ``layout`` a piece means something else or nothing.

    With the same ``layout`` and another ``arithmetic`` (threads, batches) a piece can be used, but what follows may
    differ in close calls.
    """

    layout: str
    arithmetic: str = ""


class Piece(Value, frozen=True, omit_defaults=True):
    """The state of positions ``start`` to ``stop``: ``size`` bytes from the start of the place that was named.

    ``progress`` is what a running answer needs beside its pieces to go on elsewhere; it is the driver's own affair, and
    the last piece's is the one that counts.
    """

    start: int
    stop: int
    size: int
    progress: bytes = b""


class Placed(Struct, frozen=True, array_like=True, gc=False):
    """Where in the arena the bytes of a piece lie."""

    start: int
    stop: int
    offset: int
    size: int


class Holding(Value, frozen=True):
    """An idle session's warm state, in positions and bytes (about)."""

    session: str
    positions: int
    size: int = 0


class Subject(Value, frozen=True):
    """The subject of a call."""

    subject: SubjectId


class Reach(Value, frozen=True):
    """Wait until the state of ``subject`` goes to ``position``."""

    subject: SubjectId
    position: int


class Reached(Value, frozen=True):
    """To where the state goes."""

    position: int


class Export(Value, frozen=True):
    """Write the state of ``subject`` from ``start`` on, as far as it goes, to ``limit`` bytes of the arena."""

    subject: SubjectId
    start: int
    offset: int
    limit: int


class Restore(Value, frozen=True):
    """Take in pieces. A number that runs nothing reserves a place for the answer that will resume under it."""

    subject: SubjectId
    pieces: tuple[Placed, ...]


class Prefill(Value, frozen=True):
    """Read a conversation and keep its state for ``session``."""

    session: str
    messages: tuple[Message, ...]


class Read(Value, frozen=True):
    """Read a request and the beginning of its answer, ahead of a move: what begins like it is not read again."""

    request: InferenceRequest
    partial: str = ""
