"""The llamacpp driver: GGUF models in this process, by llama.cpp, several answers at a time.

The parts: ``llamacpp_probe`` (and ``llamacpp_gguf``) judges files, ``llamacpp_model`` holds a loaded model,
``llamacpp_chat`` turns a conversation into a prompt, ``llamacpp_engine`` answers. llama.cpp is imported by ``start``
only: a probe must not pay for it.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from byenatos_sdk.driver import Call, Driver, Model
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceRequest,
    ModelHealthStatus,
    ModelSpecification,
    TextDelta,
)
from llamacpp_probe import probe_file, read_model
from llamacpp_settings import read_settings

if TYPE_CHECKING:
    from llamacpp_engine import Engine

__all__ = ["LlamaCpp"]


class LlamaCpp(Driver):
    """Loads one GGUF file and answers through one :class:`Engine`."""

    continues = True

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._engine: Engine | None = None

    @classmethod
    def probe(cls, path: Path) -> ProbeResult:
        """Read the file's header; neither llama.cpp nor the weights are touched."""
        return probe_file(path)

    async def start(self, model: Model) -> ModelSpecification:
        """Load the model in a thread, so that the event loop goes on."""
        self._engine, specification = await asyncio.to_thread(_load, model)
        return specification

    async def stop(self) -> None:
        """Stop the engine after its current step and free the model."""
        engine, self._engine = self._engine, None
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

    async def health(self) -> ModelHealthStatus:
        """Report the engine's figures; ``down`` once it has failed."""
        if self._engine is None:
            return ModelHealthStatus("down", "no model is loaded")
        if self._engine.failed:
            return ModelHealthStatus("down", self._engine.failed)
        return ModelHealthStatus(metrics=self._engine.metrics)


def _load(wanted: Model) -> tuple["Engine", ModelSpecification]:
    """Load the model and start the engine; return it with what was loaded."""
    from llamacpp_chat import ChatTemplate
    from llamacpp_engine import Engine
    from llamacpp_model import LlamaModel

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
    model.measure_threads()
    found = msgspec.structs.replace(specification, id=wanted.id, context_length=model.context_length)
    return Engine(model, template, settings), found


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
