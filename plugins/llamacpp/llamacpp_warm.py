"""The warm state of the llamacpp driver: its methods, each a job for the engine's thread."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from byenatos_sdk.driver import Call, Model
from byenatos_sdk.protocol.errors import ByenatosError, Draining, Unavailable
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, InferenceRequest, Message, Sampling
from byenatos_sdk.protocol.warm import Fingerprint, Holding, Piece, SubjectId
from byenatos_sdk.warm import Resumption, State, WarmState, missing
from llamacpp_nobody import NoCall

if TYPE_CHECKING:
    from llamacpp_engine import Engine
    from llamacpp_state import ContextState

__all__ = ["LlamaWarmState"]


class LlamaWarmState(WarmState):
    """What :class:`driver.LlamaCpp` inherits. It has none before a model is loaded."""

    _engine: "Engine | None" = None
    _state: "ContextState | None" = None
    _loaded: "Model | None" = None

    async def fingerprint(self) -> Fingerprint:
        """Name the model by the digest that the kernel gave it, the engine, and how it is set up."""
        _, state = self._ready()
        return state.fingerprint(self._model())

    async def holdings(self) -> tuple[Holding, ...]:
        """List the idle sessions."""
        found: tuple[Holding, ...] = await self._job(lambda state: state.holdings())
        return found

    async def reach(self, subject: SubjectId, position: int) -> int:
        """Wait, one step after the other."""
        return int(await self._job(lambda state: state.reach(subject, position)))

    async def export(self, subject: SubjectId, start: int, into: memoryview) -> Piece:
        """Write a range while the answer goes on."""
        return await self._export(subject, start, into, freeze=False)

    async def freeze(self, subject: int, start: int, into: memoryview) -> Piece:
        """Hold the answer and write what is left."""
        return await self._export(subject, start, into, freeze=True)

    async def thaw(self, subject: int) -> None:
        """Let it go on."""
        await self._job(lambda state: state.thaw(subject))

    async def restore(self, subject: SubjectId, states: Sequence[State]) -> None:
        """Read ranges into the context."""
        await self._job(lambda state: state.restore(subject, states))

    def resume(self, call: Call, resumption: Resumption) -> None:
        """Have the engine go on with an answer."""
        engine, state = self._ready()
        done = engine.between_steps(lambda: state.resume(call, resumption))

        def tell(_: object) -> None:
            error = done.exception()
            if error is not None:
                code = error.code if isinstance(error, ByenatosError) else "internal"
                call.emit(Failure(code, str(error)))

        done.add_done_callback(tell)

    async def release(self, subject: SubjectId) -> None:
        """Forget it."""
        await self._job(lambda state: state.release(subject))

    async def prefill(self, session: str, messages: tuple[Message, ...]) -> int:
        """Read the conversation as if to answer it, and take one token that nobody hears."""
        await self._hear(InferenceRequest(messages, session=session))
        for holding in await self.holdings():
            if holding.session == session:
                return holding.positions
        raise missing(session)

    async def read(self, request: InferenceRequest) -> int:
        """Read it likewise; what it leaves behind is found by what begins in the same way."""
        return await self._hear(replace(request, session=None))

    async def _hear(self, request: InferenceRequest) -> int:
        """Answer with one token that nobody hears; return how many tokens the prompt has."""
        engine, _ = self._ready()
        sampling = Sampling(temperature=0.0, max_tokens=1)
        call = _Unheard(replace(request, sampling=sampling))
        engine.submit(call)
        try:
            end = await call.ended
        finally:
            call.cancelled = True  # where nobody waits for it any longer
        if isinstance(end, Failure):
            raise Unavailable(end.message)
        return end.usage.input_tokens or 0

    def _touch(self) -> None:
        """Have the engine's first step made before anybody waits for it."""
        engine, state = self._ready()
        engine.between_steps(state.touch).add_done_callback(_report)

    def _model(self) -> "Model":
        if self._loaded is None:
            raise Unavailable("no model is loaded")
        return self._loaded

    def _ready(self) -> "tuple[Engine, ContextState]":
        if self._engine is None or self._state is None:
            raise Unavailable("no model is loaded, or it is one that keeps no state that could be moved")
        return self._engine, self._state

    async def _export(self, subject: SubjectId, start: int, into: memoryview, *, freeze: bool) -> Piece:
        piece: Piece = await self._job(lambda state: state.export(subject, start, into, freeze=freeze))
        return piece

    async def _job(self, job: "Callable[[ContextState], object]") -> Any:
        engine, state = self._ready()
        return await asyncio.wrap_future(engine.between_steps(lambda: job(state)))


def _report(touched: Future[object]) -> None:
    """Say that the first step could not be made ahead: nobody waits for it, and whoever comes next is the slower."""
    error = touched.exception()
    if error is not None and not isinstance(error, Draining):
        sys.stderr.write(f"the first step could not be made ahead: {type(error).__name__}: {error}\n")


class _Unheard(NoCall):
    """A call whose answer nobody hears; what is waited for is its end."""

    def __init__(self, request: InferenceRequest) -> None:
        super().__init__(request)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Finish | Failure] = self._loop.create_future()

    def emit(self, delta: str | Delta) -> None:
        if isinstance(delta, Finish | Failure):
            self._loop.call_soon_threadsafe(self._end, delta)

    def _end(self, end: Finish | Failure) -> None:
        if not self.ended.done():
            self.ended.set_result(end)
