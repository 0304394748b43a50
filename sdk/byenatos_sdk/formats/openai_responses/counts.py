"""Counts of tokens: the one count that OpenAI offers."""

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.profile import OPENAI
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.openai_responses.requests import CAPABILITIES, decode_request, request_body
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.messages import InferenceRequest, TokenCount

__all__ = ["decode_count", "decode_count_request", "encode_count", "encode_count_request"]

_COUNTED = ("model", "input", "instructions", "tools", "tool_choice", "text", "reasoning", "parallel_tool_calls")


def encode_count_request(request: InferenceRequest) -> WireRequest:
    """Ask how many tokens a conversation comes to."""
    body = request_body(adapt(request, CAPABILITIES).request)
    counted = {name: value for name, value in body.items() if name in _COUNTED}
    return WireRequest("/responses/input_tokens", json_body(counted), {"content-type": "application/json"})


def decode_count_request(wire: WireRequest) -> InferenceRequest:
    """Read a client's question for a count.

    Raises:
        InvalidRequest: it is wrong; the message names the field.
    """
    return decode_request(wire).request


def decode_count(wire: WireResponse) -> TokenCount:
    """Read a count.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no count.
    """
    body = read_body(OPENAI, wire)
    found = count(body.get("input_tokens")) if isinstance(body, dict) else None
    if found is None:
        raise found_error(OPENAI, wire, body)
    return TokenCount(found)


def encode_count(counted: TokenCount) -> WireResponse:
    """Write a count."""
    body = {"object": "response.input_tokens", "input_tokens": counted.input_tokens}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})
