"""OpenAI's API, and the lists of models, which three vendors have at the same address."""

import time

from byenatos_sdk.formats import anthropic_messages, gemini, openai_chat
from byenatos_sdk.formats.compatibility import CompatibilityLayer
from http_front.completions import Completions
from http_front.exchange import Request, Response, of_wire
from http_front.pages import page_of
from http_front.routes import Routes
from http_front.verbs import Verbs

__all__ = ["OpenAI"]


class OpenAI:
    """Chat, completions, embeddings, models."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._formats = CompatibilityLayer()

    def enter(self, routes: Routes) -> None:
        """Enter its paths, those of Azure's addresses too, where the model stands in the path."""
        chat, completions = self._verbs.infer(openai_chat, "chatcmpl-"), Completions(self._verbs.answering)
        embeddings = self._verbs.embed(openai_chat)
        for root in ("/v1", "/openai/v1", "/openai/deployments/{model}"):
            routes.add("POST", f"{root}/chat/completions", chat, openai_chat)
            routes.add("POST", f"{root}/completions", completions, openai_chat)
            routes.add("POST", f"{root}/embeddings", embeddings, openai_chat)
        for root in ("/v1", "/v1beta", "/openai/v1", "/openai"):
            routes.add("GET", f"{root}/models", self._list, None)
            routes.add("GET", f"{root}/models/{{model...}}", self._show, None)

    async def _list(self, request: Request) -> Response:
        models, query, now = await self._verbs.models.listed(request.client), request.query, int(time.time())
        match self._formats.asker(request.wire):
            case "gemini":
                page = page_of(models, query, size="pageSize", after="pageToken")
                return of_wire(gemini.encode_models(page.models, now, more=page.more))
            case "anthropic_messages":
                page = page_of(models, query, size="limit", after="after_id", before="before_id")
                return of_wire(anthropic_messages.encode_models(page.models, now, more=page.more))
            case _:
                return of_wire(openai_chat.encode_models(models, now))

    async def _show(self, request: Request) -> Response:
        found = await self._verbs.models.find(request.parameters["model"], request.client)
        match self._formats.asker(request.wire):
            case "gemini":
                return of_wire(gemini.encode_model(found, int(time.time())))
            case "anthropic_messages":
                return of_wire(anthropic_messages.encode_model(found, int(time.time())))
            case _:
                return of_wire(openai_chat.encode_model(found, int(time.time())))
