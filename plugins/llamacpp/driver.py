"""The llamacpp driver: GGUF models in this process, by llama.cpp, several answers at a time.

The parts: ``llamacpp_probe`` (and ``llamacpp_gguf``) judges files, ``llamacpp_model`` holds a loaded model,
``llamacpp_chat`` turns a conversation into a prompt, ``llamacpp_engine`` answers. llama.cpp is imported by ``start``
only: a probe must not pay for it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from byenatos_sdk.driver import Call, Driver, Model
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import (
    Delta,
    DetokenizeRequest,
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    ModelHealthStatus,
    ModelSpecification,
    TextDelta,
    TokenCount,
    TokenizeRequest,
    Tokens,
    Usage,
)
from llamacpp_probe import probe_file, read_model
from llamacpp_settings import Settings, read_settings
from llamacpp_warm import LlamaWarmState

if TYPE_CHECKING:
    from llamacpp_chat import ChatTemplate
    from llamacpp_engine import Engine
    from llamacpp_model import LlamaModel

__all__ = ["LlamaCpp"]


class LlamaCpp(LlamaWarmState, Driver):
    """Loads one GGUF file and answers through one :class:`Engine`."""

    continues = True

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)

    @classmethod
    def probe(cls, path: Path, settings: dict[str, Any]) -> ProbeResult:
        """Read the file's header; neither llama.cpp nor the weights are touched."""
        return probe_file(path, settings)

    @classmethod
    def preload(cls, model: Model) -> "_Loaded | None":
        """Load weights and context; nothing where a GPU takes part, whose driver does not survive a fork."""
        return _load(model) if read_settings(model.settings).gpu_layers == 0 else None

    async def start(self, model: Model) -> ModelSpecification:
        """Take over what was preloaded, or load it in a thread, so that the event loop goes on."""
        from llamacpp_engine import Engine
        from llamacpp_state import ContextState

        ahead = model.preloaded
        loaded = ahead if isinstance(ahead, _Loaded) else await asyncio.to_thread(_load_measured, model)
        self._engine = Engine(loaded.model, loaded.template, loaded.settings)
        if loaded.model.has_ranges:
            self._state = ContextState(self._engine, loaded.model, loaded.template, loaded.settings)
            self._loaded = model
            self._touch()
        return loaded.specification

    async def stop(self) -> None:
        """Stop the engine after its current step and free the model."""
        engine, self._engine, self._state = self._engine, None, None
        if engine is not None:
            await asyncio.to_thread(engine.close)

    def serve(self, call: Call) -> bool:
        """Hand ``call`` to the engine, which emits into it."""
        if self._engine is None:
            call.emit(Failure(Unavailable.code, "no model is loaded"))
        else:
            self._engine.submit(call)
        return True

    def uncongested(self) -> None:
        """Let the engine go on."""
        if self._engine is not None:
            self._engine.resume()

    async def infer(self, request: InferenceRequest) -> AsyncIterator[Delta]:
        """Answer one request without a runtime: the same engine, with a queue in between."""
        answer = _Answer(request)
        self.serve(answer)
        try:
            while True:
                delta = await answer.deltas.get()
                yield delta
                if isinstance(delta, Finish | Failure):
                    return
        finally:
            answer.cancelled = True

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """Turn texts into vectors of length 1; ``dimensions`` keeps the first ones, at length 1 again.

        Raises:
            InvalidRequest: a text is empty or too long, or more dimensions are wanted than there are.
        """
        made: Any = await asyncio.wrap_future(self._running().embed(request.inputs))
        vectors, tokens = made
        return EmbeddingResponse(tuple(_cut(vector, request.dimensions) for vector in vectors), usage=Usage(tokens, 0))

    async def count_tokens(self, request: InferenceRequest) -> TokenCount:
        """Count the tokens of the prompt that the model's chat template makes of a request."""
        return TokenCount(await asyncio.to_thread(self._running().count_tokens, request))

    async def tokenize(self, request: TokenizeRequest) -> Tokens:
        """Split a text into the model's tokens."""
        return await asyncio.to_thread(self._running().tokenize, request)

    async def detokenize(self, request: DetokenizeRequest) -> Tokens:
        """Say what tokens stand for."""
        return await asyncio.to_thread(self._running().detokenize, request)

    def _running(self) -> "Engine":
        if self._engine is None:
            raise Unavailable("no model is loaded")
        return self._engine

    async def health(self) -> ModelHealthStatus:
        """Report the engine's figures; ``down`` once it has failed."""
        if self._engine is None:
            return ModelHealthStatus("down", "no model is loaded")
        if self._engine.failed:
            return ModelHealthStatus("down", self._engine.failed)
        return ModelHealthStatus(metrics=self._engine.metrics)


def _cut(vector: Sequence[float], dimensions: int | None) -> tuple[float, ...]:
    if dimensions is None or dimensions == len(vector):
        return tuple(vector)
    if dimensions > len(vector):
        raise InvalidRequest(f"dimensions: expected at most {len(vector)}, found {dimensions}")
    length = math.hypot(*vector[:dimensions]) or 1.0
    return tuple(number / length for number in vector[:dimensions])


class _Loaded(NamedTuple):
    """A model with a context in which nothing was computed yet: no thread of llama.cpp's has been started."""

    model: "LlamaModel"
    template: "ChatTemplate"
    settings: Settings
    specification: ModelSpecification


def _load_measured(wanted: Model) -> _Loaded:
    """Load the model and find out how many threads suit it, which a process that is forked from cannot."""
    loaded = _load(wanted)
    loaded.model.measure_threads()
    return loaded


def _load(wanted: Model) -> _Loaded:
    """Load the model; one context serves all answers."""
    from llamacpp_chat import ChatTemplate
    from llamacpp_model import LlamaModel
    from llamacpp_state import ContextState  # noqa: F401 - imported where it is paid for once, in a template

    if wanted.path is None:
        raise InvalidRequest(f"{wanted.id}: expected a GGUF file, found a model without one")
    settings = read_settings(wanted.settings)
    header, specification = read_model(wanted.path, settings)
    model = LlamaModel(wanted.path, settings, header)
    try:
        template = ChatTemplate(model.chat_template, model.bos, model.eos)
    except InvalidRequest:
        model.close()
        raise
    about = {**specification.metadata, "sequences": str(settings.parallel)}
    found = msgspec.structs.replace(specification, id=wanted.id, context_length=model.context_length, metadata=about)
    return _Loaded(model, template, settings, found)


class _Answer:
    """The call of a request that came in through :meth:`LlamaCpp.infer`: deltas go to a queue of its event loop."""

    congested = False
    id = 0

    def __init__(self, request: InferenceRequest) -> None:
        self.request = request
        self.cancelled = False
        self.deltas: asyncio.Queue[Delta] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def emit(self, delta: str | Delta) -> None:
        """Hand a delta to the event loop, from any thread."""
        whole = TextDelta(delta) if isinstance(delta, str) else delta
        self._loop.call_soon_threadsafe(self.deltas.put_nowait, whole)

    def flush(self) -> None:
        """Do nothing: every delta is handed over at once."""
