"""The kernel's own API, ``/byenatos/v1``: models, slots, swaps, sessions, plugins, events, health; for admins.

Its answers are the protocol's structs as JSON (``byenatos_sdk.protocol``); what has its default is left out. Its
OpenAPI document is made from the same table as its routes.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal, TypeVar

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import json_body, read_as
from byenatos_sdk.protocol.control import (
    Empty,
    Event,
    InstanceInfo,
    KernelStatus,
    LoadRequest,
    ModelInfo,
    PluginInfo,
    SessionTranscript,
    SlotInfo,
    UnloadRequest,
)
from byenatos_sdk.protocol.errors import ByenatosError, NotFound
from byenatos_sdk.protocol.messages import SessionInfo, SwapEvent, SwapStrategy, Value
from http_front.exchange import Request, Response, Stream, json_response
from http_front.meter import Meter
from http_front.metrics import is_ready
from http_front.operations import SSE, Errors, Operation, document
from http_front.routes import Routes
from http_front.traffic import Traffic

__all__ = ["Health", "Management", "SwapOrder"]

ROOT = "/byenatos/v1"
VERSION = "1.0.0"
"""Of this API: fields may be added under the same major."""
KEEP_ALIVE_S = 15.0
_COMMENT = b":\n\n"
_UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}

_Struct = TypeVar("_Struct")


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
    keep_old_s: float | None = None


class SlotHealth(Value, frozen=True, omit_defaults=True):
    """How one slot is."""

    name: str
    model: str
    state: Literal["ready", "loading", "degraded", "unavailable", "empty"]
    detail: str = ""


class Health(Value, frozen=True, omit_defaults=True):
    """``ok``: every slot is ready; ``degraded``: some answer; ``down``: none does. ``warnings`` are for people."""

    status: Literal["ok", "degraded", "down"]
    uptime_s: float
    slots: tuple[SlotHealth, ...] = ()
    warnings: tuple[str, ...] = ()


_swap_order = msgspec.json.Decoder(SwapOrder)
_load_order = msgspec.json.Decoder(LoadRequest)
_unload_order = msgspec.json.Decoder(UnloadRequest)


class Management:
    """Its handlers."""

    def __init__(self, kernel: AsyncClient, meter: Meter, worker: int) -> None:
        self._kernel = kernel
        self._meter = meter
        self._worker = worker
        self.operations = (
            _get("/health", "health", "How the kernel and its slots are.", self._health, Health),
            _get("/status", "status", "The kernel at a glance.", self._status, KernelStatus),
            _get("/traffic", "traffic", "What one worker of the front answered in the last minute.",
                 self._traffic, Traffic),
            _get("/models", "listModels", "Every model that is known.", self._models, list[ModelInfo]),
            _post("/models/load", "loadModel", "Load a model and keep it loaded; with a slot, bind a new slot to it.",
                  self._load, LoadRequest, InstanceInfo, may_fail=(404,)),
            _post("/models/unload", "unloadModel", "Drain and stop a model that no slot is bound to.",
                  self._unload, UnloadRequest, Empty, may_fail=(404,)),
            _get("/models/{model...}", "showModel", "One model.", self._model, ModelInfo, may_fail=(404,)),
            _get("/slots", "listSlots", "Every slot and what is plugged into it.", self._slots, list[SlotInfo]),
            _get("/slots/{slot}", "showSlot", "One slot.", self._slot, SlotInfo, may_fail=(404,)),
            _post("/slots/{slot}/swap", "swap", "Plug another model into a slot while it answers; accept "
                  "text/event-stream to follow its steps.",
                  self._swap, SwapOrder, SwapEvent, tells=SwapEvent, may_fail=(404,)),
            _get("/swaps", "listSwaps", "The last step of every swap that is remembered.",
                 self._swaps, list[SwapEvent]),
            _get("/sessions", "listSessions", "The stored conversations.", self._sessions, list[SessionInfo]),
            _get("/sessions/{session...}", "showSession", "A conversation with all of its turns.",
                 self._session, SessionTranscript, may_fail=(404,)),
            Operation("DELETE", f"{ROOT}/sessions/{{session...}}", "removeSession", "Forget a conversation.",
                      self._remove_session, gives=Empty, may_fail=(400, 404)),
            _get("/plugins", "listPlugins", "Drivers and fronts, who signed them, and why one is refused.",
                 self._plugins, list[PluginInfo]),
            _get("/events", "followEvents", "What happens from now on, as server-sent events without end.",
                 self._events, tells=Event),
            _get("/openapi.json", "describe", "This document.", self._describe, dict[str, Any])._replace(access="open"),
        )  # fmt: skip
        self._document = json_body(document(self.operations, VERSION))

    def enter(self, routes: Routes) -> None:
        """Enter its paths."""
        routes.claim(ROOT, Errors())
        for one in self.operations:
            routes.add(one.method, one.path, one.handler, Errors(), one.access)

    # ---- what there is -------------------------------------------------------------------------------------------

    async def _health(self, _: Request) -> Response:
        status = await self._kernel.status()
        slots = tuple(SlotHealth(one.name, one.model, one.state, one.detail) for one in status.slots)
        ready = [is_ready(slot) for slot in status.slots]
        well = all(slot.state == "ready" for slot in slots)
        word: Literal["ok", "degraded", "down"] = "down" if not any(ready) else "ok" if well else "degraded"
        return json_response(Health(word, status.uptime_s, slots, status.warnings))

    async def _status(self, _: Request) -> Response:
        return json_response(await self._kernel.status())

    async def _traffic(self, _: Request) -> Response:
        return json_response(Traffic.of(self._meter, self._worker))

    async def _models(self, _: Request) -> Response:
        return json_response(await self._kernel.models())

    async def _model(self, request: Request) -> Response:
        return json_response(_one(await self._kernel.models(), "id", "model", request.parameters["model"]))

    async def _slots(self, _: Request) -> Response:
        return json_response(await self._kernel.slots())

    async def _slot(self, request: Request) -> Response:
        return json_response(_one(await self._kernel.slots(), "name", "slot", request.parameters["slot"]))

    async def _swaps(self, _: Request) -> Response:
        return json_response(await self._kernel.swaps())

    async def _sessions(self, _: Request) -> Response:
        return json_response(await self._kernel.sessions())

    async def _session(self, request: Request) -> Response:
        return json_response(await self._kernel.transcript(request.parameters["session"]))

    async def _plugins(self, _: Request) -> Response:
        return json_response((await self._kernel.status()).plugins)

    async def _describe(self, _: Request) -> Response:
        return Response(self._document)

    # ---- what can be done ----------------------------------------------------------------------------------------

    async def _load(self, request: Request) -> Response:
        order = read_as(_load_order, request.body)
        return json_response(await self._kernel.load(order.model, order.slot))

    async def _unload(self, request: Request) -> Response:
        await self._kernel.unload(read_as(_unload_order, request.body).model)
        return json_response(Empty())

    async def _remove_session(self, request: Request) -> Response:
        await self._kernel.remove_session(request.parameters["session"])
        return json_response(Empty())

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
        return Stream(_steps(task, first, steps), SSE, _UNBUFFERED)

    async def _events(self, _: Request) -> Stream:
        return Stream(_happenings(self._kernel), SSE, _UNBUFFERED)


async def _steps(
    task: asyncio.Task[None], first: SwapEvent | None, steps: "asyncio.Queue[SwapEvent | ByenatosError | None]"
) -> AsyncIterator[bytes]:
    """Write a swap's steps as they come; who leaves stops listening, the swap goes on."""
    try:
        step: SwapEvent | ByenatosError | None = first
        while step is not None:
            if isinstance(step, ByenatosError):
                yield _failed(step)
                return
            yield event(json_body(step), "swap")
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        step = await steps.get()
                    break
                except TimeoutError:
                    yield _COMMENT
    finally:
        task.cancel()


