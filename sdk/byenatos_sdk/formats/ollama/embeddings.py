"""Embeddings: ``/api/embed`` (many texts) and the older ``/api/embeddings`` (one), both ways."""

from typing import Any

import msgspec

from byenatos_sdk.formats.ollama.requests import OPTIONS
from byenatos_sdk.formats.ollama.responses import JSON, decode_error, durations
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import EmbeddingRequest, EmbeddingResponse, Usage

__all__ = [
    "decode_embedding_request",
    "decode_embedding_response",
    "encode_embedding_request",
    "encode_embedding_response",
]

_TOP = ("keep_alive", "truncate")
_TIMES = frozenset({"total_duration", "load_duration"})


class _Request(msgspec.Struct):
    model: str | None = None
    input: str | list[str] | None = None
    prompt: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: int | float | str | None = None
    options: dict[str, Any] | None = None


class _Response(msgspec.Struct):
    model: str | None = None
    embeddings: list[list[float]] | None = None
    embedding: list[float] | None = None
    prompt_eval_count: int | None = None
    error: Any = None


_requests = msgspec.json.Decoder(_Request)
_responses = msgspec.json.Decoder(_Response)


def _legacy(wire: WireRequest) -> bool:
    return wire.path.partition("?")[0].rstrip("/").endswith("/embeddings")


def encode_embedding_request(request: EmbeddingRequest) -> WireRequest:
    """Write a request for ``/api/embed``."""
    body: dict[str, Any] = {"model": request.model, "input": list(request.inputs)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    body |= {name: request.extra[name] for name in _TOP if name in request.extra}
    options = {name: value for name, value in request.extra.items() if name in OPTIONS}
    if options:
        body["options"] = options
    return WireRequest("/api/embed", json_body(body), {"content-type": "application/json"})


def decode_embedding_request(wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request to ``/api/embed`` or ``/api/embeddings``.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    read = read_as(_requests, wire.body)
    if not read.model:
        raise InvalidRequest("model: expected a model's name, found none")
    texts = read.prompt if _legacy(wire) else read.input
    inputs = (texts,) if isinstance(texts, str) else tuple(texts or ())
    extra: dict[str, Any] = {name: getattr(read, name) for name in _TOP if getattr(read, name) is not None}
    extra |= {name: value for name, value in (read.options or {}).items() if name in OPTIONS and value is not None}
    return EmbeddingRequest(inputs, read.model, read.dimensions, extra)


def decode_embedding_response(wire: WireResponse) -> EmbeddingResponse:
    """Read the answer of either path.

    Raises:
        ByenatosError: the body is an error, or holds no vectors.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        read = read_as(_responses, wire.body)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None
    if read.error is not None:
        raise decode_error(wire)
    vectors = read.embeddings if read.embedding is None else [read.embedding]
    if vectors is None:
        raise UpstreamFailed("answer: expected embeddings or embedding, found neither", vendor_status=wire.status)
    return EmbeddingResponse(
        tuple(tuple(vector) for vector in vectors), read.model or "", Usage(read.prompt_eval_count, 0)
    )


def encode_embedding_response(response: EmbeddingResponse, reply: Reply, asked: WireRequest) -> WireResponse:
    """Write vectors in the form of the path that was asked."""
    if _legacy(asked):
        body: dict[str, Any] = {"embedding": response.vectors[0] if response.vectors else ()}
        return WireResponse(json_body(body), 200, dict(JSON))
    body = {"model": reply.model, "embeddings": response.vectors}
    if response.usage.input_tokens is not None:
        body["prompt_eval_count"] = response.usage.input_tokens
    body |= {name: took for name, took in durations(reply.asked_s, 0.0).items() if name in _TIMES}
    return WireResponse(json_body(body), 200, dict(JSON))
