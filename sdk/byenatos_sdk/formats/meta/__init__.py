"""Meta: the Llama API's own form, and :data:`model_api`, its successor, which speaks OpenAI's chats with restrictions.

The Llama API asks as OpenAI does, with fewer parameters, and answers in a form of its own.
"""

from msgspec.structs import replace

from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.meta.native import StreamEncoder, as_chat, encode_error, encode_response
from byenatos_sdk.formats.openai_chat import Dialect, Profile
from byenatos_sdk.formats.wire import Reply

__all__ = [
    "CAPABILITIES",
    "NAME",
    "PROFILE",
    "StreamEncoder",
    "decode_error",
    "decode_models",
    "decode_request",
    "decode_response",
    "encode_error",
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "model_api",
    "stream_decoder",
    "stream_encoder",
]

PROFILE = Profile("meta", MATRIX["meta"], call_type="", usage_option=False, as_chat=as_chat)

_meta = Dialect(PROFILE)

NAME = PROFILE.name
CAPABILITIES = PROFILE.capabilities
encode_request = _meta.encode_request
decode_request = _meta.decode_request
decode_response = _meta.decode_response
decode_error = _meta.decode_error
stream_decoder = _meta.stream_decoder
encode_models_request = _meta.encode_models_request
decode_models = _meta.decode_models
encode_models = _meta.encode_models


def stream_encoder(reply: Reply) -> StreamEncoder:
    """Return an encoder for one stream of events."""
    return StreamEncoder(reply)


_openai = MATRIX["openai_chat"]

model_api = Dialect(
    Profile(
        "meta_model_api",
        replace(
            _openai,
            format="meta_model_api",
            parameters={name: limit for name, limit in _openai.parameters.items() if name != "stop"},
            tool_choices=frozenset({"auto"}),
            reasoning=frozenset({"effort", "always"}),
            embeddings=False,
        ),
    )
)
"""The Meta Model API (https://api.meta.ai/v1): tools are chosen by the model, answers are cut at stop sequences here,
and reasoning cannot be switched off."""
