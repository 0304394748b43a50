"""Streams read: server-sent events, or without ``alt=sse`` one JSON array; each piece is an answer of its own.

Counts repeat in every piece, as totals: the last ones hold. The reason to stop is no end yet, for counts and signatures
may come behind it: the end of the stream is.
"""

import msgspec

from byenatos_sdk.formats.contract import StreamDecoder as StreamDecoderProtocol
from byenatos_sdk.formats.gemini.errors import error_of
from byenatos_sdk.formats.gemini.responses import (
    candidate_of,
    deltas_of_candidate,
    finish_of,
    logprobs_of,
    usage_of,
)
from byenatos_sdk.formats.gemini.shapes import Answer, WireUsage
from byenatos_sdk.formats.json_array import ArrayReader
from byenatos_sdk.formats.sse import EventReader
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.formats.wire import WireResponse, read_as, read_json
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import Logprobs, ToolCallDelta

__all__ = ["StreamDecoder", "stream_decoder"]

_answers = msgspec.json.Decoder(Answer)


class _Reader:
    """Reads events or an array's elements: the first byte that is no blank tells."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._array: ArrayReader | None = None
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        if not self._started and data.strip():
            self._started = True
            if data.lstrip()[:1] in {b"[", b"{"}:
                self._array = ArrayReader()
        if self._array is not None:
            return self._array.feed(data)
        return [event.data for event in self._events.feed(data)]

    def end(self) -> list[bytes]:
        if self._array is not None:
            return self._array.end()
        return [event.data for event in self._events.end()]


class StreamDecoder(UnitDecoder[bytes]):
    """Reads one answer's stream."""

    def __init__(self, choice: int) -> None:
        super().__init__(_Reader())
        self._choice = choice
        self._usage: WireUsage | None = None
        self._calls = 0
        self._reason = ""
        self._message = ""

    def read(self, unit: bytes) -> None:
        """Understand one piece."""
        if unit.lstrip()[:1] == b"[":  # an error of the whole stream comes in an array
            self.fail(error_of(read_json(unit, "event"), WireResponse(unit)))
            return
        answer = read_as(_answers, unit, "event")
        if answer.error is not None:
            self.fail(error_of(read_json(unit, "event"), WireResponse(unit)))
            return
        if answer.usage_metadata is not None:
            self._usage = answer.usage_metadata
        candidate = candidate_of(answer, self._choice)
        if candidate is None:
            if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason and not self._reason:
                self._reason = "SAFETY"
            return
        deltas = deltas_of_candidate(candidate, self._calls, answer.response_id or "")
        self._calls += sum(isinstance(delta, ToolCallDelta) for delta in deltas)
        self.say(*deltas)
        tokens = logprobs_of(candidate.logprobs_result)
        if tokens:
            self.say(Logprobs(tokens))
        self._reason = candidate.finish_reason or self._reason
        self._message = candidate.finish_message or self._message

    def at_end(self) -> None:
        """Say how the answer ended, if it was said."""
        if not self._reason:
            return
        finish = finish_of(self._reason, self._message, usage_of(self._usage), called=self._calls > 0)
        if isinstance(finish, ByenatosError):
            self.fail(finish)
        else:
            self.say(finish)


def stream_decoder(*, choice: int = 0) -> StreamDecoderProtocol:
    """Return a decoder for one stream; ``choice`` is the answer that is read where there are several."""
    return StreamDecoder(choice)
