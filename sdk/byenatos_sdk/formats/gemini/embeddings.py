"""Embeddings: ``:batchEmbedContents`` (many texts) and ``:embedContent`` (one), both ways."""

from typing import Any

import msgspec

from byenatos_sdk.formats.extras import extras_for, kept
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.gemini.models import read_answer
from byenatos_sdk.formats.gemini.names import model_path, read_fields, target_of
from byenatos_sdk.formats.gemini.shapes import JSON, NAME, Embeddings
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import EmbeddingRequest, EmbeddingResponse, Usage

__all__ = [
    "decode_embedding_request",
    "decode_embedding_response",
    "encode_embedding_request",
    "encode_embedding_response",
]

_embeddings = msgspec.json.Decoder(Embeddings)
_TOP = ("taskType", "title")


def encode_embedding_request(request: EmbeddingRequest) -> WireRequest:
    """Write a request for ``:batchEmbedContents``."""
    name = model_path(request.model)
    own = extras_for(NAME, request.extra)
    common = {key: own[key] for key in _TOP if key in own}
    if request.dimensions is not None:
        common["outputDimensionality"] = request.dimensions
    asked = [{"model": name, "content": {"parts": [{"text": text}]}} | common for text in request.inputs]
    return WireRequest(f"/v1beta/{name}:batchEmbedContents", json_body({"requests": asked}), dict(JSON))


def decode_embedding_request(wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request to either path. What one text asks for (task, dimensions) holds for all of them.

    Raises:
        InvalidRequest: the request is wrong, or its texts ask for different things.
    """
    target = target_of(wire.path)
    fields = read_fields(wire.body)
    asked = fields.objects("requests") if target.verb == "batchEmbedContents" else [fields]
    inputs = tuple(_text(one) for one in asked)
    common = {(one.whole("outputDimensionality"), *(one.text(key) for key in _TOP)) for one in asked}
    if len(common) > 1:
        raise InvalidRequest("requests: expected the same taskType, title and outputDimensionality in each")
    dimensions, *own = next(iter(common), (None, None, None))
    assert dimensions is None or isinstance(dimensions, int)
    return EmbeddingRequest(inputs, target.model, dimensions, kept(NAME, dict(zip(_TOP, own, strict=True))))


def _text(asked: Fields) -> str:
    parts = asked.need_inner("content").objects("parts")
    if not parts:
        raise InvalidRequest(f"{asked.name('content.parts')}: expected at least one, found none")
    return "".join(part.need_text("text") for part in parts)


def decode_embedding_response(wire: WireResponse) -> EmbeddingResponse:
    """Read the answer of either path.

    Raises:
        ByenatosError: the body is an error, or holds no vectors.
    """
    read = read_answer(_embeddings, wire)
    found = read.embeddings if read.embedding is None else [read.embedding]
    if found is None:
        raise UpstreamFailed("answer: expected embeddings or embedding, found neither", vendor_status=wire.status)
    read_tokens = None if read.usage_metadata is None else read.usage_metadata.prompt_token_count
    return EmbeddingResponse(tuple(tuple(one.values) for one in found), "", Usage(read_tokens, 0))


def encode_embedding_response(
    response: EmbeddingResponse,
    reply: Reply,  # noqa: ARG001  # the answer names no model
    asked: WireRequest,
) -> WireResponse:
    """Write vectors in the form of the path that was asked."""
    vectors = [{"values": vector} for vector in response.vectors]
    single = target_of(asked.path).verb == "embedContent"
    body: dict[str, Any] = {"embedding": vectors[0]} if single and vectors else {"embeddings": vectors}
    if response.usage.input_tokens is not None:
        body["usageMetadata"] = {"promptTokenCount": response.usage.input_tokens}
    return WireResponse(json_body(body), 200, dict(JSON))
