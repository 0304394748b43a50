"""llama.cpp's server: its own ``/completion`` for raw texts, OpenAI's chats with its samplers, and its state.

Its base address is the server's root: ``/v1/chat/completions``, but ``/completion``. A client that comes to
``/v1/completions`` is answered as OpenAI would.

A partial answer that is continued comes back differently (seen with llama.cpp b11549): a stream has the continuation
alone, a whole answer repeats the part that was sent. Whoever lets it continue had better stream.
"""

from msgspec.structs import replace

from byenatos_sdk.formats import contract
from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.llamacpp_server.completion import (
    CompletionEncoder,
    completion_body,
    encode_completion,
    encode_error,
    read_completion,
)
from byenatos_sdk.formats.llamacpp_server.counts import (
    decode_count,
    decode_count_request,
    encode_count,
    encode_count_request,
)
from byenatos_sdk.formats.llamacpp_server.profile import PROFILE
from byenatos_sdk.formats.llamacpp_server.state import (
    Slots,
    decode_props,
    decode_slots,
    encode_props,
    encode_props_request,
    encode_slots,
    encode_slots_request,
)
from byenatos_sdk.formats.openai_chat import Dialect
from byenatos_sdk.formats.openai_chat.own_fields import SAMPLERS
from byenatos_sdk.formats.wire import Decoded, Encoded, Reply, WireRequest, WireResponse, json_body, read_object
from byenatos_sdk.protocol.messages import EmbeddingRequest, EmbeddingResponse, InferenceRequest, InferenceResponse

__all__ = [
    "CAPABILITIES",
    "NAME",
    "PROFILE",
    "Slots",
    "decode_count",
    "decode_count_request",
    "decode_embedding_request",
    "decode_embedding_response",
    "decode_error",
    "decode_models",
    "decode_props",
    "decode_request",
    "decode_response",
    "decode_slots",
    "encode_count",
    "encode_count_request",
    "encode_embedding_request",
    "encode_embedding_response",
    "encode_error",
    "encode_models",
    "encode_models_request",
    "encode_props",
    "encode_props_request",
    "encode_request",
    "encode_response",
    "encode_slots",
    "encode_slots_request",
    "stream_decoder",
    "stream_encoder",
]

_server = Dialect(PROFILE)

NAME = PROFILE.name
CAPABILITIES = PROFILE.capabilities
decode_response = _server.decode_response
decode_error = _server.decode_error
stream_decoder = _server.stream_decoder
encode_embedding_request = _server.encode_embedding_request
decode_embedding_response = _server.decode_embedding_response
encode_models_request = _server.encode_models_request
decode_models = _server.decode_models
encode_models = _server.encode_models


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    """Write a request: a raw text for ``/completion``, anything else for the server's chats.

    Raises:
        InvalidRequest: the server cannot be told, and ``strict`` is set or there is nothing to replace it by.
    """
    able = capabilities or CAPABILITIES
    if not request.raw or not able.raw:
        return _server.encode_request(request, stream=stream, strict=strict, capabilities=capabilities)
    fitted, losses, stops, tools = adapt(request, able, strict=strict)
    body = completion_body(fitted, able, SAMPLERS) | {"stream": stream}
    wire = WireRequest("/completion", json_body(body), {"content-type": "application/json"})
    return Encoded(wire, losses, stops, tools)


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request; its path says which of the two it is.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    path = wire.path.partition("?")[0].rstrip("/")
    if path.endswith(("/chat/completions", "/v1/completions")):
        return _server.decode_request(wire)
    return replace(read_completion(Fields(read_object(wire.body)), SAMPLERS), path=path)


def _native(reply: Reply) -> bool:
    asked = reply.asked
    return asked is not None and asked.request.raw and not asked.path.endswith("/v1/completions")


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer in the form that was asked."""
    return encode_completion(response, reply) if _native(reply) else _server.encode_response(response, reply)


def stream_encoder(reply: Reply) -> contract.StreamEncoder:
    """Return an encoder for one stream of the form that was asked."""
    return CompletionEncoder(reply) if _native(reply) else _server.stream_encoder(reply)


def decode_embedding_request(wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request for vectors, at OpenAI's address or the server's own ``/embedding``.

    Raises:
        InvalidRequest: something in it is wrong; the message names the field.
    """
    body = read_object(wire.body)
    if "input" not in body and "content" in body:
        wire = replace(wire, body=json_body({**body, "input": body["content"]}))
    return _server.decode_embedding_request(wire)


def encode_embedding_response(response: EmbeddingResponse, reply: Reply, asked: WireRequest) -> WireResponse:
    """Write vectors as they were asked for: the server's own ``/embedding`` answers with a bare list."""
    if "content" not in read_object(asked.body):
        return _server.encode_embedding_response(response, reply, asked)
    body = [{"index": at, "embedding": [vector]} for at, vector in enumerate(response.vectors)]
    return WireResponse(json_body(body), headers={"content-type": "application/json"})
