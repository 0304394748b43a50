"""Slots in the management API: what is plugged in, swapping it, going back, and what swaps without being asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import json_body, read_as
from byenatos_sdk.protocol.control import SlotInfo, TriggerInfo
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import KeptSeconds, SwapEvent, SwapStrategy, Value
from http_front.exchange import Request, Response, Stream, json_response
from http_front.happenings import COMMENT, KEEP_ALIVE_S, UNBUFFERED, failed
from http_front.operations import SSE, get, one_called, post

__all__ = ["ManagedSlots", "SwapOrder"]


class SwapOrder(Value, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Plug ``model`` into the slot. The answer comes once new requests go to it, or once the old one is gone.

    ``force``: even if conversations of the slot are more than ``model`` can take. The old instance is kept for
    ``keep_old_s`` seconds to roll back to.
    """

    model: str
    strategy: SwapStrategy = "graceful"
    reason: str = "manual"
    until: Literal["switched", "retired"] = "switched"
    force: bool = False
    keep_old_s: KeptSeconds | None = None


_swap_order = msgspec.json.Decoder(SwapOrder)


class ManagedSlots:
    """Its handlers."""

    def __init__(self, kernel: AsyncClient) -> None:
        self._kernel = kernel
        self.operations = (
            get("/slots", "listSlots", "Every slot and what is plugged into it.", self._list, list[SlotInfo]),
            get("/slots/{slot}", "showSlot", "One slot.", self._show, SlotInfo, may_fail=(404,)),
            post("/slots/{slot}/swap", "swap", "Plug another model into a slot while it answers; accept "
                 "text/event-stream to follow its steps.",
                 self._swap, SwapOrder, SwapEvent, tells=SwapEvent, may_fail=(404,)),
            post("/slots/{slot}/swap/back", "swapBack", "Roll the last swap of a slot back while its old model is "
                 "kept; the answer comes once all is at that again.",
                 self._back, None, SwapEvent, may_fail=(400, 404)),
            post("/slots/{slot}/swap/cancel", "cancelSwap", "Give up the swap of a slot that has not switched yet.",
                 self._cancel, None, SwapEvent, may_fail=(404,)),
            get("/swaps", "listSwaps", "The last step of every swap that is remembered.",
                self._history, list[SwapEvent]),
            get("/triggers", "listTriggers", "What swaps without being asked, where it stands, what it would do.",
                self._triggers, list[TriggerInfo]),
        )  # fmt: skip

    async def _list(self, _: Request) -> Response:
        return json_response(await self._kernel.slots())

    async def _show(self, request: Request) -> Response:
        return json_response(one_called(request.parameters["slot"], await self._kernel.slots(), "name", "slot"))

    async def _history(self, _: Request) -> Response:
        return json_response(await self._kernel.swaps())

    async def _triggers(self, _: Request) -> Response:
        return json_response(await self._kernel.triggers())

    async def _back(self, request: Request) -> Response:
        return json_response(await self._kernel.swap_back(request.parameters["slot"]))

    async def _cancel(self, request: Request) -> Response:
        return json_response(await self._kernel.cancel_swap(request.parameters["slot"]))

    async def _swap(self, request: Request) -> Response | Stream:
        order = read_as(_swap_order, request.body)
        steps: asyncio.Queue[SwapEvent | ByenatosError | None] = asyncio.Queue()

        async def swap() -> SwapEvent:
            return await self._kernel.swap(
                request.parameters["slot"],
                order.model,
                strategy=order.strategy,
                reason=order.reason,
                until=order.until,
                force=order.force,
                keep_old_s=order.keep_old_s,
                on_event=steps.put_nowait,
            )

        if SSE not in request.headers.get("accept", ""):
            return json_response(await swap())

        async def follow() -> None:
            try:
                await swap()
            except ByenatosError as error:
                steps.put_nowait(error)
            else:
                steps.put_nowait(None)

        task = asyncio.create_task(follow())
        try:
            first = await steps.get()
        except asyncio.CancelledError:
            task.cancel()
            raise
        if isinstance(first, ByenatosError):  # nothing was begun: it still has its status
            raise first
        return Stream(_steps(task, first, steps), SSE, UNBUFFERED)


async def _steps(
    task: asyncio.Task[None], first: SwapEvent | None, steps: "asyncio.Queue[SwapEvent | ByenatosError | None]"
) -> AsyncIterator[bytes]:
    """Write a swap's steps as they come; who leaves stops listening, the swap goes on."""
    try:
        step: SwapEvent | ByenatosError | None = first
        while step is not None:
            if isinstance(step, ByenatosError):
                yield failed(step)
                return
            yield event(json_body(step), "swap")
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        step = await steps.get()
                    break
                except TimeoutError:
                    yield COMMENT
    finally:
        task.cancel()
