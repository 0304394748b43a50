"""Tencent's Hunyuan, its native API: answers and embeddings, both ways. TokenHub, its successor, is OpenAI's format."""

from byenatos_sdk.formats.hunyuan.embeddings import (
    decode_embedding_request,
    decode_embedding_response,
    encode_embedding_request,
    encode_embedding_response,
)
from byenatos_sdk.formats.hunyuan.errors import decode_error, encode_error
from byenatos_sdk.formats.hunyuan.requests import CAPABILITIES, NAME, decode_request, encode_request
from byenatos_sdk.formats.hunyuan.responses import decode_response, encode_response
from byenatos_sdk.formats.hunyuan.streams import StreamDecoder, StreamEncoder, stream_decoder, stream_encoder

__all__ = [
    "CAPABILITIES",
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "decode_embedding_request",
    "decode_embedding_response",
    "decode_error",
    "decode_request",
    "decode_response",
    "encode_embedding_request",
    "encode_embedding_response",
    "encode_error",
    "encode_request",
    "encode_response",
    "stream_decoder",
    "stream_encoder",
]
