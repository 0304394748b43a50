"""What an application has read of one stream so far, added up."""

from byenatos_sdk.protocol.errors import ByenatosError, error_from_code
from byenatos_sdk.protocol.frames import ClientEvent
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceResponse,
    Logprobs,
    Message,
    Moved,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["Answer", "error_from"]


def error_from(failure: Failure) -> ByenatosError:
    """Build the exception that a ``Failure`` from the wire stands for."""
    return error_from_code(failure.code, failure.message, retry_after_s=failure.retry_after_s, partial=failure.partial)


class Answer:
    """Adds up deltas in the order in which they came, so that parts keep their order too."""

    __slots__ = ("_parts", "_reasoning", "_text", "finish", "moves")

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.moves: list[Moved] = []
        self._parts: list[Part] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []

    def add(self, event: ClientEvent) -> Delta:
        """Add one event of a stream and return it as a delta.

        Raises:
            ByenatosError: the error that a ``Failure`` stands for.
        """
        if isinstance(event, TextDelta):
            if self._reasoning:
                self._close()
            self._text.append(event.text)
            return event
        if isinstance(event, ReasoningDelta):
            if self._text:
                self._close()
            self._reasoning.append(event.text)
            if event.signature is not None:
                self._close(event.signature)
            return event
        if isinstance(event, ToolCallDelta):
            self._close()
            self._parts.append(ToolCall(event.id, event.name, event.arguments))
            return event
        if isinstance(event, Moved):
            self.moves.append(event)
            return event
        if isinstance(event, Finish):
            self.finish = event
            return event
        if isinstance(event, Logprobs):
            return event
        if isinstance(event, Failure):
            raise error_from(event)
        raise ByenatosError(f"expected a delta of a stream, found {type(event).__name__}; kernel and client disagree")

    @property
    def text(self) -> str:
        """The answer's text so far."""
        closed = "".join(part.text for part in self._parts if isinstance(part, Text))
        return closed + "".join(self._text)

    def response(self) -> InferenceResponse:
        """Return the whole answer.

        Raises:
            ByenatosError: if the stream has not been read to its ``Finish``.
        """
        if self.finish is None:
            raise ByenatosError("expected a stream that was read to its end; read it first, or use infer()")
        self._close()
        message = Message("assistant", tuple(self._parts))
        return InferenceResponse(message, self.finish.reason, self.finish.usage, self.finish.model, tuple(self.moves))

    def _close(self, signature: str | None = None) -> None:
        """End the part that is being added to."""
        if self._text:
            self._parts.append(Text("".join(self._text)))
            self._text.clear()
        elif self._reasoning:
            self._parts.append(Reasoning("".join(self._reasoning), signature))
            self._reasoning.clear()
