"""Anthropic's Messages API: messages, streams, token counts and lists of models, in both directions and versions."""

from byenatos_sdk.formats.anthropic_messages.errors import decode_error, encode_error
from byenatos_sdk.formats.anthropic_messages.incoming import decode_count_request, decode_request
from byenatos_sdk.formats.anthropic_messages.models import (
    decode_count,
    decode_models,
    encode_count,
    encode_model,
    encode_models,
    encode_models_request,
)
from byenatos_sdk.formats.anthropic_messages.reading import StreamDecoder, stream_decoder
from byenatos_sdk.formats.anthropic_messages.requests import encode_count_request, encode_request
from byenatos_sdk.formats.anthropic_messages.responses import decode_response, encode_response
from byenatos_sdk.formats.anthropic_messages.shapes import NAME
from byenatos_sdk.formats.anthropic_messages.thinking import MIN_BUDGET
from byenatos_sdk.formats.anthropic_messages.versions import CAPABILITIES
from byenatos_sdk.formats.anthropic_messages.writing import StreamEncoder, stream_encoder

__all__ = [
    "CAPABILITIES",
    "MIN_BUDGET",
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "decode_count",
    "decode_count_request",
    "decode_error",
    "decode_models",
    "decode_request",
    "decode_response",
    "encode_count",
    "encode_count_request",
    "encode_error",
    "encode_model",
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "stream_decoder",
    "stream_encoder",
]
