"""Embeddings (the action ``GetEmbedding``), both ways."""

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.hunyuan.errors import decode_error, envelope_of
from byenatos_sdk.formats.hunyuan.requests import headers
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

MODEL = "hunyuan-embedding"
"""The only model: requests do not name it."""


def encode_embedding_request(request: EmbeddingRequest) -> WireRequest:
    """Write a request for vectors, which have 1024 numbers: there is nothing else to choose."""
    return WireRequest("/", json_body({"InputList": list(request.inputs)}), headers("GetEmbedding"))


def decode_embedding_request(wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request for vectors.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    body = Fields(read_object(wire.body))
    inputs = body.texts("InputList") or body.texts("Input")
    if not inputs:
        raise body.wrong("InputList", "at least one text")
    return EmbeddingRequest(inputs, MODEL)


def decode_embedding_response(wire: WireResponse) -> EmbeddingResponse:
    """Read vectors into the order of the texts.

    Raises:
        ByenatosError: the body is an error, or holds no vectors.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        body = Fields(envelope_of(read_object(wire.body, "answer")), "Response")
    except InvalidRequest as error:
        raise UpstreamFailed(error.message, vendor_status=wire.status) from None
    if "Error" in body:
        raise decode_error(wire)
    try:
        vectors: dict[int, tuple[float, ...]] = {}
        for at, one in enumerate(body.objects("Data")):
            index = one.whole("Index")
            numbers = one.items("Embedding")
            if not all(isinstance(number, int | float) for number in numbers):
                raise one.wrong("Embedding", "a list of numbers")
            vectors[at if index is None else index] = tuple(float(number) for number in numbers)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None
    if not vectors:
        raise UpstreamFailed("answer: expected Response.Data, found none", vendor_status=wire.status)
    usage = body.get("Usage")
    tokens = count(usage.get("PromptTokens")) if isinstance(usage, dict) else None
    return EmbeddingResponse(tuple(vectors[at] for at in sorted(vectors)), MODEL, Usage(tokens, 0))


def encode_embedding_response(
    response: EmbeddingResponse,
    reply: Reply,
    asked: WireRequest,  # noqa: ARG001 - there is one form only
) -> WireResponse:
    """Write vectors."""
    tokens = response.usage.input_tokens
    body = {
        "Data": [
            {"Embedding": vector, "Index": at, "Object": "embedding"} for at, vector in enumerate(response.vectors)
        ],
        "Usage": {} if tokens is None else {"PromptTokens": tokens, "TotalTokens": tokens},
        "RequestId": reply.id,
    }
    return WireResponse(json_body({"Response": body}), 200, {"content-type": "application/json"})
