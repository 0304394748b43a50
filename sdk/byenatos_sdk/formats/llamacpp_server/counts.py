"""Counts of tokens: of a conversation with its template, and of a raw text."""

from typing import Any

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.llamacpp_server.profile import PROFILE
from byenatos_sdk.formats.openai_chat import Dialect
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.messages import write_messages
from byenatos_sdk.formats.openai_chat.tools import write_tools
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body, read_object
from byenatos_sdk.protocol.messages import InferenceRequest, TokenCount, user

__all__ = ["decode_count", "decode_count_request", "encode_count", "encode_count_request"]

_CHAT = "/v1/chat/completions/input_tokens"


def encode_count_request(request: InferenceRequest) -> WireRequest:
    """Ask how many tokens a conversation, or a raw text, comes to."""
    headers = {"content-type": "application/json"}
    if request.raw:
        text = "".join(message.text for message in request.messages)
        return WireRequest("/tokenize", json_body({"content": text, "add_special": True}), headers)
    body: dict[str, Any] = {"model": request.model, "messages": write_messages(request.messages, PROFILE)}
    return WireRequest(_CHAT, json_body(body | write_tools(request)), headers)


def decode_count_request(wire: WireRequest) -> InferenceRequest:
    """Read a client's question for a count.

    Raises:
        InvalidRequest: it is wrong; the message names the field.
    """
    fields = Fields(read_object(wire.body))
    if "messages" in fields:
        return Dialect(PROFILE).decode_request(WireRequest("/v1/chat/completions", wire.body, wire.headers)).request
    return InferenceRequest((user(fields.need_text("content")),), raw=True)


def decode_count(wire: WireResponse) -> TokenCount:
    """Read a count: a number, or the tokens themselves.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no count.
    """
    body = read_body(PROFILE, wire)
    found = None
    if isinstance(body, dict):
        tokens = body.get("tokens")
        found = len(tokens) if isinstance(tokens, list) else count(body.get("input_tokens"))
    if found is None:
        raise found_error(PROFILE, wire, body)
    return TokenCount(found)


def encode_count(counted: TokenCount) -> WireResponse:
    """Write the count of a conversation; ``/tokenize`` answers with the tokens, which a count does not know."""
    body = {"object": "response.input_tokens", "input_tokens": counted.input_tokens}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})
