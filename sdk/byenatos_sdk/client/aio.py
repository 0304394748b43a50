"""The client for asyncio: a thin shell over the core.

A client belongs to the event loop that connected it. A stream is left by ``async with``, by ``aclose()``, or by
dropping it: the kernel is then told to stop.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack
from uuid import uuid4

from msgspec import Struct

from byenatos_sdk.client.aio_streams import AsyncEvents, AsyncStream, Pump
from byenatos_sdk.client.link import Link
from byenatos_sdk.client.replies import check_swap, check_welcome, news_in, result_in
from byenatos_sdk.client.request import Options, Prompt, build_embedding_request, build_request
from byenatos_sdk.client.wire import WireLink
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import (
    DriverRequest,
    Empty,
    Event,
    InstanceInfo,
    KeepOrder,
    KernelStatus,
    ListRefreshed,
    LoadRequest,
    ModelInfo,
    MoveOrder,
    Named,
    RefreshRequest,
    ReloadRequest,
    Renewal,
    SecretInfo,
    SessionState,
    SessionTranscript,
    SlotInfo,
    SwapAdvanced,
    TriggerInfo,
    UnloadRequest,
    UsageReport,
)
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import (
    DetokenizeRequest,
    EmbeddingResponse,
    InferenceResponse,
    Message,
    ModelSpecification,
    SessionInfo,
    SessionMove,
    SwapEvent,
    SwapRequest,
    SwapStrategy,
    TokenCount,
    TokenizeRequest,
    Tokens,
)

__all__ = ["AsyncClient", "AsyncSession"]

_Result = TypeVar("_Result")


class AsyncSession:
    """A conversation that the kernel keeps under :attr:`id`: every turn is put before the next one."""

    def __init__(self, client: "AsyncClient", id: str, slot: str) -> None:
        self._client = client
        self.id = id
        self.slot = slot

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Start the next turn; see :meth:`AsyncClient.stream`."""
        options.setdefault("model", self.slot)
        options["session"] = self.id
        return self._client.stream(prompt, **options)

    async def infer(self, prompt: Prompt, **options: Unpack[Options]) -> InferenceResponse:
        """Take the next turn and return its whole answer."""
        async with self.stream(prompt, **options) as stream:
            return await stream.response()

    async def transcript(self) -> SessionTranscript:
        """Return every turn that the kernel has stored."""
        return await self._client.transcript(self.id)


