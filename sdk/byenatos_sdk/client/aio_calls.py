"""What a kernel can be asked by calls, for asyncio: each method is one call."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, Unpack

from msgspec import Struct

from byenatos_sdk.client.replies import check_swap
from byenatos_sdk.client.request import Options, Prompt, build_embedding_request, build_request
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
from byenatos_sdk.protocol.messages import (
    DetokenizeRequest,
    EmbeddingResponse,
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

__all__ = ["AsyncCalls"]

_Result = TypeVar("_Result")


class AsyncCalls(ABC):
    """The calls of the control plane; whoever inherits them makes them."""

    @abstractmethod
    async def _call(
        self, method: str, parameters: Struct, result: type[_Result], on_news: Callable[[Event], None] | None = None
    ) -> _Result:
        """Call ``method`` and return its result; ``on_news`` gets what the kernel tells before."""

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

    async def keep_session(
        self, id: str, messages: Sequence[Message], *, slot: str, note: bytes, replaces: float | None = None
    ) -> None:
        """Store a conversation under a new ``id``, with a note that ``transcript`` returns again.

        ``replaces``: in the place of the session of that id, whose ``updated_at`` this was when it was read.

        Raises:
            InvalidRequest: there is a session of that id, or it is none; the one to replace was changed since.
            NotFound: the one to replace is gone.
        """
        await self._call("session_keep", KeepOrder(id, slot, tuple(messages), note, replaces), Empty)

    async def admit(self, name: str) -> None:
        """Count a request of the application ``name`` of ``access.toml``, which came to a front.

        Raises:
            RateLimited: it has had as many in the last minute as it may, from all fronts and workers together.
            Unauthenticated: there is no such application any more.
        """
        await self._call("client_admit", Named(name), Empty)

    async def secrets(self) -> list[SecretInfo]:
        """List the keys that the operator named, and whether they can be used; never what they are."""
        return await self._call("secrets", Empty(), list[SecretInfo])
