"""Ollama's own API: ``/api/chat``, ``/api/generate``, embeddings and lists of models, in both directions."""

from byenatos_sdk.formats.ollama.embeddings import (
    decode_embedding_request,
    decode_embedding_response,
    encode_embedding_request,
    encode_embedding_response,
)
from byenatos_sdk.formats.ollama.incoming import decode_request
from byenatos_sdk.formats.ollama.models import (
    decode_models,
    decode_show,
    decode_show_request,
    decode_version,
    encode_models,
    encode_models_request,
    encode_running,
    encode_running_request,
    encode_show,
    encode_show_request,
    encode_version,
    encode_version_request,
)
from byenatos_sdk.formats.ollama.requests import CAPABILITIES, NAME, encode_request
from byenatos_sdk.formats.ollama.responses import decode_error, decode_response, encode_error, encode_response
from byenatos_sdk.formats.ollama.streams import StreamDecoder, StreamEncoder, stream_decoder, stream_encoder

__all__ = [
    "CAPABILITIES",
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "decode_embedding_request",
    "decode_embedding_response",
    "decode_error",
    "decode_models",
    "decode_request",
    "decode_response",
    "decode_show",
    "decode_show_request",
    "decode_version",
    "encode_embedding_request",
    "encode_embedding_response",
    "encode_error",
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "encode_running",
    "encode_running_request",
    "encode_show",
    "encode_show_request",
    "encode_version",
    "encode_version_request",
    "stream_decoder",
    "stream_encoder",
]