async def _happenings(kernel: AsyncClient) -> AsyncIterator[bytes]:
    async with kernel.events() as events:
        yield _COMMENT  # whoever has read it misses nothing from then on
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    happened = await anext(events)
            except TimeoutError:
                yield _COMMENT
            except StopAsyncIteration:
                return
            except ByenatosError as error:
                yield _failed(error)
                return
            else:
                yield event(json_body(happened), str(happened.__struct_config__.tag))


def _failed(error: ByenatosError) -> bytes:
    return event(Errors().encode_error(error).body, "error")


def _one(found: list[_Struct], field: str, what: str, name: str) -> _Struct:
    """Return the one of that name.

    Raises:
        NotFound: there is none.
    """
    for one in found:
        if getattr(one, field) == name:
            return one
    names = ", ".join(str(getattr(one, field)) for one in found) or "none"
    raise NotFound(f"{what} {name[:80]!r}: expected one of those that there are, which are {names}")


def _get(
    path: str, name: str, summary: str, handler: Any, gives: Any = None, *, tells: Any = None,
    may_fail: tuple[int, ...] = (),
) -> Operation:  # fmt: skip
    return Operation("GET", ROOT + path, name, summary, handler, None, gives, tells, may_fail=may_fail)


def _post(
    path: str, name: str, summary: str, handler: Any, takes: Any, gives: Any = None, *, tells: Any = None,
    may_fail: tuple[int, ...] = (),
) -> Operation:  # fmt: skip
    return Operation("POST", ROOT + path, name, summary, handler, takes, gives, tells, may_fail=may_fail)
