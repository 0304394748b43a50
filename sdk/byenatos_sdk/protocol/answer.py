"""What was read of one stream so far, added up; and a whole answer taken apart again."""

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
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)

__all__ = ["Answer", "deltas_of", "error_from"]


def error_from(failure: Failure) -> ByenatosError:
    """Build the exception that a ``Failure`` from the wire stands for."""
    return error_from_code(failure.code, failure.message, retry_after_s=failure.retry_after_s, partial=failure.partial)


class Answer:
    """Adds up deltas in the order in which they came, so that parts keep their order too."""

    __slots__ = ("_logprobs", "_parts", "_reasoning", "_text", "finish", "moves")

    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.moves: list[Moved] = []
        self._parts: list[Part] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []

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
            if event.signature is not None or event.redacted:
                self._close_reasoning(event)
            return event
        if isinstance(event, ToolCallDelta):
            self._close()
            self._parts.append(ToolCall(event.id, event.name, event.arguments, event.signature))
            return event
        if isinstance(event, Moved):
            self.moves.append(event)
            return event
        if isinstance(event, Finish):
            self.finish = event
            return event
        if isinstance(event, Logprobs):
            self._logprobs.extend(event.tokens)
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
        finish = self.finish
        return InferenceResponse(
            message,
            finish.reason,
            finish.usage,
            finish.model,
            tuple(self.moves),
            finish.detail,
            finish.stop_sequence,
            finish.adapted,
            tuple(self._logprobs),
        )

    def _close(self) -> None:
        """End the part that is being added to."""
        if self._text:
            self._parts.append(Text("".join(self._text)))
            self._text.clear()
        elif self._reasoning:
            self._parts.append(Reasoning("".join(self._reasoning)))
            self._reasoning.clear()

    def _close_reasoning(self, last: ReasoningDelta) -> None:
        self._parts.append(Reasoning("".join(self._reasoning), last.signature, last.source, last.redacted))
        self._reasoning.clear()


def deltas_of(response: InferenceResponse) -> list[Delta]:
    """Return the stream that adds up to ``response``, its ``Finish`` last."""
    deltas: list[Delta] = []
    for part in response.message.parts:
        if isinstance(part, Text):
            deltas.append(TextDelta(part.text))
        elif isinstance(part, Reasoning):
            deltas.append(ReasoningDelta(part.text, part.signature, part.source, part.redacted))
        elif isinstance(part, ToolCall):
            deltas.append(ToolCallDelta(part.id, part.name, part.arguments, part.signature))
    if response.logprobs:
        deltas.append(Logprobs(response.logprobs))
    deltas.append(
        Finish(
            response.reason,
            response.usage,
            response.model,
            response.detail,
            response.stop_sequence,
            response.adapted,
        )
    )
    return deltas
