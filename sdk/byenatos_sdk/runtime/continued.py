"""A running request whose driver was asked for the rest of an answer by a turn: what it repeats of it is dropped."""

from collections.abc import Callable

from byenatos_sdk.protocol.messages import Delta, InferenceRequest, Logprobs, ReasoningDelta, TextDelta
from byenatos_sdk.runtime.overlap import Overlap
from byenatos_sdk.runtime.pump import Pump
from byenatos_sdk.runtime.stream import Stream

__all__ = ["ContinuedStream"]


class ContinuedStream(Stream):
    """Holds the first words back until it is known whether they repeat the end of ``before``.

    Thoughts pass at once. What tells of single tokens goes with their text, and not at all if part of that is dropped.
    """

    __slots__ = ("_details", "_overlap")

    def __init__(
        self, id: int, request: InferenceRequest, pump: Pump, ended: Callable[[int], None], before: str
    ) -> None:
        super().__init__(id, request, pump, ended)
        self._overlap: Overlap | None = Overlap(before)
        self._details: list[Logprobs] = []

    def emit(self, delta: str | Delta) -> None:
        """Send a delta, or hold it back; as :meth:`Stream.emit`."""
        overlap = self._overlap
        if overlap is None or self._over or isinstance(delta, ReasoningDelta):
            super().emit(delta)
        elif isinstance(delta, str | TextDelta):
            text = delta if isinstance(delta, str) else delta.text
            whole = overlap.held + text
            self._go_on(overlap.feed(text), whole)
        elif isinstance(delta, Logprobs):
            self._details.append(delta)
        else:
            self._go_on(overlap.end(), overlap.held)
            super().emit(delta)

    def _go_on(self, text: str | None, whole: str) -> None:
        """Send ``text``, which is left of the ``whole``, and from now on everything as it comes."""
        if text is None:
            return
        self._overlap = None
        super().emit(text)
        for detail in self._details if text == whole else ():
            super().emit(detail)
        self._details.clear()
