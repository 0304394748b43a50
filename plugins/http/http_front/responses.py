"""OpenAI's Responses, with the state that this API leaves to the server: each answer can be gone on from by its id."""

from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from byenatos_sdk.formats import openai_responses
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.ndjson import in_lines
from byenatos_sdk.formats.wire import json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unsupported
from byenatos_sdk.protocol.messages import InferenceResponse
from http_front.exchange import Request, Response, Stream, json_response, of_wire
from http_front.items import item_page, items_of
from http_front.kept import Keeper
from http_front.kept_conversations import ConversationKeeper
from http_front.metadata import read_metadata
from http_front.references import References, listed
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["Responses"]

_STATE = frozenset({"conversation", "previous_response_id", "store"})
"""What is between the client and this server, and no vendor's business."""
_REFUSED = {
    "background": "expected false, for an answer is made while its client waits for it",
    "prompt": "expected none, for no prompts are kept here; send the text itself in instructions and input",
}


class _Asked(NamedTuple):
    """A request's body with what came before in its ``input``; what it adds, and to which conversation, if any."""

    body: dict[str, Any]
    added: list[dict[str, Any]]
    conversation: str


class Responses:
    """Its handlers."""

    def __init__(self, verbs: Verbs) -> None:
        self._answering = verbs.answering
        self._keeper = Keeper(verbs.kernel, openai_responses.NAME)
        self._conversations = ConversationKeeper(verbs.kernel)
        self._references = References(self._keeper)

    def enter(self, routes: Routes) -> None:
        """Enter its paths, at OpenAI's addresses and at Azure's."""
        for root in ("/v1/responses", "/openai/v1/responses", "/openai/responses"):
            routes.add("POST", root, self._create, openai_responses)
            routes.add("POST", f"{root}/input_tokens", self._count, openai_responses)
            routes.add("POST", f"{root}/compact", self._compact, openai_responses)
            routes.add("GET", f"{root}/{{id}}", self._show, openai_responses)
            routes.add("DELETE", f"{root}/{{id}}", self._delete, openai_responses)
            routes.add("POST", f"{root}/{{id}}/cancel", self._cancel, openai_responses)
            routes.add("GET", f"{root}/{{id}}/input_items", self._items, openai_responses)

    async def _create(self, request: Request) -> Response | Stream:
        asked = await self._read(request)
        decoded = openai_responses.decode_request(replace(request.wire, body=json_body(asked.body)))
        stored = asked.body.get("store") is not False
        again = decoded.request.extra | {"store": stored}
        if asked.conversation:
            again["conversation"] = {"id": asked.conversation}
        said = replace(decoded.request, extra=again)
        extra = {name: value for name, value in decoded.request.extra.items() if name not in _STATE}
        decoded = replace(decoded, request=replace(decoded.request, extra=extra))

        async def keep(response: InferenceResponse, answer: bytes) -> None:
            owner = request.client.name
            if stored:
                await self._keeper.keep(decoded.request, asked.body, response, answer, owner)
            if asked.conversation:
                items = [*asked.added, *msgspec.json.decode(answer)["output"]]
                with suppress(NotFound):  # who forgot it meanwhile wants it no more, and whoever asked wants the answer
                    await self._conversations.add(asked.conversation, owner, items, slot=decoded.request.model)

        kept = keep if stored or asked.conversation else None
        return await self._answering.answer(
            request, openai_responses, prefix="resp_", decoded=decoded, said=said, keep=kept
        )

    async def _count(self, request: Request) -> Response:
        body = (await self._read(request)).body
        asked = openai_responses.decode_count_request(replace(request.wire, body=json_body(body)))
        counted = await self._answering.kernel.count_tokens(self._answering.shaped(request, asked))
        return of_wire(openai_responses.encode_count(counted))

    async def _compact(self, _: Request) -> Response:
        raise Unsupported(
            "compact: what a model said cannot be made into less here without losing some of it; "
            "ask for a summary by a request of its own, and go on from that"
        )

    async def _show(self, request: Request) -> Response:
        answer = (await self._keeper.find(request.parameters["id"], request.client.name)).answer
        if request.query.get("stream") != "true":
            return json_response(answer)
        after = request.query.get("starting_after", "-1")
        if not after.removeprefix("-").isdecimal():
            raise InvalidRequest(f"starting_after: expected the number of an event, found {after[:20]!r}")
        return Response(in_lines(openai_responses.encode_replay(answer, int(after[:9]))), 200, "text/event-stream")

    async def _delete(self, request: Request) -> Response:
        name = request.parameters["id"]
        await self._keeper.forget(name, request.client.name)
        return json_response({"id": name, "object": "response", "deleted": True})

    async def _cancel(self, request: Request) -> Response:
        await self._keeper.find(request.parameters["id"], request.client.name)
        raise InvalidRequest("expected an answer that is made in the background, found one that is whole already")

    async def _items(self, request: Request) -> Response:
        """List the whole conversation before an answer."""
        name = request.parameters["id"]
        kept = await self._keeper.find(name, request.client.name)
        return json_response(item_page(listed(kept.request["input"], name.removeprefix("resp_")), request.query))

    async def _read(self, request: Request) -> _Asked:
        """Read the body, and what it goes on from.

        Raises:
            InvalidRequest: it goes on from two things at once.
            NotFound: what it goes on from is not kept here.
            Unsupported: it asks for state of another kind.
        """
        body = dict(read_object(request.body))
        for name, why in _REFUSED.items():
            if body.get(name):
                raise Unsupported(f"{name}: {why}")
        fields = Fields(body)
        read_metadata(fields)
        given = body.get("input")
        added = items_of(given) if isinstance(given, str) else fields.items("input")
        owner = request.client.name
        previous, conversation = fields.text("previous_response_id"), _conversation(fields)
        before: list[dict[str, Any]] = []
        if conversation:
            if previous is not None:
                raise InvalidRequest("previous_response_id: expected none beside a conversation, found one")
            before += (await self._conversations.find(conversation, owner)).items
        elif previous is not None:
            kept = await self._keeper.find(previous, owner)
            before += [*listed(kept.request["input"], previous.removeprefix("resp_")), *kept.answer["output"]]
        added = await self._references.resolve(added, before, owner)
        return _Asked(body | {"input": [*before, *added]}, added, conversation)


def _conversation(fields: Fields) -> str:
    """Return the id of the conversation that a request belongs to: given by itself, or in an object."""
    if isinstance(fields.get("conversation"), dict):
        return fields.need_inner("conversation").need_text("id")
    return fields.text("conversation") or ""
