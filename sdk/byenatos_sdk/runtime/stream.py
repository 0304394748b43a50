"""One running request: what an engine sees of it, and how a driver's generator becomes a stream of events."""

import re
import sys
from asyncio import Task, sleep
from collections.abc import AsyncIterator, Callable

import msgspec

from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from byenatos_sdk.runtime.pump import Pump

__all__ = ["Stream"]

FAIR_SHARE = 32
"""Deltas that a generator may yield without waiting for anything before the others get a turn."""

_encode = msgspec.msgpack.Encoder().encode
_DELTAS = TextDelta | ReasoningDelta | ToolCallDelta | Logprobs | Finish | Failure
"""No ``Moved``: only the kernel moves streams."""
_check = msgspec.msgpack.Decoder(_DELTAS).decode


_NUMBERS = re.compile(r" - at `\$((?:\[\d+\])+)`")


def _fault(delta: object, error: Exception) -> str:
    """Say what is wrong with a delta, its fields by their names and not by their numbers on the wire."""
    if not isinstance(delta, _DELTAS):
        return ""
    said = str(error)
    place = _NUMBERS.search(said)
    if place is None:
        return f": {said}"
    names = []
    value: object = delta
    for number in map(int, re.findall(r"\d+", place[1])):
        if not isinstance(value, msgspec.Struct):
            break
        names.append(value.__struct_fields__[number - (value.__struct_config__.tag is not None)])
        value = getattr(value, names[-1])
    return f": {'.'.join(names)}: {said[: place.start()]}"


class Stream:
    """The :class:`~byenatos_sdk.driver.Call` of a driver; ``ended`` is called with the id when its terminal is put."""

    __slots__ = (
        "_ended",
        "_outbox",
        "_over",
        "_pending",
        "_pump",
        "_reported",
        "cancelled",
        "flush",
        "id",
        "request",
        "task",
    )

    def __init__(self, id: int, request: InferenceRequest, pump: Pump, ended: Callable[[int], None]) -> None:
        self.id = id
        self._pump = pump
        self._outbox = pump.outbox
        self._pending = pump.outbox.pending
        self._ended = ended
        self._over = False
        self._reported = False
        self.flush = pump.flush
        self.request = request
        self.cancelled = False
        self.task: Task[None] | None = None

    @property
    def congested(self) -> bool:
        """Whether the channel is full."""
        return self._outbox.congested

    def emit(self, delta: str | Delta) -> None:
        """Send a delta; after the terminal or a cancel it is dropped.

        Raises:
            TypeError: ``delta`` is neither a ``str`` nor a well-formed delta.
        """
        if self._over:
            self._drop(delta)
        elif type(delta) is str:
            if delta:  # Outbox.put, written out: every token passes here
                self._pending.append((self.id, delta))
                if not self._outbox.awake:
                    self._outbox.rouse()
        else:
            self._emit_checked(delta)

    def cancel(self) -> None:
        """The answer is no longer wanted: close the generator, or let the engine see it; nothing more is sent."""
        self.cancelled = True
        self._over = True
        if self.task is not None:
            self.task.cancel()

    async def answer(self, deltas: AsyncIterator[str | Delta]) -> None:
        """Emit what a driver's generator yields and supply the ``Finish`` that it left out.

        However this ends, the generator is closed.
        """
        if not hasattr(deltas, "__aiter__"):
            raise TypeError(f"expected infer to be 'async def' with 'yield', found one that returns {deltas!r:.200}")
        emit = self.emit
        outbox = self._outbox
        share = FAIR_SHARE
        try:
            async for delta in deltas:
                emit(delta)
                if self._over:
                    return
                share -= 1
                if not share:
                    share = FAIR_SHARE
                    await (self._pump.room() if outbox.congested else sleep(0))
            emit(Finish())
        finally:
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()

    def _emit_checked(self, delta: str | Delta) -> None:
        """Emit anything but a plain string: a malformed event would cost the whole process its channel."""
        try:
            event = _check(_encode(TextDelta(str(delta)) if isinstance(delta, str) else delta))
        except (msgspec.ValidationError, TypeError, UnicodeEncodeError) as error:
            raise TypeError(
                f"expected a str or a well-formed delta, found {delta!r:.200}{_fault(delta, error)}"
            ) from None
        if isinstance(event, TextDelta):
            self.emit(event.text)
        elif isinstance(event, Finish | Failure):
            self._over = True
            self._outbox.put(self.id, event)
            self._ended(self.id)
        else:
            self._outbox.put(self.id, event)

    def _drop(self, delta: str | Delta) -> None:
        if not self.cancelled and not self._reported:
            self._reported = True
            sys.stderr.write(f"request {self.id}: emitted after its end, dropped: {delta!r:.200}\n")
