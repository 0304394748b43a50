"""One answer on its way from the vendor: bytes become deltas, cut at the stop sequences that it was not told.

Calls of tools come under the names that the application gave them, and out of the text where the model was told of its
tools in words.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from byenatos_sdk.egress.connection import Connection
from byenatos_sdk.formats.contract import StreamDecoder
from byenatos_sdk.formats.stops import StopCutter
from byenatos_sdk.formats.wire import Encoded
from byenatos_sdk.formats.worded_tools import WordedCalls
from byenatos_sdk.protocol.errors import UpstreamTimeout
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, Logprobs, TextDelta, ToolCallDelta, Usage

__all__ = ["Answer", "Shape"]

_BROKEN_OFF = Failure("stream_interrupted", "the stream ended without its end", partial=True)
"""What is said for a decoder that says nothing at the end; behind a terminal it is dropped."""


class Shape:
    """Shapes deltas for the way to the kernel: text as strings, neighbours joined, and the end with what it cost.

    ``over``: the terminal was returned; what comes later is dropped.
    """

    def __init__(self, encoded: Encoded) -> None:
        self._stops = StopCutter(encoded.stops) if encoded.stops else None
        self._adapted = tuple(map(str, encoded.losses))
        tools = encoded.tools
        self._names = tools.names if tools is not None else {}
        self._worded = WordedCalls(tools) if tools is not None and tools.worded else None
        self.over = False

    @property
    def cut(self) -> bool:
        """Whether a stop sequence ended it, and not the vendor."""
        return self._stops is not None and self._stops.hit is not None

    def take(self, deltas: Iterable[Delta]) -> list[str | Delta]:
        """Return what is to be passed on of ``deltas``."""
        shaped: list[str | Delta] = []
        texts: list[str] = []
        for delta in deltas:
            if type(delta) is TextDelta:
                texts.append(delta.text if self._stops is None else self._stops.feed(delta.text))
                if self._stops is not None and self._stops.hit is not None:
                    delta = Finish("stop", Usage(None, None), "", "stop_sequence", self._stops.hit)  # noqa: PLW2901
                else:
                    continue
            elif self._stops is not None and not isinstance(delta, Logprobs):
                texts.append(self._stops.end())
            shaped += self._said("".join(texts))
            texts.clear()
            if isinstance(delta, Finish | Failure):
                self.over = True
                if self._worded is not None:
                    shaped += self._worded.end(delta.reason if isinstance(delta, Finish) else None)
                shaped.append(self._finished(delta) if isinstance(delta, Finish) else delta)
                return shaped
            if type(delta) is ToolCallDelta and delta.name in self._names:
                delta = replace(delta, name=self._names[delta.name])  # noqa: PLW2901
            shaped.append(delta)
        shaped += self._said("".join(texts))
        return shaped

    def _said(self, text: str) -> list[str | Delta]:
        """Return a piece of text, and what it holds of calls in words."""
        if self._worded is not None:
            return list(self._worded.feed(text))
        return [text] if text else []

    def _finished(self, finish: Finish) -> Finish:
        if self._worded is not None and self._worded.found and finish.reason == "stop":
            finish = replace(finish, reason="tool_calls", detail="", stop_sequence=None)
        return replace(finish, adapted=(*finish.adapted, *self._adapted)) if self._adapted else finish


class Answer:
    """A stream that has begun. Leave it with :meth:`close`, however it ends."""

    def __init__(
        self, connection: Connection, decoder: StreamDecoder, shape: Shape, first_s: float, gap_s: float, due: float
    ) -> None:
        self._connection = connection
        self._decoder = decoder
        self._shape = shape
        self._gap_s = gap_s
        self._first_due = due if first_s <= 0 else min(due, connection.time() + first_s)
        self._due = due
        self._begun = False

    @property
    def over(self) -> bool:
        """Whether the terminal was returned."""
        return self._shape.over

    def _leave(self) -> None:
        """Be done with the connection: what follows a stop sequence is not wanted, and the vendor is to stop."""
        if self._shape.cut:
            self._connection.abort()
        else:
            self._connection.leave()

    async def more(self) -> list[str | Delta]:
        """Return the next deltas, at least one; a terminal is the last.

        Raises:
            UpstreamTimeout: the vendor was silent for too long.
        """
        while True:
            gap_due = self._connection.time() + self._gap_s
            due = min(gap_due, self._due if self._begun else self._first_due)
            try:
                data = await self._connection.read(due)
            except TimeoutError:
                raise self._late(due, gap_due) from None
            except ConnectionError:
                data = b""
            deltas = self._shape.take(self._decoder.feed(data) if data else (*self._decoder.end(), _BROKEN_OFF))
            if self.over:
                self._leave()
            if deltas:
                self._begun = True
                return deltas

    def close(self) -> None:
        """Break it off if it is not over."""
        if not self.over:
            self._connection.abort()

    def _late(self, due: float, gap_due: float) -> UpstreamTimeout:
        if due == gap_due:
            what = f"the vendor was silent for {self._gap_s:g} s (gap_s)"
        elif self._begun or due == self._due:
            what = "the answer was not complete in the request's time"
        else:
            what = "the vendor did not begin to answer in time (first_s)"
        error = UpstreamTimeout(what, partial=self._begun)
        error.retryable = False  # the next try would take as long
        return error
