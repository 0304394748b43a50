"""What a driver author writes: a class with one async generator.

::

    class Echo(Driver):
        async def infer(self, request):
            for word in request.messages[-1].text.split():
                yield word + " "

Everything else has a default. The runtime calls a driver from one event loop; a blocking engine runs in a thread of its
own and answers through :class:`Call`, whose methods may be called from any thread.

Two ways in, one path out: :meth:`Driver.infer` is the author's way. An engine that produces a token for *all* of its
streams in one step overrides :meth:`Driver.serve` as well and emits into each stream's :class:`Call`; whatever was
emitted since the last flush leaves as one message. ``infer`` is asked for what ``serve`` does not take, and must be
there even if that is nothing.

Where it runs: in a process of its own that starts no other and has no network but ``byenatos_sdk.egress``. It imports
what lies in its folder, its ``vendor/`` and its lock, then what the kernel's own environment has. It reads its own
folder and the files that it was granted (``byenatos_sdk.files``), and writes, by ``tempfile``, to a bounded scratch
folder that ends with it. What it prints is kept for the operator, the last lines of it.

Errors: what the driver raises from ``byenatos_sdk.protocol.errors`` reaches the application with its code, anything
else as ``internal``, with a traceback on stderr (``byenatos ps MODEL`` shows it). Testing: ``byenatos_sdk.testing``.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import Unsupported
from byenatos_sdk.protocol.messages import (
    Delta,
    DetokenizeRequest,
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    ModelHealthStatus,
    ModelSpecification,
    TokenCount,
    TokenizeRequest,
    Tokens,
)

__all__ = ["Call", "Driver", "Model"]


class Model:
    """The model that an instance was told to load: its id, its file (``None`` without one) and the settings.

    The file has no name in a sandbox: open it by ``byenatos_sdk.files.open_file(path)``. ``digest`` is the BLAKE2b-256
    of its content, in hex; two instances with equal digests have loaded the same bytes. ``preloaded`` is what
    :meth:`Driver.preload` returned in the process that this one was forked from, else ``None``. ``files`` are the
    further files that the operator named in the settings (``[permissions] file_settings``): their digests by path; a
    name without a folder is that of a file beside the model's.
    """

    __slots__ = ("digest", "files", "id", "path", "preloaded", "settings")

    def __init__(
        self,
        id: str,
        path: Path | None,
        settings: dict[str, Any],
        *,
        digest: str = "",
        preloaded: object = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id
        self.path = path
        self.settings = settings
        self.digest = digest
        self.preloaded = preloaded
        self.files = dict(files or {})


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

    continues: bool = False
    """Whether a trailing assistant message is continued rather than answered. Where it is false, the runtime adds a
    turn that asks the model to continue its answer."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @classmethod
    def preload(cls, model: Model) -> object | None:
        """Load of ``model`` what every instance of it has in common, and return it; ``None`` if nothing can be shared.

        Called, if the manifest says ``[lifecycle] preload_model = true``, in a sandboxed process from which instances
        are forked: they find it as ``Model.preloaded``, and pay neither time nor memory for what they do not change.
        There is no event loop, and no thread may be started: a fork copies only the one that forks. So no computation
        by several threads either, and nothing on a GPU, whose drivers do not survive a fork. What is raised here is
        raised again by :meth:`start`, which loads the model itself then.
        """
        return None

    async def start(self, model: Model) -> ModelSpecification | None:
        """Load ``model``, or take over ``model.preloaded``.

        Return its specification, or ``None`` if there is nothing to say beyond its id.
        """
        return None

    async def stop(self) -> None:
        """Free what :meth:`start` took; no call is running any more."""

    @abstractmethod
    def infer(self, request: InferenceRequest) -> AsyncIterator[str | Delta]:
        """Yield the answer's deltas. A missing ``Finish`` is supplied; leaving early closes the generator.

        A ``Finish`` or ``Failure`` is the end: the generator is closed there, and what would follow is never asked for.

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

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """Turn texts into vectors, one for each, in their order; cancelled when they are no longer wanted.

        Raises:
            Unsupported: the driver, or its model, has no embeddings.
        """
        raise Unsupported(f"{type(self).__name__} makes no embeddings; name a model whose driver does")

    async def count_tokens(self, request: InferenceRequest) -> TokenCount:
        """Say how many tokens the request's input comes to, with whatever the model's chat template adds.

        Raises:
            Unsupported: it cannot be said without asking for the answer.
        """
        raise Unsupported(f"{type(self).__name__} counts no tokens; name a model whose driver does")

    async def tokenize(self, request: TokenizeRequest) -> Tokens:
        """Split a text into the model's tokens.

        Raises:
            Unsupported: the driver does not know them.
        """
        raise Unsupported(f"{type(self).__name__} does not know its model's tokens; name a model whose driver does")

    async def detokenize(self, request: DetokenizeRequest) -> Tokens:
        """Say what the model's tokens stand for.

        Raises:
            Unsupported: the driver does not know them.
            InvalidRequest: there is no such token.
        """
        raise Unsupported(f"{type(self).__name__} does not know its model's tokens; name a model whose driver does")

    async def models(self) -> list[ModelSpecification]:
        """List the models that the vendor offers, by the vendor's own names.

        Raises:
            Unsupported: there is no such list.
        """
        raise Unsupported(f"{type(self).__name__} has no list of its vendor's models; look at the vendor's page")

    @classmethod
    def probe(cls, path: Path, settings: dict[str, Any]) -> ProbeResult:
        """Say whether the file at ``path`` is a model of this driver, reading as little of it as possible.

        Its specification is what :meth:`start` would return with ``settings``, as far as the file tells: by its
        ``context_length``, ``features`` and ``memory_bytes`` the kernel judges before it loads anything whether the
        model can take over conversations, and whether there is room for it.
        Open it by ``byenatos_sdk.files.open_file``: it has no name where this runs.
        Runs in a sandboxed process of its own, without ``start``. Called only if the manifest names file patterns.
        """
        return ProbeResult(reason=f"{cls.__name__} loads no files")
