"""OpenAI's conversations: what is said is kept here, item by item, and answered under the conversation's id."""

import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats import openai_responses
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.wire import read_object
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound
from http_front.answering import new_id
from http_front.exchange import Request, Response, json_response
from http_front.items import item_page
from http_front.kept_conversations import Conversation, ConversationKeeper
from http_front.metadata import read_metadata
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["Conversations"]

_MOST_AT_ONCE = 20


class Conversations:
    """Its handlers."""

    def __init__(self, verbs: Verbs) -> None:
        self._keeper = ConversationKeeper(verbs.kernel)

    def enter(self, routes: Routes) -> None:
        """Enter its paths, at OpenAI's addresses and at Azure's."""
        for root in ("/v1/conversations", "/openai/v1/conversations", "/openai/conversations"):
            one, item = f"{root}/{{id}}", f"{root}/{{id}}/items/{{item}}"
            for method, path, handler in (
                ("POST", root, self._create),
                ("GET", one, self._show),
                ("POST", one, self._update),
                ("DELETE", one, self._delete),
                ("POST", f"{one}/items", self._add),
                ("GET", f"{one}/items", self._list),
                ("GET", item, self._show_item),
                ("DELETE", item, self._delete_item),
            ):
                routes.add(method, path, handler, openai_responses)

    async def _create(self, request: Request) -> Response:
        fields = Fields(read_object(request.body) if request.body else {})
        empty = Conversation(new_id("conv_"), request.client.name, int(time.time()), read_metadata(fields))
        made = empty.with_items(_added(fields))
        await self._keeper.begin(made)
        return json_response(_shown(made))

    async def _show(self, request: Request) -> Response:
        return json_response(_shown(await self._found(request)))

    async def _update(self, request: Request) -> Response:
        metadata = read_metadata(Fields(read_object(request.body)))
        return await self._changed(request, lambda found: replace(found, metadata=metadata))

    async def _delete(self, request: Request) -> Response:
        name = request.parameters["id"]
        await self._keeper.forget(name, request.client.name)
        return json_response({"id": name, "object": "conversation.deleted", "deleted": True})

    async def _add(self, request: Request) -> Response:
        fields = Fields(read_object(request.body))
        added = _added(fields)
        if not added:
            raise fields.wrong("items", "at least one item")
        changed = await self._keeper.add(request.parameters["id"], request.client.name, added)
        new = changed.items[len(changed.items) - len(added) :]
        return json_response(item_page(new, {"order": "asc"}))

    async def _list(self, request: Request) -> Response:
        return json_response(item_page((await self._found(request)).items, request.query))

    async def _show_item(self, request: Request) -> Response:
        name = request.parameters["item"]
        for item in (await self._found(request)).items:
            if item["id"] == name:
                return json_response(item)
        raise _no_item(name)

    async def _delete_item(self, request: Request) -> Response:
        name = request.parameters["item"]

        def without(found: Conversation) -> Conversation:
            left = tuple(item for item in found.items if item["id"] != name)
            if len(left) == len(found.items):
                raise _no_item(name)
            return replace(found, items=left)

        return await self._changed(request, without)

    async def _changed(self, request: Request, change: Callable[[Conversation], Conversation]) -> Response:
        return json_response(_shown(await self._keeper.change(request.parameters["id"], request.client.name, change)))

    async def _found(self, request: Request) -> Conversation:
        return await self._keeper.find(request.parameters["id"], request.client.name)


def _no_item(id: str) -> NotFound:
    return NotFound(f"item {id[:80]!r} is not in this conversation")


def _added(fields: Fields) -> list[dict[str, Any]]:
    """Return the items that a request brings.

    Raises:
        InvalidRequest: one is wrong, or there are more than may come at once.
    """
    items = fields.objects("items")
    if len(items) > _MOST_AT_ONCE:
        raise InvalidRequest(f"items: expected at most {_MOST_AT_ONCE} at a time, found {len(items)}")
    openai_responses.read_items(items)
    return [dict(item.values) for item in items]


def _shown(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }
