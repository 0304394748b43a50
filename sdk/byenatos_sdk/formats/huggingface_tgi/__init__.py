"""Hugging Face's TGI, both ways: raw texts by its own paths, conversations by its chat route, feature extraction."""

from byenatos_sdk.formats.huggingface_tgi.answers import (
    StreamEncoder,
    decode_response,
    encode_response,
    stream_decoder,
    stream_encoder,
)
from byenatos_sdk.formats.huggingface_tgi.errors import encode_error
from byenatos_sdk.formats.huggingface_tgi.profile import CAPABILITIES, CHAT, NAME
from byenatos_sdk.formats.huggingface_tgi.requests import decode_request, encode_request
from byenatos_sdk.formats.huggingface_tgi.server import (
    decode_count,
    decode_count_request,
    decode_embedding_request,
    decode_embedding_response,
    decode_models,
    encode_count,
    encode_count_request,
    encode_embedding_request,
    encode_embedding_response,
    encode_models,
    encode_models_request,
)
from byenatos_sdk.formats.openai_chat import StreamDecoder

__all__ = [
    "CAPABILITIES",
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "decode_count",
    "decode_count_request",
    "decode_embedding_request",
    "decode_embedding_response",
    "decode_error",
    "decode_models",
    "decode_request",
    "decode_response",
    "encode_count",
    "encode_count_request",
    "encode_embedding_request",
    "encode_embedding_response",
    "encode_error",
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "stream_decoder",
    "stream_encoder",
]

decode_error = CHAT.decode_error
