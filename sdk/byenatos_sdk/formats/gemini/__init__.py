"""Google's Gemini API: contents, streams, embeddings, token counts and lists of models, in both directions."""

from byenatos_sdk.formats.gemini.embeddings import (
    decode_embedding_request,
    decode_embedding_response,
    encode_embedding_request,
    encode_embedding_response,
)
from byenatos_sdk.formats.gemini.errors import decode_error, encode_error
from byenatos_sdk.formats.gemini.incoming import decode_count_request, decode_request
from byenatos_sdk.formats.gemini.models import (
    decode_count,
    decode_models,
    encode_count,
    encode_model,
    encode_models,
    encode_models_request,
)
from byenatos_sdk.formats.gemini.reading import StreamDecoder, stream_decoder
from byenatos_sdk.formats.gemini.requests import CAPABILITIES, encode_count_request, encode_request
from byenatos_sdk.formats.gemini.responses import decode_response, encode_choices, encode_response
from byenatos_sdk.formats.gemini.shapes import NAME
from byenatos_sdk.formats.gemini.writing import StreamEncoder, stream_encoder

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
    "encode_choices",
    "encode_count",
    "encode_count_request",
    "encode_embedding_request",
    "encode_embedding_response",
    "encode_error",
    "encode_model",
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "stream_decoder",
    "stream_encoder",
]
