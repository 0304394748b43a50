"""A model that answers as it is told, for tests of whoever asks it through any API.

The last message of the user that begins with a script counts: a JSON object for the next answer, or a list of them for
the answers of a conversation in their order (an answer's place is how many the assistant gave since the script). So a
test needs nothing but a prompt, tools may be called in between, and tests do not disturb each other. Without a script
the user's last text is said again.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from byenatos_sdk.driver import Driver
from byenatos_sdk.protocol.errors import error_from_code
from byenatos_sdk.protocol.messages import (
    Delta,
    EmbeddingRequest,
    EmbeddingResponse,
    Finish,
    InferenceRequest,
    Logprobs,
    ReasoningDelta,
    TextDelta,
    TokenCount,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

DIMENSIONS = 8


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of a tool."""

    name: str
    arguments: dict[str, Any] = {}
    id: str = ""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An error, after ``after`` pieces of the text; with ``times`` only so often for its ``key``, then never again."""

    code: str
    message: str = "as the script says"
    retry_after_s: float | None = None
    after: int = 0
    times: int = 0
    key: str = ""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer. ``text`` comes in words; ``asked``: the text is the request itself, as JSON; ``wait``: no end comes.

    ``usage``: input, output, cached, reasoning tokens.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    usage: tuple[int, ...] = (7, 5)
    finish: str = ""
    detail: str = ""
    stop_sequence: str | None = None
    logprobs: bool = False
    asked: bool = False
    wait: bool = False
    fail: Fault | None = None


def step_of(request: InferenceRequest) -> Step:
    """Return the step of the script that is due."""
    given = 0
    for message in reversed(request.messages):
        if message.role == "assistant":
            given += 1
        elif message.role == "user" and message.text.lstrip().startswith(("{", "[")):
            try:
                script, _ = json.JSONDecoder().raw_decode(message.text.lstrip())
                found = msgspec.convert(script, Step | list[Step])
            except (ValueError, msgspec.ValidationError):
                continue
            steps = found if isinstance(found, list) else [found]
            return steps[min(given, len(steps) - 1)]
    said = [message.text for message in request.messages if message.role == "user"]
    return Step(said[-1] if said else "")


def pieces_of(text: str) -> list[str]:
    """Return the words of a text, each with the blank before it."""
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


class Scripted(Driver):
    """Answers as its script says."""

    continues = True

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._failed: Counter[str] = Counter()

    async def infer(self, request: InferenceRequest) -> AsyncIterator[Delta]:
        """Yield what the step says."""
        step = step_of(request)
        fault = step.fail
        if fault is not None and fault.times:
            fault = fault if self._failed[fault.key] < fault.times else None
            self._failed.update([step.fail.key] if fault is not None and step.fail is not None else [])
        if step.reasoning:
            for piece in pieces_of(step.reasoning):
                yield ReasoningDelta(piece)
        text = msgspec.json.encode(request).decode() if step.asked else step.text
        for number, piece in enumerate(pieces_of(text)):
            if fault is not None and fault.after == number:
                raise error_from_code(fault.code, fault.message, retry_after_s=fault.retry_after_s)
            if piece:
                yield TextDelta(piece)
            if step.logprobs and piece:
                yield Logprobs((TokenLogprob(piece, -0.5, ((piece, -0.5), ("other", -1.5))),))
        if fault is not None:
            raise error_from_code(fault.code, fault.message, retry_after_s=fault.retry_after_s)
        if step.wait:
            await asyncio.Event().wait()
        for number, call in enumerate(step.calls):
            arguments = msgspec.json.encode(call.arguments).decode()
            yield ToolCallDelta(call.id or f"call_{len(request.messages)}_{number}", call.name, arguments)
        reason = step.finish or ("tool_calls" if step.calls else "stop")
        read, written, cached, thought = (*step.usage, 0, 0)[:4]
        usage = Usage(read, written, cached, 0, thought)
        yield Finish(reason, usage, detail=step.detail, stop_sequence=step.stop_sequence)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """Return vectors that depend on the text alone."""
        size = request.dimensions or DIMENSIONS
        vectors = tuple(
            tuple(byte / 255 for byte in hashlib.shake_128(text.encode()).digest(size)) for text in request.inputs
        )
        return EmbeddingResponse(vectors, usage=Usage(sum(len(text.split()) for text in request.inputs), 0))

    async def count_tokens(self, request: InferenceRequest) -> TokenCount:
        """Count words."""
        return TokenCount(sum(len(message.text.split()) for message in request.messages))
