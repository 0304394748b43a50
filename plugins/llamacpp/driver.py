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
from llamacpp_probe import probe_file
from llamacpp_settings import Settings, read_settings

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
        path = model.path
        if path is None:
            raise InvalidRequest(f"{model.id}: expected a GGUF file, found a model without one")
        probed = probe_file(path)
        if probed.specification is None:
            raise InvalidRequest(f"{path.name}: {probed.reason}")
        settings = read_settings(model.settings)
        self._engine, context_length = await asyncio.to_thread(_load, path, settings)
        return msgspec.structs.replace(probed.specification, id=model.id, context_length=context_length)

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


def _load(path: Path, settings: Settings) -> tuple["Engine", int]:
    """Load the model and start the engine; return it with the context that one answer may use."""
    from llamacpp_chat import ChatTemplate
    from llamacpp_engine import Engine
    from llamacpp_model import LlamaModel

    model = LlamaModel(path, settings)
    try:
        template = ChatTemplate(model.chat_template, model.bos, model.eos)
    except InvalidRequest:
        model.close()
        raise
    return Engine(model, template, settings), model.context_length


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
