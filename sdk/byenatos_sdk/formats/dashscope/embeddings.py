"""Text embeddings, both ways. Vectors come in any order: ``text_index`` says whose they are."""

from typing import Any

from byenatos_sdk.formats.dashscope.errors import decode_error
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import EmbeddingRequest, EmbeddingResponse, Usage

__all__ = [
    "decode_embedding_request",
    "decode_embedding_response",
    "encode_embedding_request",
    "encode_embedding_response",
]

_PATH = "/services/embeddings/text-embedding/text-embedding"
_EXTRA = ("text_type", "output_type", "instruct")


def encode_embedding_request(request: EmbeddingRequest) -> WireRequest:
    """Write a request for vectors."""
    parameters: dict[str, Any] = {name: request.extra[name] for name in _EXTRA if name in request.extra}
    if request.dimensions is not None:
        parameters["dimension"] = request.dimensions
    body = {"model": request.model, "input": {"texts": list(request.inputs)}, "parameters": parameters}
    return WireRequest(_PATH, json_body(body), {"content-type": "application/json"})


def decode_embedding_request(wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request for vectors.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    body = Fields(read_object(wire.body))
    texts = body.need_inner("input").texts("texts")
    if not texts:
        raise body.need_inner("input").wrong("texts", "at least one text")
    parameters = body.inner("parameters") or Fields({}, "parameters")
    extra = {name: parameters.values[name] for name in _EXTRA if name in parameters}
    return EmbeddingRequest(texts, body.need_text("model"), parameters.whole("dimension"), extra)


def decode_embedding_response(wire: WireResponse) -> EmbeddingResponse:
    """Read vectors into the order of the texts.

    Raises:
        ByenatosError: the body is an error, or holds no vectors.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        body = Fields(read_object(wire.body, "answer"))
    except InvalidRequest as error:
        raise UpstreamFailed(error.message, vendor_status=wire.status) from None
    if body.get("code") and "output" not in body:
        raise decode_error(wire)
    try:
        vectors: dict[int, tuple[float, ...]] = {}
        for at, one in enumerate(body.need_inner("output").objects("embeddings")):
            index = one.whole("text_index")
            numbers = one.items("embedding")
            if not numbers or not all(isinstance(number, int | float) for number in numbers):
                raise one.wrong("embedding", "a list of numbers (of a sparse vector alone there is none)")
            vectors[at if index is None else index] = tuple(float(number) for number in numbers)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None
    usage = body.mapping("usage") or {}
    tokens = count(usage.get("total_tokens"))
    return EmbeddingResponse(
        tuple(vectors[at] for at in sorted(vectors)), str(body.get("model") or ""), Usage(tokens, 0)
    )


def encode_embedding_response(
    response: EmbeddingResponse,
    reply: Reply,
    asked: WireRequest,  # noqa: ARG001 - there is one form only
) -> WireResponse:
    """Write vectors."""
    embeddings = [{"text_index": at, "embedding": vector} for at, vector in enumerate(response.vectors)]
    usage = {} if response.usage.input_tokens is None else {"total_tokens": response.usage.input_tokens}
    body = {"output": {"embeddings": embeddings}, "usage": usage, "request_id": reply.id}
    return WireResponse(json_body(body), 200, {"content-type": "application/json"})
