"""The kernel's own API, ``/byenatos/v1``: models, slots, swaps, sessions, plugins, events, health; for admins.

Its answers are the protocol's structs as JSON (``byenatos_sdk.protocol``); what has its default is left out. Its
OpenAPI document is made from the same table as its routes. The parts: ``managed_models``, ``managed_slots``,
``managed_sessions``; here is what they are parts of.
"""

from typing import Any, Literal

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.wire import json_body, read_as
from byenatos_sdk.protocol.control import Event, KernelStatus, PluginInfo, Renewal
from byenatos_sdk.protocol.messages import SwapStrategy, Value
from http_front.exchange import Request, Response, Stream, json_response
from http_front.happenings import UNBUFFERED, happenings
from http_front.managed_models import ManagedModels
from http_front.managed_sessions import ManagedSessions
from http_front.managed_slots import ManagedSlots
from http_front.meter import Meter
from http_front.metrics import is_ready
from http_front.operations import ROOT, SSE, Errors, document, get, post
from http_front.routes import Routes
from http_front.traffic import Traffic

__all__ = ["Health", "Management", "PluginOrder"]

VERSION = "1.1.0"
"""Of this API: fields and operations may be added under the same major."""


class PluginOrder(Value, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How the slots of a driver are swapped when it is exchanged for another version."""

    strategy: SwapStrategy = "graceful"


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


_plugin_order = msgspec.json.Decoder(PluginOrder)


class Management:
    """Its handlers, and all others."""

    def __init__(self, kernel: AsyncClient, meter: Meter, worker: int) -> None:
        self._kernel = kernel
        self._meter = meter
        self._worker = worker
        self.operations = (
            get("/health", "health", "How the kernel and its slots are.", self._health, Health),
            get("/status", "status", "The kernel at a glance.", self._status, KernelStatus),
            get("/traffic", "traffic", "What one worker of the front answered in the last minute.",
                self._traffic, Traffic),
            *ManagedModels(kernel).operations,
            *ManagedSlots(kernel).operations,
            *ManagedSessions(kernel).operations,
            get("/plugins", "listPlugins", "Drivers and fronts, who signed them, and why one is refused.",
                self._plugins, list[PluginInfo]),
            post("/plugins/{plugin}/upgrade", "upgradePlugin", "Exchange what runs of a driver for the version in its "
                 "folder; if that cannot serve, all goes back.",
                 self._upgrade, PluginOrder, Renewal, may_fail=(404,)),
            post("/plugins/{plugin}/rollback", "rollBackPlugin", "Exchange what runs of a driver for the version "
                 "before, which stays until the next upgrade.",
                 self._roll_back, PluginOrder, Renewal, may_fail=(404,)),
            get("/events", "followEvents", "What happens from now on, as server-sent events without end.",
                self._events, tells=Event),
            get("/openapi.json", "describe", "This document.", self._describe, dict[str, Any])._replace(access="open"),
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

    async def _plugins(self, _: Request) -> Response:
        return json_response((await self._kernel.status()).plugins)

    async def _events(self, _: Request) -> Stream:
        return Stream(happenings(self._kernel), SSE, UNBUFFERED)

    async def _describe(self, _: Request) -> Response:
        return Response(self._document)

    # ---- what can be done ----------------------------------------------------------------------------------------

    async def _upgrade(self, request: Request) -> Response:
        order = read_as(_plugin_order, request.body)
        return json_response(await self._kernel.upgrade_driver(request.parameters["plugin"], strategy=order.strategy))

    async def _roll_back(self, request: Request) -> Response:
        order = read_as(_plugin_order, request.body)
        return json_response(await self._kernel.roll_back_driver(request.parameters["plugin"], strategy=order.strategy))
