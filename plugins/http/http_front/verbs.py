"""The few verbs that every vendor's API is made of, each said in a format: handlers for the table of routes."""

import time
from functools import partial

from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.messages import EmbeddingResponse
from http_front.answering import Answering, new_id
from http_front.exchange import Request, Response, of_wire
from http_front.models import Models
from http_front.routes import Handler

__all__ = ["Verbs"]


class Verbs:
    """Makes handlers."""

    def __init__(self, answering: Answering, models: Models) -> None:
        self.answering = answering
        self.models = models
        self.kernel = answering.kernel

    def infer(self, format: Format, prefix: str) -> Handler:
        """Return what answers a request for text; ids begin with ``prefix``."""
        return partial(self.answering.answer, format=format, prefix=prefix)

    def embed(self, format: EmbeddingFormat) -> Handler:
        """Return what answers a request for vectors."""

        async def handle(request: Request) -> Response:
            asked = format.decode_embedding_request(request.wire)
            model = request.check_model(request.headers.get("x-byenatos-slot") or asked.model)
            made = await self.kernel.embed(asked.inputs, model=model, dimensions=asked.dimensions, extra=asked.extra)
            answer = EmbeddingResponse(made.vectors, model, made.usage)
            return of_wire(format.encode_embedding_response(answer, _reply(model), request.wire))

        return handle

    def count(self, format: TokenCountFormat) -> Handler:
        """Return what answers a request for a count of tokens."""

        async def handle(request: Request) -> Response:
            asked = self.answering.shaped(request, format.decode_count_request(request.wire))
            return of_wire(format.encode_count(await self.kernel.count_tokens(asked)))

        return handle

    def list(self, format: ModelListFormat) -> Handler:
        """Return what answers a request for the list of models."""

        async def handle(request: Request) -> Response:
            return of_wire(format.encode_models(await self.models.listed(request.client), int(time.time())))

        return handle


def _reply(model: str) -> Reply:
    return Reply(new_id("embd-"), model, int(time.time()))