class AsyncClient:
    """A client of the kernel of one home, for use in one event loop, inside ``async with``.

    After the kernel went away a client is of no more use: every method raises ``Unavailable`` and says so. Streams are
    never silently started again; open a new client.
    """

    def __init__(
        self, home: str | Path | Home | None = None, *, name: str = "", connect_timeout_s: float = 5.0
    ) -> None:
        self._home = home if isinstance(home, Home) else Home(home)
        self._name = name
        self._connect_timeout_s = connect_timeout_s
        self._pump: Pump | None = None
        self._handed_over: socket.socket | None = None

    @classmethod
    def over(cls, connected: socket.socket, *, name: str = "") -> Self:
        """Return a client that speaks over ``connected``, and closes it: for processes that may connect to nothing."""
        client = cls(name=name)
        client._handed_over = connected
        return client

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and greet the kernel; ``async with`` does it.

        Raises:
            KernelNotRunning: if no kernel answers there.
            Unavailable: if it refuses this client.
        """
        if self._pump is not None:
            raise RuntimeError("expected a client that was never connected; make a new AsyncClient")
        link = Link(self._home) if self._handed_over is None else WireLink(self._handed_over)
        self._pump = pump = Pump(link)
        try:
            greeting = pump.connection.hello(self._name)
            pump.flush()
            event = None
            with suppress(TimeoutError):
                event = await pump.next(greeting, asyncio.get_running_loop().time() + self._connect_timeout_s)
            check_welcome(event, link.endpoint, self._connect_timeout_s)
        except BaseException:
            pump.hang_up("this client never connected; make a new one")
            raise

    async def close(self) -> None:
        """Leave: what still runs ends in ``Cancelled`` here and is cancelled at the kernel."""
        if self._pump is not None:
            await self._pump.close()

    # ---- inference ---------------------------------------------------------------------------------------------

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Start an answer and return the stream of its deltas.

        ::

            async with client.stream("Why is the sky blue?", max_tokens=200) as stream:
                async for delta in stream:
                    ...

        Leaving early (``break`` out of the block, an exception, ``aclose()``, dropping the stream) cancels it.

        Raises:
            InvalidRequest: if a time limit is not positive or the request is too large.
            Unavailable: if the client is not connected or the kernel went away.
            Overloaded: if thousands of requests already wait to be sent.
        """
        pump = self._connected()
        request = build_request(prompt, options)
        return AsyncStream(pump, pump.stream(request), request.timeout_s)

    async def infer(self, prompt: Prompt, **options: Unpack[Options]) -> InferenceResponse:
        """Return the whole answer; raises the error that the stream ended with. Cancelling the task cancels it."""
        async with self.stream(prompt, **options) as stream:
            return await stream.response()

    def session(self, id: str | None = None, *, slot: str = "default") -> AsyncSession:
        """Return a conversation: the one called ``id``, or a new one. The kernel stores it with its first turn."""
        return AsyncSession(self, id or uuid4().hex[:12], slot)

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "default",
        dimensions: int | None = None,
        extra: dict[str, Any] | None = None,
    ) -> EmbeddingResponse:
        """Turn texts into vectors, one for each, in their order; ``model`` is a slot or a model.

        Raises:
            Unsupported: the model's driver makes none.
        """
        request = build_embedding_request(texts, model, dimensions, extra)
        return await self._call("embed", request, EmbeddingResponse)

    async def count_tokens(self, prompt: Prompt, **options: Unpack[Options]) -> TokenCount:
        """Say how many tokens a request's input comes to, in the model's own tokens; of a ``session`` with its turns.

        Raises:
            Unsupported: the model's driver cannot count.
        """
        return await self._call("count_tokens", build_request(prompt, options), TokenCount)

    async def tokenize(
        self,
        text: str,
        *,
        model: str = "default",
        special: bool = True,
        begin: bool = False,
        timeout_s: float | None = None,
    ) -> Tokens:
        """Split a text into the tokens of ``model``, a slot or a model; see ``TokenizeRequest``.

        Raises:
            Unsupported: the model's driver does not know them.
        """
        return await self._call("tokenize", TokenizeRequest(text, model, special, begin, timeout_s), Tokens)

    async def detokenize(self, ids: Sequence[int], *, model: str = "default", timeout_s: float | None = None) -> Tokens:
        """Say what tokens of ``model``, a slot or a model, stand for: the ``text`` of what is returned.

        Raises:
            InvalidRequest: there is no such token.
            Unsupported: the model's driver does not know them.
        """
        return await self._call("detokenize", DetokenizeRequest(tuple(ids), model, timeout_s), Tokens)

    # ---- control -----------------------------------------------------------------------------------------------

    async def status(self) -> KernelStatus:
        """Return the kernel at a glance."""
        return await self._call("status", Empty(), KernelStatus)

    async def models(self) -> list[ModelInfo]:
        """List every model that the registry knows."""
        return await self._call("models", Empty(), list[ModelInfo])

    async def vendor_models(self, model: str = "default") -> list[ModelSpecification]:
        """List what the vendor of a loaded model offers; ``model`` is a slot or a model.

        Raises:
            Unsupported: its driver has no such list.
        """
        return await self._call("vendor_models", Named(model), list[ModelSpecification])

    async def refresh_models(self, driver: str = "") -> list[ListRefreshed]:
        """Make what the vendor of ``driver`` offers loadable; without a name, of every driver that has a model loaded.

        Raises:
            Unsupported: the driver has no such list.
        """
        return await self._call("refresh_models", RefreshRequest(driver), list[ListRefreshed])

    async def slots(self) -> list[SlotInfo]:
        """List every slot and what it is bound to."""
        return await self._call("slots", Empty(), list[SlotInfo])

    async def load(self, model: str, slot: str | None = None) -> InstanceInfo:
        """Load a model and keep it loaded; with ``slot``, bind a new slot to it. Returns when it serves."""
        return await self._call("load", LoadRequest(model, slot), InstanceInfo)

    async def unload(self, model: str) -> None:
        """Drain and stop the instances of a model that no slot is bound to."""
        await self._call("unload", UnloadRequest(model), Empty)

    async def preload(self, model: str) -> InstanceInfo:
        """Load a model without a slot, so that a swap to it only has to switch; it goes again once it was idle long."""
        return await self._call("preload", Named(model), InstanceInfo)

    async def usage(self) -> UsageReport:
        """Return how often models were asked for in hours like the one that comes, and what is preloaded for it."""
        return await self._call("usage", Empty(), UsageReport)

    async def swap(
        self,
        slot: str,
        model: str,
        *,
        strategy: SwapStrategy = "graceful",
        reason: str = "manual",
        until: Literal["switched", "retired"] = "switched",
        force: bool = False,
        keep_old_s: float | None = None,
        on_event: Callable[[SwapEvent], None] | None = None,
    ) -> SwapEvent:
        """Bind ``slot`` to ``model`` while it serves, and return the step ``until`` which it was waited for.

        ``switched``: new requests go to the new model; ``retired``: the old one is gone. ``on_event`` gets every step
        up to there. ``force``: even if conversations of the slot are more than the new model can take. The old instance
        is kept for ``keep_old_s`` seconds to roll back to (``None``: as the operator's policy says).

        Raises:
            ByenatosError: why it failed; the slot then still answers as before.
        """

        def advanced(event: Event) -> None:
            if on_event is not None and isinstance(event, SwapAdvanced):
                on_event(event.swap)

        order = SwapRequest(slot, model, strategy, reason, until, force, keep_old_s)
        return check_swap(await self._call("swap", order, SwapEvent, advanced))

    async def reload(self, model: str, *, strategy: SwapStrategy = "graceful") -> Renewal:
        """Give a loaded model new processes, in every slot; what moves with its state goes on in the same words.

        Raises:
            ByenatosError: why not; what was not exchanged yet serves as before.
        """
        return await self._call("model_reload", ReloadRequest(model, strategy), Renewal)

    async def upgrade_driver(self, driver: str, *, strategy: SwapStrategy = "graceful") -> Renewal:
        """Exchange what runs of a driver for the version that is in its folder now.

        Raises:
            Unavailable: a model cannot be served by it; all runs on the version before.
        """
        return await self._call("driver_upgrade", DriverRequest(driver, strategy), Renewal)

    async def roll_back_driver(self, driver: str, *, strategy: SwapStrategy = "graceful") -> Renewal:
        """Exchange what runs of a driver for the version before, which stays until :meth:`upgrade_driver`.

        Raises:
            NotFound: there is no version before.
        """
        return await self._call("driver_rollback", DriverRequest(driver, strategy), Renewal)

    async def swap_back(self, slot: str) -> SwapEvent:
        """Roll the last swap of ``slot`` back, while its old model is kept; return once all is at that again.

        Raises:
            InvalidRequest: nothing is kept any more: swap to the old model instead.
        """
        return await self._call("swap_back", Named(slot), SwapEvent)

    async def cancel_swap(self, slot: str) -> SwapEvent:
        """Give up the swap of a slot that has not switched yet, such as one that waits for the slot to be idle.

        Raises:
            NotFound: there is none.
        """
        return await self._call("swap_cancel", Named(slot), SwapEvent)

    async def swaps(self) -> list[SwapEvent]:
        """List the last step of every swap that the kernel remembers."""
        return await self._call("swaps", Empty(), list[SwapEvent])

    async def triggers(self) -> list[TriggerInfo]:
        """List the triggers that swap without being asked, as they stand."""
        return await self._call("triggers", Empty(), list[TriggerInfo])

    async def sessions(self) -> list[SessionInfo]:
        """List the stored conversations."""
        return await self._call("sessions", Empty(), list[SessionInfo])

    async def transcript(self, id: str) -> SessionTranscript:
        """Return a stored conversation with all of its turns."""
        return await self._call("session", Named(id), SessionTranscript)

    async def move_session(self, id: str, model: str, *, now: bool = False) -> SessionMove:
        """Have a stored conversation answered by ``model`` from now on; returns once it has moved, and says how.

        It moves when what is being answered has ended, or ``now``, in the middle of it.
        """
        return await self._call("session_move", MoveOrder(id, model, now), SessionMove)

    async def move_session_back(self, id: str, *, now: bool = False) -> SessionMove:
        """Have a stored conversation answered by its slot again."""
        return await self._call("session_move", MoveOrder(id, now=now), SessionMove)

    async def prefill_session(self, id: str) -> SessionState:
        """Have the model of its slot read a stored conversation ahead, so that the next turn begins at once."""
        return await self._call("session_prefill", Named(id), SessionState)

    async def hibernate_session(self, id: str) -> SessionState:
        """Put a conversation's warm state into an encrypted file; it wakes by itself before the next turn."""
        return await self._call("session_hibernate", Named(id), SessionState)

    async def wake_session(self, id: str) -> SessionState:
        """Bring a hibernated conversation's warm state back now."""
        return await self._call("session_wake", Named(id), SessionState)

    async def remove_session(self, id: str) -> None:
        """Forget a stored conversation."""
        await self._call("session_remove", Named(id), Empty)

    async def keep_session(self, id: str, messages: Sequence[Message], *, slot: str, note: bytes) -> None:
        """Store a conversation that is over under a new ``id``, with a note that ``transcript`` returns again.

        Raises:
            InvalidRequest: there is a session of that id, or it is none.
        """
        await self._call("session_keep", KeepOrder(id, slot, tuple(messages), note), Empty)

    def events(self) -> AsyncEvents:
        """Follow what happens in the kernel from now on; leaving the iterator ends it."""
        pump = self._connected()
        return AsyncEvents(pump, pump.call("events", Empty()))

    async def secrets(self) -> list[SecretInfo]:
        """List the keys that the operator named, and whether they can be used; never what they are."""
        return await self._call("secrets", Empty(), list[SecretInfo])

    async def shutdown(self) -> None:
        """Drain and stop the kernel. Returns when it has agreed or is gone."""
        pump = self._connected()
        try:
            await self._call("shutdown", Empty(), Empty)
        except Unavailable:
            if pump.connection.loss is None:
                raise

    # ---- inside ------------------------------------------------------------------------------------------------

    def _connected(self) -> Pump:
        if self._pump is None:
            raise Unavailable("expected a client that is connected; use `async with AsyncClient() as client`")
        return self._pump

    async def _call(
        self, method: str, parameters: Struct, result: type[_Result], on_news: Callable[[Event], None] | None = None
    ) -> _Result:
        pump = self._connected()
        inbox = pump.call(method, parameters)
        try:
            while (news := news_in(event := await pump.next(inbox))) is not None:
                if on_news is not None:
                    on_news(news)
            return result_in(event, result)
        finally:
            pump.leave(inbox)
