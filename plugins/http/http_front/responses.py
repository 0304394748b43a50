"""OpenAI's Responses, with the state that this API leaves to the server: each answer can be gone on from by its id."""

from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats import openai_responses
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.wire import json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, Unsupported
from byenatos_sdk.protocol.messages import InferenceResponse
from http_front.exchange import Request, Response, Stream, json_response, of_wire
from http_front.kept import Keeper
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["Responses"]

_STATE = frozenset({"previous_response_id", "store"})
"""What is between the client and this server, and no vendor's business."""
_MOST_ITEMS = 100
_USUAL_ITEMS = 20


class Responses:
    """Its handlers."""

    def __init__(self, verbs: Verbs) -> None:
        self._answering = verbs.answering
        self._keeper = Keeper(verbs.kernel, openai_responses.NAME)

    def enter(self, routes: Routes) -> None:
        """Enter its paths, at OpenAI's addresses and at Azure's."""
        for root in ("/v1/responses", "/openai/v1/responses"):
            routes.add("POST", root, self._create, openai_responses)
            routes.add("POST", f"{root}/input_tokens", self._count, openai_responses)
            routes.add("GET", f"{root}/{{id}}", self._show, openai_responses)
            routes.add("DELETE", f"{root}/{{id}}", self._delete, openai_responses)
            routes.add("POST", f"{root}/{{id}}/cancel", self._cancel, openai_responses)
            routes.add("GET", f"{root}/{{id}}/input_items", self._items, openai_responses)

    async def _create(self, request: Request) -> Response | Stream:
        body = await self._conversation(request)
        decoded = openai_responses.decode_request(replace(request.wire, body=json_body(body)))
        stored = body.get("store") is not False
        said = replace(decoded.request, extra=decoded.request.extra | {"store": stored})
        extra = {name: value for name, value in decoded.request.extra.items() if name not in _STATE}
        decoded = replace(decoded, request=replace(decoded.request, extra=extra))

        async def keep(response: InferenceResponse, answer: bytes) -> None:
            await self._keeper.keep(decoded.request, body, response, answer, request.client.name)

        return await self._answering.answer(
            request, openai_responses, prefix="resp_", decoded=decoded, said=said, keep=keep if stored else None
        )

    async def _count(self, request: Request) -> Response:
        body = await self._conversation(request)
        asked = openai_responses.decode_count_request(replace(request.wire, body=json_body(body)))
        counted = await self._answering.kernel.count_tokens(self._answering.shaped(request, asked))
        return of_wire(openai_responses.encode_count(counted))

    async def _show(self, request: Request) -> Response:
        if request.query.get("stream") == "true":
            raise Unsupported("stream: a stream is not kept, only its answer; leave it out")
        return json_response((await self._keeper.find(request.parameters["id"], request.client.name)).answer)

    async def _delete(self, request: Request) -> Response:
        name = request.parameters["id"]
        await self._keeper.forget(name, request.client.name)
        return json_response({"id": name, "object": "response", "deleted": True})

    async def _cancel(self, request: Request) -> Response:
        await self._keeper.find(request.parameters["id"], request.client.name)
        raise InvalidRequest("expected an answer that is made in the background, found one that is whole already")

    async def _items(self, request: Request) -> Response:
        """List the whole conversation before an answer, the latest first unless it is asked otherwise."""
        query = request.query
        name = request.parameters["id"]
        kept = await self._keeper.find(name, request.client.name)
        items = [_named(item, name, at) for at, item in enumerate(kept.request["input"])]
        if query.get("order", "desc") != "asc":
            items.reverse()
        limit = query.get("limit", str(_USUAL_ITEMS))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MOST_ITEMS):
            raise InvalidRequest(f"limit: expected 1 to {_MOST_ITEMS}, found {limit[:20]!r}")
        if after := query.get("after"):
            found = [at for at, item in enumerate(items) if item["id"] == after]
            if not found:
                raise InvalidRequest(f"after: expected the id of one of the items, found {after[:80]!r}")
            items = items[found[0] + 1 :]
        page = items[: int(limit)]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        more = len(items) > len(page)
        return json_response({"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": more})

    async def _conversation(self, request: Request) -> dict[str, Any]:
        """Read the body, with what came before in its ``input``.

        Raises:
            NotFound: that is not kept here.
            Unsupported: it asks for state of another kind.
        """
        body = dict(read_object(request.body))
        for name in ("conversation", "prompt", "background"):
            if body.get(name):
                raise Unsupported(f"{name}: expected none, for this server has no such thing; use previous_response_id")
        fields = Fields(body)
        given = body.get("input")
        items = _items(given) if isinstance(given, str) else fields.items("input")
        previous = fields.text("previous_response_id")
        if previous is None:
            return body | {"input": items}
        kept = await self._keeper.find(previous, request.client.name)
        return body | {"input": [*kept.request["input"], *kept.answer["output"], *items]}


def _items(text: str) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


def _named(item: dict[str, Any], response: str, at: int) -> dict[str, Any]:
    """Return an item as it is listed: with a type and an id, and a message's content in parts."""
    kind = item.get("type") or "message"
    named = {"id": f"item_{response.removeprefix('resp_')}_{at}"} | item | {"type": kind}
    if kind == "message" and isinstance(item.get("content"), str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        named["content"] = [{"type": part, "text": item["content"]}]
    return named
