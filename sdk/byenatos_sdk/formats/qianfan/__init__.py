"""Baidu's Qianfan: version 2 speaks OpenAI's chats with words of its own; version 1 is understood too.

What goes out is version 2. A client of version 1 gets answers of version 1.
"""

from msgspec.structs import replace

from byenatos_sdk.formats import contract
from byenatos_sdk.formats.openai_chat import Dialect
from byenatos_sdk.formats.qianfan import legacy
from byenatos_sdk.formats.qianfan.profile import PROFILE
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.messages import InferenceResponse

__all__ = [
    "CAPABILITIES",
    "NAME",
    "PROFILE",
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
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "stream_decoder",
    "stream_encoder",
]

_qianfan = Dialect(PROFILE)

NAME = PROFILE.name
CAPABILITIES = PROFILE.capabilities
encode_request = _qianfan.encode_request
decode_response = _qianfan.decode_response
decode_choices = _qianfan.decode_choices
encode_choices = _qianfan.encode_choices
choices_encoder = _qianfan.choices_encoder
decode_error = _qianfan.decode_error
encode_error = _qianfan.encode_error
stream_decoder = _qianfan.stream_decoder
encode_embedding_request = _qianfan.encode_embedding_request
decode_embedding_request = _qianfan.decode_embedding_request
decode_embedding_response = _qianfan.decode_embedding_response
encode_embedding_response = _qianfan.encode_embedding_response
encode_models_request = _qianfan.encode_models_request
decode_models = _qianfan.decode_models
encode_models = _qianfan.encode_models


def decode_request(wire: WireRequest) -> Decoded:
    """Read a client's request of either version.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    if not legacy.is_legacy(wire.path):
        return _qianfan.decode_request(wire)
    decoded = _qianfan.decode_request(legacy.as_chat_request(wire))
    return replace(decoded, usage_in_stream=True, path=wire.path.partition("?")[0])


def _old(reply: Reply) -> bool:
    return reply.asked is not None and legacy.is_legacy(reply.asked.path)


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer in the version that was asked."""
    if _old(reply):
        return legacy.encode_legacy_response(response, reply)
    return _qianfan.encode_response(response, reply)


def stream_encoder(reply: Reply) -> contract.StreamEncoder:
    """Return an encoder for one stream of the version that was asked."""
    return legacy.LegacyEncoder(reply) if _old(reply) else _qianfan.stream_encoder(reply)
