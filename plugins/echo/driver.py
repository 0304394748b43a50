"""Echo: a driver without a model, deterministic in text, rate and faults, for tests and benchmarks."""

import asyncio
import hashlib
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import chain, compress, count, islice, repeat
from typing import Annotated, Any, Literal

import msgspec

from byenatos_sdk.driver import Call, Driver, Model
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Delta,
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    ModelSpecification,
    TokenCount,
    Usage,
)

DIMENSIONS = 16
"""Numbers in a vector, if the request does not say."""

Fault = Literal["crash", "hang", "silent", "raise", "garbage"]


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to answer; the README explains each key."""

    tokens: int | None = None
    text: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    stamp: bool = False
    reply: str | None = None
    rate: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    batch: Literal["step", "single"] = "step"
    way: Literal["serve", "infer"] = "serve"
    fault: Fault | None = None
    fault_after: int = 0


class Silent(Exception):
    """The stream says nothing more, not even that it is over."""


def tokens_of(request: InferenceRequest, behaviour: Behaviour) -> Iterator[str]:
    """Return the answer's tokens, from where ``request.partial`` stops."""
    partial = request.partial
    if behaviour.reply is not None:
        tokens = iter([behaviour.reply.removeprefix(partial)])
    elif behaviour.text is not None:
        left = sys.maxsize if behaviour.tokens is None or behaviour.tokens < 0 else behaviour.tokens
        tokens = repeat(behaviour.text, left - partial.count(behaviour.text))
    elif behaviour.stamp:
        tokens = (f"{time.perf_counter_ns()} " for _ in _numbers(len(partial.split()), behaviour.tokens))
    elif behaviour.tokens is not None:
        last = re.search(r"(\d+)\s*$", partial)
        tokens = (f"{number} " for number in _numbers(int(last[1]) + 1 if last else 0, behaviour.tokens))
    else:
        said = [message.text for message in request.messages if message.role == "user"] or [""]
        tokens = iter(re.findall(r"\S+\s*|\s+", said[-1].removeprefix(partial)))
    if behaviour.fault and (behaviour.fault_after == 0 or not partial):  # a continued answer has had its fault
        return _faulty(tokens, behaviour.fault, behaviour.fault_after)
    return tokens


def _numbers(first: int, tokens: int | None) -> Iterator[int]:
    return count(first) if tokens is None or tokens < 0 else iter(range(first, tokens))


def _faulty(tokens: Iterator[str], fault: Fault, after: int) -> Iterator[str]:
    yield from islice(tokens, after)
    commit(fault)
    yield from tokens


def commit(fault: Fault) -> None:
    """Do what the fault says."""
    if fault == "crash":
        os._exit(3)
    elif fault == "hang":
        time.sleep(1e9)
    elif fault == "silent":
        raise Silent
    elif fault == "raise":
        raise RuntimeError("echo was told to raise this")
    elif fault == "garbage":
        os.write(1, bytes(range(256)) * 16 + b"\nrubbish without an end")


