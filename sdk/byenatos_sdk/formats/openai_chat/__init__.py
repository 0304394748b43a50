"""OpenAI's Chat Completions, with completions, embeddings and lists of models; and what its dialects are made of.

Another vendor that speaks it is a :class:`Profile` of the names in which it differs, and a :class:`Dialect` of that.
"""

from byenatos_sdk.formats.openai_chat.dialect import Dialect
from byenatos_sdk.formats.openai_chat.profile import OPENAI, Profile
from byenatos_sdk.formats.openai_chat.reader import StreamDecoder
from byenatos_sdk.formats.openai_chat.writer import StreamEncoder

__all__ = [
    "CAPABILITIES",
    "NAME",
    "OPENAI",
    "Dialect",
    "Profile",
    "StreamDecoder",
    "StreamEncoder",
    "choices_encoder",
    "decode_choices",
    "decode_embedding_request",
    "decode_embedding_response",
    "decode_error",
    "decode_models",
    "decode_request",
    "decode_response",
    "encode_choices",
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

_openai = Dialect(OPENAI)

NAME = OPENAI.name
CAPABILITIES = OPENAI.capabilities
encode_request = _openai.encode_request
decode_request = _openai.decode_request
decode_response = _openai.decode_response
decode_choices = _openai.decode_choices
encode_response = _openai.encode_response
encode_choices = _openai.encode_choices
decode_error = _openai.decode_error
encode_error = _openai.encode_error
stream_decoder = _openai.stream_decoder
stream_encoder = _openai.stream_encoder
choices_encoder = _openai.choices_encoder
encode_embedding_request = _openai.encode_embedding_request
decode_embedding_request = _openai.decode_embedding_request
decode_embedding_response = _openai.decode_embedding_response
encode_embedding_response = _openai.encode_embedding_response
encode_models_request = _openai.encode_models_request
decode_models = _openai.decode_models
encode_models = _openai.encode_models
encode_model = _openai.encode_model
