"""Models in the management API: what there is, loading, preloading, reloading, vendors' lists, how they are used."""

import msgspec

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats.wire import read_as
from byenatos_sdk.protocol.control import (
    Empty,
    InstanceInfo,
    ListRefreshed,
    LoadRequest,
    ModelInfo,
    RefreshRequest,
    ReloadRequest,
    Renewal,
    UnloadRequest,
    UsageReport,
)
from byenatos_sdk.protocol.messages import Value
from http_front.exchange import Request, Response, json_response
from http_front.operations import get, one_called, post

__all__ = ["ManagedModels", "PreloadOrder"]


class PreloadOrder(Value, frozen=True, forbid_unknown_fields=True):
    """Load ``model`` without a slot, so that a swap to it only has to switch."""

    model: str


_load_order = msgspec.json.Decoder(LoadRequest)
_unload_order = msgspec.json.Decoder(UnloadRequest)
_preload_order = msgspec.json.Decoder(PreloadOrder)
_reload_order = msgspec.json.Decoder(ReloadRequest)
_refresh_order = msgspec.json.Decoder(RefreshRequest)


class ManagedModels:
    """Its handlers."""

    def __init__(self, kernel: AsyncClient) -> None:
        self._kernel = kernel
        self.operations = (
            get("/models", "listModels", "Every model that is known.", self._list, list[ModelInfo]),
            post("/models/load", "loadModel", "Load a model and keep it loaded; with a slot, bind a new slot to it.",
                 self._load, LoadRequest, InstanceInfo, may_fail=(404,)),
            post("/models/unload", "unloadModel", "Drain and stop a model that no slot is bound to.",
                 self._unload, UnloadRequest, Empty, may_fail=(404,)),
            post("/models/preload", "preloadModel", "Load a model without a slot, so that a swap to it only switches; "
                 "it goes again once nobody has used it for long.",
                 self._preload, PreloadOrder, InstanceInfo, may_fail=(404,)),
            post("/models/reload", "reloadModel", "Give a loaded model new processes, in every slot, while it serves.",
                 self._reload, ReloadRequest, Renewal, may_fail=(404,)),
            post("/models/refresh", "refreshModels", "Ask a driver's vendor (without one, that of every driver with a "
                 "loaded model) what it offers, and make that loadable.",
                 self._refresh, RefreshRequest, list[ListRefreshed], may_fail=(404,)),
            get("/models/{model...}", "showModel", "One model.", self._show, ModelInfo, may_fail=(404,)),
            get("/usage", "usage", "How often models were asked for in hours like the one that comes, and what is "
                "preloaded for it.", self._usage, UsageReport),
        )  # fmt: skip

    async def _list(self, _: Request) -> Response:
        return json_response(await self._kernel.models())

    async def _show(self, request: Request) -> Response:
        return json_response(one_called(request.parameters["model"], await self._kernel.models(), "id", "model"))

    async def _usage(self, _: Request) -> Response:
        return json_response(await self._kernel.usage())

    async def _load(self, request: Request) -> Response:
        order = read_as(_load_order, request.body)
        return json_response(await self._kernel.load(order.model, order.slot))

    async def _unload(self, request: Request) -> Response:
        await self._kernel.unload(read_as(_unload_order, request.body).model)
        return json_response(Empty())

    async def _preload(self, request: Request) -> Response:
        return json_response(await self._kernel.preload(read_as(_preload_order, request.body).model))

    async def _reload(self, request: Request) -> Response:
        order = read_as(_reload_order, request.body)
        return json_response(await self._kernel.reload(order.model, strategy=order.strategy))

    async def _refresh(self, request: Request) -> Response:
        return json_response(await self._kernel.refresh_models(read_as(_refresh_order, request.body).driver))
