"""Anthropic's API, with its threads: a client goes on from an answer by its id instead of sending everything again."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats import anthropic_messages
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.wire import json_body, read_object
from byenatos_sdk.protocol.errors import NotFound
from byenatos_sdk.protocol.messages import InferenceResponse
from http_front.exchange import Request, Response, Stream
from http_front.kept import Keeper
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["Anthropic"]

_OF_ONE_TURN = frozenset({"stream", "thread"})


class Anthropic:
    """Its handlers; the list of models is OpenAI's too."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._infer = verbs.infer(anthropic_messages, "msg_")
        self._keeper = Keeper(verbs.kernel, anthropic_messages.NAME)

    def enter(self, routes: Routes) -> None:
        """Enter its paths."""
        routes.add("POST", "/v1/messages", self._create, anthropic_messages)
        routes.add("POST", "/v1/messages/count_tokens", self._verbs.count(anthropic_messages), anthropic_messages)

    async def _create(self, request: Request) -> Response | Stream:
        if b'"thread"' not in request.body:
            return await self._infer(request)
        body = read_object(request.body)
        thread = Fields(body).inner("thread")
        if thread is None:
            return await self._infer(request)
        kind = thread.need_text("type")
        if kind == "continue":
            body = await self._continued(body, thread.need_text("previous_message_id"), request.client.name)
        elif kind != "create":
            raise thread.wrong("type", "create or continue")
        whole = {name: value for name, value in body.items() if name not in _OF_ONE_TURN}
        decoded = anthropic_messages.decode_request(replace(request.wire, body=json_body(body)))

        async def keep(response: InferenceResponse, answer: bytes) -> None:
            await self._keeper.keep(decoded.request, whole, response, answer, request.client.name)

        return await self._verbs.answering.answer(
            request, anthropic_messages, prefix="msg_", decoded=decoded, keep=keep
        )

    async def _continued(self, body: Mapping[str, Any], previous: str, owner: str) -> dict[str, Any]:
        """Return a request that goes on from an answer as the client would have sent it without a thread.

        Raises:
            NotFound: that answer is not kept here; clients then send everything.
        """
        try:
            kept = await self._keeper.find(previous, owner)
        except NotFound as error:
            raise NotFound(f"thread.previous_message_id: {error.message}", vendor_code="thread_not_found") from None
        said = [{"role": "assistant", "content": kept.answer["content"]}] if kept.answer["content"] else []
        messages = [*kept.request["messages"], *said, *Fields(body).items("messages")]
        return {**kept.request, **body, "messages": messages}
