"""The vendors' APIs: the same few verbs, each said in its vendor's shape by its format."""

import time

from byenatos_sdk.formats import anthropic_messages, openai_chat
from byenatos_sdk.formats.contract import EmbeddingFormat, ModelListFormat
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.messages import EmbeddingResponse
from http_front.answering import Answering, new_id
from http_front.exchange import Request, Response, Stream, of_wire
from http_front.models import Models
from http_front.routes import Routes

__all__ = ["Vendors"]


class Vendors:
    """Handlers of all vendors' APIs."""

    def __init__(self, answering: Answering, models: Models) -> None:
        self._answering = answering
        self._models = models
        self._kernel = answering.kernel

    def enter(self, routes: Routes) -> None:
        """Enter every path."""
        routes.add("POST", "/v1/chat/completions", self._chat, openai_chat)
        routes.add("POST", "/v1/completions", self._completion, openai_chat)
        routes.add("POST", "/v1/embeddings", self._embeddings, openai_chat)
        routes.add("POST", "/v1/messages", self._messages, anthropic_messages)
        routes.add("POST", "/v1/messages/count_tokens", self._count_messages, anthropic_messages)
        routes.add("GET", "/v1/models", self._list, openai_chat)
        routes.add("GET", "/v1/models/{model...}", self._show, openai_chat)

    # ---- OpenAI --------------------------------------------------------------------------------------------------

    async def _chat(self, request: Request) -> Response | Stream:
        return await self._answering.answer(request, openai_chat, prefix="chatcmpl-")

    async def _completion(self, request: Request) -> Response | Stream:
        return await self._answering.answer(request, openai_chat, prefix="cmpl-")

    async def _embeddings(self, request: Request) -> Response:
        return await self.embed(request, openai_chat)

    async def embed(self, request: Request, format: EmbeddingFormat) -> Response:
        """Answer a request for vectors in a format that has them."""
        asked = format.decode_embedding_request(request.wire)
        model = request.headers.get("x-byenatos-slot") or asked.model
        made = await self._kernel.embed(asked.inputs, model=model, dimensions=asked.dimensions, extra=asked.extra)
        reply = Reply(new_id("embd-"), model, int(time.time()))
        answer = EmbeddingResponse(made.vectors, model, made.usage)
        return of_wire(format.encode_embedding_response(answer, reply, request.wire))

    async def _list(self, request: Request) -> Response:
        listed = await self._models.listed()
        return of_wire(_lister(request).encode_models(listed, int(time.time())))

    async def _show(self, request: Request) -> Response:
        found = await self._models.find(request.parameters["model"])
        return of_wire(openai_chat.encode_model(found, int(time.time())))

    # ---- Anthropic -----------------------------------------------------------------------------------------------

    async def _messages(self, request: Request) -> Response | Stream:
        return await self._answering.answer(request, anthropic_messages, prefix="msg_")

    async def _count_messages(self, request: Request) -> Response:
        asked = anthropic_messages.decode_count_request(request.wire)
        count = await self._kernel.count_tokens(self._answering.shaped(request, asked))
        return of_wire(anthropic_messages.encode_count(count))


def _lister(request: Request) -> ModelListFormat:
    """Tell who asks for a list of models: several vendors have it at the same address."""
    return anthropic_messages if "anthropic-version" in request.headers else openai_chat
