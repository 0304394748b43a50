"""What every decoder of a stream does, whatever its units are: events, or lines.

A stream ends once. What a unit breaks (its JSON, a limit) ends it with a ``Failure``; bytes that stop before the answer
does end it as ``stream_interrupted``; after its end nothing comes any more. Nothing is ever raised.
"""

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, StreamInterrupted, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)

__all__ = ["UnitDecoder", "UnitReader", "failure_of"]

Unit = TypeVar("Unit")


class UnitReader(Protocol[Unit]):
    """Turns bytes that are cut anywhere into units."""

    def feed(self, data: bytes) -> list[Unit]:
        """Take the next bytes; return the units that are complete now."""

    def end(self) -> list[Unit]:
        """Hear that no more bytes come; return what the end cut off, if anything."""


def failure_of(error: ByenatosError, *, partial: bool) -> Failure:
    """Return the delta that says ``error`` at the end of a stream."""
    return Failure(error.code, error.message, error.retry_after_s, partial=partial or error.partial)


class UnitDecoder(ABC, Generic[Unit]):
    """Reads an answer unit by unit; a format says in :meth:`read` what one means. After a terminal, nothing is said."""

    def __init__(self, reader: UnitReader[Unit]) -> None:
        self._reader = reader
        self._said: list[Delta] = []
        self._partial = False
        self._ended = False

    @abstractmethod
    def read(self, unit: Unit) -> None:
        """Understand one unit: :meth:`say` what it holds, or :meth:`fail`.

        Raises:
            InvalidRequest: the unit is not what this format sends.
            UpstreamFailed: it is larger than what is read.
        """

    def at_end(self) -> None:
        """Say what is left when the bytes end after a whole unit."""

    def say(self, *deltas: Delta) -> None:
        """Give out ``deltas``; a terminal ends the stream."""
        for delta in deltas:
            if self._ended:
                return
            self._said.append(delta)
            if isinstance(delta, TextDelta | ReasoningDelta | ToolCallDelta):
                self._partial = True
            elif isinstance(delta, Finish | Failure):
                self._ended = True

    def fail(self, error: ByenatosError) -> None:
        """End the stream with ``error``."""
        self.say(failure_of(error, partial=self._partial))

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes and return the deltas that are complete now; after a terminal always nothing."""
        if self._ended:
            return []
        try:
            for unit in self._reader.feed(data):
                self.read(unit)
        except InvalidRequest as error:
            self.fail(UpstreamFailed(f"stream: {error.message}"))
        except ByenatosError as error:
            self.fail(error)
        return self._taken()

    def end(self) -> list[Delta]:
        """Hear that the connection is closed: return what is left, with a terminal if there was none yet."""
        if self._ended:
            return []
        with suppress(ByenatosError):  # the last unit is torn: the connection broke off in its middle
            for unit in self._reader.end():
                self.read(unit)
            self.at_end()
        self.fail(StreamInterrupted("the vendor's stream ended before its answer did"))
        return self._taken()

    def _taken(self) -> list[Delta]:
        said, self._said = self._said, []
        return said
