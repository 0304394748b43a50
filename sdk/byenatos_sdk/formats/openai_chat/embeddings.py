"""Embeddings: as lists of numbers, or as little-endian 32-bit floats in base64, which OpenAI's client asks for."""

import base64
import binascii
import struct
from typing import Any

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.openai_chat.usage import count, read_usage
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body, read_object
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import EmbeddingRequest, EmbeddingResponse, Usage

__all__ = [
    "decode_embedding_request",
    "decode_embedding_response",
    "encode_embedding_request",
    "encode_embedding_response",
]

_EXTRA = ("user", "input_type", "truncate", "truncate_prompt_tokens", "priority", "add_special_tokens")


def encode_embedding_request(profile: Profile, request: EmbeddingRequest) -> WireRequest:
    """Write a request for numbers."""
    body: dict[str, Any] = {name: value for name, value in request.extra.items() if name in _EXTRA}
    body |= {"model": request.model, "input": list(request.inputs), "encoding_format": "float"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return WireRequest(f"{profile.root}/embeddings", json_body(body), {"content-type": "application/json"})


def decode_embedding_request(_profile: Profile, wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request.

    Raises:
        InvalidRequest: something in it is wrong, or the inputs are ids of tokens, which mean nothing to other models.
    """
    fields = Fields(read_object(wire.body))
    try:
        inputs = fields.texts("input")
    except InvalidRequest:
        raise fields.wrong("input", "a text or a list of texts (no ids of tokens)") from None
    if not inputs:
        raise fields.wrong("input", "at least one text")
    if fields.text("encoding_format") not in {None, "float", "base64"}:
        raise fields.wrong("encoding_format", "float or base64")
    extra = {name: fields.get(name) for name in _EXTRA if name in fields}
    return EmbeddingRequest(inputs, fields.text("model") or "default", fields.whole("dimensions"), extra)


def _vector(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UpstreamFailed(f"embedding: expected base64, found: {error}") from None
        if len(data) % 4:
            raise UpstreamFailed(f"embedding: expected 32-bit floats, found {len(data)} bytes")
        return struct.unpack(f"<{len(data) // 4}f", data)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):  # llama.cpp's own endpoint
        value = value[0]
    if not isinstance(value, list) or not all(isinstance(one, int | float) for one in value):
        raise UpstreamFailed(f"embedding: expected a list of numbers, found {type(value).__name__}")
    return tuple(float(one) for one in value)


def decode_embedding_response(profile: Profile, wire: WireResponse) -> EmbeddingResponse:
    """Read vectors, in the order of their indices.

    Raises:
        ByenatosError: the body is an error (whatever its status), or holds no vectors.
    """
    body = read_body(profile, wire)
    data = body.get("data") if isinstance(body, dict) else body
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise found_error(profile, wire, body)
    ordered = sorted(enumerate(data), key=lambda pair: _index(pair[1], pair[0]))
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = read_usage(usage)
    if counts is None:
        read = count(usage.get("total_tokens")) if isinstance(usage, dict) else None
        counts = Usage(read, None)
    model = body.get("model") if isinstance(body, dict) else None
    return EmbeddingResponse(
        tuple(_vector(one.get("embedding")) for _, one in ordered), model if isinstance(model, str) else "", counts
    )


def _index(one: dict[str, Any], position: int) -> int:
    index = one.get("index")
    return index if isinstance(index, int) else position


def encode_embedding_response(
    _profile: Profile, response: EmbeddingResponse, reply: Reply, asked: WireRequest
) -> WireResponse:
    """Write vectors in the encoding that the client asked for."""
    packed = Fields(read_object(asked.body)).get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(vector) if packed else vector}
        for at, vector in enumerate(response.vectors)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": reply.model}
    read = response.usage.input_tokens
    if read is not None:
        body["usage"] = {"prompt_tokens": read, "total_tokens": read}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