class Engine:
    """Gives each of its streams one token per step, as a batching engine does: ``rate`` steps a second, 0: no limit."""

    def __init__(self, rate: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._period_s = 1 / rate if rate else 0.0
        self._due = 0.0
        self._running = False
        self.streams: list[tuple[Call, Iterator[str | Delta], bool]] = []

    def resume(self) -> None:
        """Go on stepping, if there is anything to do."""
        if self.streams and not self._running:
            self._running = True
            self._due = self._loop.time()
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        # a turn of the loop costs more than a step of few streams; about 256 tokens later a cancel must get through
        for _ in range(1 if self._period_s else 1 + 256 // len(self.streams)):
            call = self.streams[0][0]
            if call.congested:  # all share one channel; uncongested() goes on
                self._running = False
                return
            self.streams = [stream for stream in self.streams if _advance(*stream)]
            call.flush()
            if not self.streams:
                self._running = False
                return
        self._due = max(self._due + self._period_s, self._loop.time())
        self._loop.call_at(self._due, self._turn)


def _advance(call: Call, tokens: Iterator[str | Delta], single: bool) -> bool:  # noqa: FBT001 - once per token
    """Emit the next token of one stream and return whether there may be more."""
    if call.cancelled:
        return False
    try:
        token = next(tokens)
    except Silent:
        return False
    except RuntimeError as error:
        token = Failure("internal", f"RuntimeError: {error}")
    call.emit(token)
    if single:
        call.flush()
    return type(token) is str


def _vector(text: str, dimensions: int) -> tuple[float, ...]:
    raw = hashlib.shake_128(text.encode()).digest(dimensions)
    length = sum((byte - 127.5) ** 2 for byte in raw) ** 0.5
    return tuple((byte - 127.5) / length for byte in raw)


def answer_of(request: InferenceRequest, behaviour: Behaviour) -> Iterator[str | Delta]:
    """Return the tokens, at most ``max_tokens`` of them, then the end."""
    counter = count(1)  # counted in C by compress: another generator would make every token dearer by half
    tokens = compress(tokens_of(request, behaviour), counter)
    limit = request.sampling.max_tokens
    return chain(islice(tokens, limit), _end(tokens, counter, limit))


def _end(tokens: Iterator[str], counter: Iterator[int], limit: int | None) -> Iterator[Finish]:
    sent = next(counter) - 1
    cut = sent == limit and next(tokens, None) is not None
    yield Finish("length" if cut else "stop", Usage(output_tokens=sent))


class Echo(Driver):
    """Repeats the last message of the user, or does what its settings or the request's ``extra["echo"]`` say."""

    continues = True

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._start_fault = msgspec.convert(settings.pop("start_fault", None), Fault | None)
        self._usual = self._behaviour(settings)
        self._engines: dict[float, Engine] = {}

    async def start(self, model: Model) -> ModelSpecification:  # noqa: D102
        if self._start_fault:
            commit(self._start_fault)
        return ModelSpecification(model.id, name="Echo")

    def serve(self, call: Call) -> bool:
        """Hand the call to the engine of its rate, unless it is to be answered by :meth:`infer`."""
        behaviour = self._behaviour(call.request.extra.get("echo"))
        if behaviour.way == "infer":
            return False
        tokens = answer_of(call.request, behaviour)
        if behaviour.reply is not None and not behaviour.rate:
            while _advance(call, tokens, single=False):
                pass
            return True
        engine = self._engines.get(behaviour.rate) or self._engines.setdefault(behaviour.rate, Engine(behaviour.rate))
        engine.streams.append((call, tokens, behaviour.batch == "single"))
        engine.resume()
        return True

    def uncongested(self) -> None:  # noqa: D102
        for engine in self._engines.values():
            engine.resume()

    async def infer(self, request: InferenceRequest) -> AsyncIterator[str | Delta]:
        """Yield the answer, for ``way = "infer"``."""
        behaviour = self._behaviour(request.extra.get("echo"))
        try:
            for token in answer_of(request, behaviour):
                yield token
                if behaviour.rate:
                    await asyncio.sleep(1 / behaviour.rate)
        except Silent:
            await asyncio.Event().wait()

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:  # noqa: D102
        vectors = tuple(_vector(text, request.dimensions or DIMENSIONS) for text in request.inputs)
        return EmbeddingResponse(vectors, usage=Usage(sum(len(text.split()) for text in request.inputs)))

    async def count_tokens(self, request: InferenceRequest) -> TokenCount:  # noqa: D102
        return TokenCount(sum(len(message.text.split()) for message in request.messages))

    async def models(self) -> list[ModelSpecification]:  # noqa: D102
        return [ModelSpecification("echo", name="Echo"), ModelSpecification("echo-two", name="Echo")]

    def _behaviour(self, asked: Any) -> Behaviour:
        if asked is None:
            return self._usual
        try:
            return msgspec.convert({**self.settings, **asked}, Behaviour)
        except (TypeError, msgspec.ValidationError) as error:
            keys = ", ".join(Behaviour.__struct_fields__)
            raise InvalidRequest(f"echo: {error}; expected a table of {keys}, found {asked!r:.200}") from None
