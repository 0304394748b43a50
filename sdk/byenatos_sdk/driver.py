"""What a driver author writes: a class with one async generator.

::

    class Echo(Driver):
        async def infer(self, request):
            for word in request.messages[-1].text.split():
                yield word + " "

Everything else has a default. The runtime calls a driver from one event loop; a blocking engine runs in a thread of its
own and answers through :class:`Call`, whose methods may be called from any thread.

Two ways in, one path out: :meth:`Driver.infer` is the author's way. An engine that produces a token for *all* of its
streams in one step overrides :meth:`Driver.serve` instead and emits into each stream's :class:`Call`; whatever was
emitted since the last flush leaves as one message.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.messages import (
    Delta,
    InferenceRequest,
    ModelHealthStatus,
    ModelSpecification,
)

__all__ = ["Call", "Driver", "Model"]


class Model:
    """The model that an instance was told to load: its id, its file (``None`` without one) and the settings."""

    __slots__ = ("id", "path", "settings")

    def __init__(self, id: str, path: Path | None, settings: dict[str, Any]) -> None:
        self.id = id
        self.path = path
        self.settings = settings


class Call(Protocol):
    """One running request, as an engine sees it. Every method may be called from any thread."""

    @property
    def id(self) -> int:
        """The kernel's number for it, by which the call is the subject of warm state (see ``warm``)."""

    @property
    def request(self) -> InferenceRequest:
        """The request, with the operator's defaults filled in and a partial answer as its last message."""

    @property
    def cancelled(self) -> bool:
        """Whether the answer is no longer wanted: stop at the next token boundary and emit nothing more."""

    @property
    def congested(self) -> bool:
        """Whether the channel is full: pause generating until it is false again (see :meth:`Driver.uncongested`)."""

    def emit(self, delta: str | Delta) -> None:
        """Send a delta; a ``str``, the quickest, is a ``TextDelta``. A ``Finish`` or ``Failure`` ends the call, once.

        It leaves at the end of the event loop's turn, in one message with whatever else was emitted by then.
        """

    def flush(self) -> None:
        """Send at once what was emitted so far by any call, instead of at the end of the event loop's turn.

        A message costs as much as twenty deltas: an engine in a thread calls this at most once per step.
        """


class Driver(ABC):
    """Speaks to one vendor's or engine's models. Subclass it and write :meth:`infer`."""

    continues: ClassVar[bool] = False
    """Whether a trailing assistant message is continued rather than answered. Where it is false, the runtime adds a
    turn that asks the model to continue its answer."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    async def start(self, model: Model) -> ModelSpecification | None:
        """Load ``model``. Return its specification, or ``None`` if there is nothing to say beyond its id."""
        return None

    async def stop(self) -> None:
        """Free what :meth:`start` took; no call is running any more."""

    @abstractmethod
    def infer(self, request: InferenceRequest) -> AsyncIterator[str | Delta]:
        """Yield the answer's deltas. A missing ``Finish`` is supplied; leaving early closes the generator.

        Raise an error of ``byenatos_sdk.protocol.errors`` to end the answer with its code; any other exception ends it
        as ``internal``.
        """

    def serve(self, call: Call) -> bool:
        """Take ``call`` over and answer it through ``call.emit``; return whether it was taken (default: no).

        Called from the event loop and must return at once. Only for engines that step many streams together.
        """
        return False

    def uncongested(self) -> None:
        """Hear that the channel has room again after some :attr:`Call.congested` was seen to be true.

        Called from the event loop and must return at once: set the event that a paused engine waits for. The engine
        clears its event, looks at ``congested`` once more, and only then waits.
        """

    async def health(self) -> ModelHealthStatus:
        """Say how the instance feels; called every ``health_check_interval`` seconds."""
        return ModelHealthStatus()

    @classmethod
    def probe(cls, path: Path) -> ProbeResult:
        """Say whether the file at ``path`` is a model of this driver, reading as little of it as possible.

        Runs in a sandboxed process of its own, without ``start``. Called only if the manifest names file patterns.
        """
        return ProbeResult(reason=f"{cls.__name__} loads no files")
