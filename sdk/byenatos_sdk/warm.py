"""Warm state: what a driver offers whose answers and sessions can move to another instance without being read again.

A driver inherits from :class:`WarmState` beside :class:`~byenatos_sdk.driver.Driver`::

    class Engine(WarmState, Driver): ...

and its manifest asks for an arena (``[permissions] arena_mib``). Without either, its answers move as text, as ever.
``byenatos_sdk.testing.check_warm_state`` moves an answer and a conversation of it between two real processes, and says
what is not as it should be.

What the kernel does with it: it *pre-copies* a running answer's state to another instance while the answer goes on
(:meth:`WarmState.export`, range by range), then has it held (:meth:`WarmState.freeze`) for the moment that the last
range takes, and resumed over there (:meth:`WarmState.resume`); it *journals* what grows, so that an instance that is
killed costs no re-reading; it moves idle sessions, and keeps hibernated ones in encrypted files. Every piece is sealed
by the kernel: what :meth:`WarmState.restore` is given is what an instance with the same fingerprint exported.

All methods are called from the event loop. Errors of ``byenatos_sdk.protocol.errors`` are answers: the kernel then
moves by text, or leaves the answer where it is.
"""

import ctypes
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Self

from msgspec import Struct

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unsupported
from byenatos_sdk.protocol.messages import InferenceRequest, Message
from byenatos_sdk.protocol.warm import Fingerprint, Holding, Piece, SubjectId

__all__ = ["Arena", "Resumption", "State", "WarmState", "missing"]


_POPULATE_WRITE: Final = 23


class State(Struct, frozen=True):
    """The state of positions ``start`` to ``stop``; ``data`` is memory that is valid until the method returns."""

    start: int
    stop: int
    data: memoryview


class Resumption(Struct, frozen=True):
    """What an answer goes on from: the last ``states``, behind those restored before, and the ``progress`` with them.

    ``said`` is the text that this answer has said already, since its request's partial answer. It may be ahead of
    ``progress`` after a crash: what is made again must be the same text, and is not to be emitted twice; if it becomes
    another one, the call is ended with a failure, and the kernel goes on by text.
    """

    said: str
    progress: bytes
    states: tuple[State, ...]


class WarmState(ABC):
    """The methods of a driver with warm state. A subject is a call's ``id`` or a session's."""

    @abstractmethod
    async def fingerprint(self) -> Fingerprint:
        """Say what another instance must share with this one to read its pieces."""

    @abstractmethod
    async def holdings(self) -> tuple[Holding, ...]:
        """List the idle sessions that have warm state."""

    @abstractmethod
    async def reach(self, subject: SubjectId, position: int) -> int:
        """Wait until the subject's state goes to ``position``; return to where it goes.

        Raises:
            NotFound: there is no such subject, or no more.
        """

    @abstractmethod
    async def export(self, subject: SubjectId, start: int, into: memoryview) -> Piece:
        """Write the state from ``start`` on, as much as there is and ``into`` takes, without disturbing the answer.

        Raises:
            NotFound: there is no such subject, or no more.
        """

    @abstractmethod
    async def freeze(self, subject: int, start: int, into: memoryview) -> Piece:
        """Export what is left, and hold the answer: when this returns, all that it said has been emitted.

        Raises:
            NotFound: it has ended.
        """

    @abstractmethod
    async def thaw(self, subject: int) -> None:
        """Let a frozen answer go on where it was.

        Raises:
            NotFound: it has ended.
        """

    @abstractmethod
    async def restore(self, subject: SubjectId, states: Sequence[State]) -> None:
        """Take in states that continue what the subject has. For a number, keep a place until it resumes.

        Raises:
            Overloaded: there is no room.
            InvalidRequest: they do not fit.
        """

    @abstractmethod
    def resume(self, call: Call, resumption: Resumption) -> None:
        """Go on with an answer whose state was restored under ``call.id``; must return at once.

        What goes wrong ends ``call`` with a failure before anything is emitted.
        """

    @abstractmethod
    async def release(self, subject: SubjectId) -> None:
        """Drop what is kept for a subject that does not run."""

    @abstractmethod
    async def prefill(self, session: str, messages: tuple[Message, ...]) -> int:
        """Read a conversation without answering it, and keep its state for ``session``; return to where it goes."""

    async def read(self, request: InferenceRequest) -> int:
        """Read a request, with the answer that it has so far, without answering it; return to where that goes.

        Its state is kept for a while, for a request that begins in the same way: the kernel has answers that are to
        move here by text read while they go on elsewhere. Without it they are read when they arrive.
        """
        raise Unsupported(f"{type(self).__name__} reads no requests ahead")


class Arena:
    """A driver's end of the memory that the kernel shares with it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    @classmethod
    def inherited(cls) -> Self | None:
        """The one that the sandbox has mapped, if the process was granted one."""
        place = os.environ.pop("BYENATOS_ARENA", "")
        if not place:
            return None
        address, size = (int(number, 16) for number in place.split(":"))
        threading.Thread(target=_populate, args=(address, size), name="arena", daemon=True).start()
        return cls(memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B"))

    def view(self, offset: int, size: int) -> memoryview:
        """The ``size`` bytes from ``offset`` on.

        Raises:
            InvalidRequest: they are not inside.
        """
        if not (offset >= 0 and size >= 0 and offset + size <= len(self._view)):
            raise InvalidRequest(f"expected a place in an arena of {len(self._view)} bytes, found {offset}+{size}")
        return self._view[offset : offset + size]


def _populate(address: int, size: int) -> None:
    """Enter all pages now: what is entered at its first use costs three times the copy. Old systems cannot."""
    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _POPULATE_WRITE)


def missing(subject: SubjectId) -> NotFound:
    """The error for a subject that is not here."""
    what = f"answer {subject}" if isinstance(subject, int) else f"warm state of session {subject!r}"
    return NotFound(f"no {what}")
