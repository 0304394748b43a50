"""OpenAI's Responses: items instead of messages, events with numbers, and state that the vendor keeps.

That state is not ours: ``previous_response_id``, ``conversation`` and ``store`` go through ``extra``, and whoever
fronts for it decides.
"""

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.openai_responses.counts import (
    decode_count,
    decode_count_request,
    encode_count,
    encode_count_request,
)
from byenatos_sdk.formats.openai_responses.items import NAME, read_items
from byenatos_sdk.formats.openai_responses.reader import StreamDecoder
from byenatos_sdk.formats.openai_responses.replays import encode_replay
from byenatos_sdk.formats.openai_responses.requests import CAPABILITIES, decode_request, encode_request
from byenatos_sdk.formats.openai_responses.responses import decode_response, encode_response
from byenatos_sdk.formats.openai_responses.writer import StreamEncoder
from byenatos_sdk.formats.wire import Reply

__all__ = [
    "CAPABILITIES",
    "NAME",
    "StreamDecoder",
    "StreamEncoder",
    "decode_count",
    "decode_count_request",
    "decode_error",
    "decode_request",
    "decode_response",
    "encode_count",
    "encode_count_request",
    "encode_error",
    "encode_replay",
    "encode_request",
    "encode_response",
    "read_items",
    "stream_decoder",
    "stream_encoder",
]

decode_error = openai_chat.decode_error
encode_error = openai_chat.encode_error


def stream_decoder(*, choice: int = 0) -> StreamDecoder:  # noqa: ARG001  # there is one answer only
    """Return a decoder for one stream."""
    return StreamDecoder()


def stream_encoder(reply: Reply) -> StreamEncoder:
    """Return an encoder for one stream."""
    return StreamEncoder(reply)
