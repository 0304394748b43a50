"""Ollama's API. A model file is its own name here: slots and models alike are listed as models.

``pull`` and ``delete`` do not move files: what runs here can make no outside connection and open no file. A model that
is there already is pulled at once; for any other the answer says how it is done.
"""

import time
from collections.abc import AsyncIterator

from msgspec.structs import replace

from byenatos_sdk.formats import ollama
from byenatos_sdk.formats.wire import Reply, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, PermissionDenied
from byenatos_sdk.protocol.messages import EmbeddingResponse, Finish, InferenceResponse, Message, Usage
from http_front.answering import new_id
from http_front.exchange import Request, Response, Stream, json_response, of_wire
from http_front.models import Models
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["Ollama"]

VERSION = "0.12.0"
"""Of Ollama's API: clients look whether it is new enough for what they use."""
KEPT_S = 300


class Ollama:
    """Its handlers."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._models: Models = verbs.models

    def enter(self, routes: Routes) -> None:
        """Enter its paths."""
        routes.claim("/api/", ollama)
        routes.add("POST", "/api/chat", self._infer, ollama)
        routes.add("POST", "/api/generate", self._infer, ollama)
        routes.add("POST", "/api/embed", self._embed, ollama)
        routes.add("POST", "/api/embeddings", self._embed, ollama)
        routes.add("GET", "/api/tags", self._verbs.list(ollama), ollama)
        routes.add("POST", "/api/show", self._show, ollama)
        routes.add("GET", "/api/ps", self._running, ollama)
        routes.add("GET", "/api/version", self._version, ollama)
        routes.add("POST", "/api/pull", self._pull, ollama)
        routes.add("DELETE", "/api/delete", self._delete, ollama)

    async def _infer(self, request: Request) -> Response | Stream:
        decoded = ollama.decode_request(request.wire)
        model = await self._named(decoded.request.model)
        decoded = replace(decoded, request=replace(decoded.request, model=model))
        if decoded.action == "infer":
            return await self._verbs.answering.answer(request, ollama, prefix="", decoded=decoded, timed=True)
        await self._models.find(request.check_model(model), request.client)
        kernel = self._verbs.kernel
        slots = await kernel.slots()
        bound = {slot.name for slot in slots} | {slot.model for slot in slots}
        if model not in bound:  # what is plugged into a slot stays there until it is swapped
            if not request.client.is_admin:
                raise PermissionDenied(f"{decoded.action} {model}: expected a key of role admin")
            await (kernel.load(model) if decoded.action == "load" else kernel.unload(model))
        reply = Reply(new_id(""), decoded.request.model, int(time.time()), decoded)
        finish = Finish("stop", Usage(None, None), model, decoded.action)
        if not decoded.stream:
            response = InferenceResponse(Message("assistant", ()), "stop", finish.usage, model, detail=finish.detail)
            return of_wire(ollama.encode_response(response, reply))
        encoder = ollama.stream_encoder(reply)
        return Stream(_once(encoder.encode([finish])), encoder.content_type)

    async def _embed(self, request: Request) -> Response:
        asked = ollama.decode_embedding_request(request.wire)
        model = request.check_model(request.headers.get("x-byenatos-slot") or await self._named(asked.model))
        reply = Reply(new_id(""), asked.model, int(time.time()), asked_s=time.monotonic())
        if asked.inputs:
            kernel = self._verbs.kernel
            made = await kernel.embed(asked.inputs, model=model, dimensions=asked.dimensions, extra=asked.extra)
        else:  # there is nothing to do, unless the model is not there
            made = EmbeddingResponse((), (await self._models.find(model, request.client)).id)
        return of_wire(ollama.encode_embedding_response(made, reply, request.wire))

    async def _named(self, model: str) -> str:
        """Return the name that is known here: clients add ``:latest`` to what has no tag."""
        known = {one.id for one in await self._models.listed()}
        bare = model.removesuffix(":latest")
        return bare if model not in known and bare in known else model

    async def _show(self, request: Request) -> Response:
        name = await self._named(ollama.decode_show_request(request.wire))
        found = await self._models.find(name, request.client)
        return of_wire(ollama.encode_show(found, int(time.time())))

    async def _running(self, request: Request) -> Response:
        status = await self._verbs.kernel.status()
        loaded = {one.model for one in status.instances}
        loaded |= {slot.name for slot in status.slots if slot.model in loaded}
        listed = [one for one in await self._models.listed(request.client) if one.id in loaded]
        now = int(time.time())
        return of_wire(ollama.encode_running(listed, now, now + KEPT_S))

    async def _version(self, _: Request) -> Response:
        return of_wire(ollama.encode_version(VERSION))

    async def _pull(self, request: Request) -> Response | Stream:
        asked = read_object(request.body)
        name = _model(request)
        try:
            await self._models.find(await self._named(name), request.client)
        except NotFound:
            raise NotFound(f"pull model {name!r}: nothing is fetched from here; use `byenatos models pull`") from None
        if asked.get("stream") is False:
            return json_response({"status": "success"})
        return Stream(_once(b'{"status":"success"}\n'), "application/x-ndjson")

    async def _delete(self, request: Request) -> Response:
        found = await self._models.find(await self._named(_model(request)), request.client)
        raise PermissionDenied(
            f"delete {found.id}: no file is touched from here; remove it from the "
            "models folder, or the plugin that declares it"
        )


def _model(request: Request) -> str:
    """Return the model that an order is about."""
    asked = read_object(request.body)
    name = asked.get("model") or asked.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("model: expected a name, found none")
    return name


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
