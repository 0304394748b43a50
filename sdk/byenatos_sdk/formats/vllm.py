"""vLLM's server: OpenAI's chats and completions with more sampling parameters, and counts of tokens.

Its base address is the server's root: ``/v1/chat/completions``, but ``/tokenize``.
"""

from typing import Any

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.openai_chat import Dialect, Profile
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.messages import write_messages
from byenatos_sdk.formats.openai_chat.own_fields import OWN_FIELDS
from byenatos_sdk.formats.openai_chat.profile import Written
from byenatos_sdk.formats.openai_chat.tools import write_tools
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body, read_object
from byenatos_sdk.protocol.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import InferenceRequest, ReasoningOptions, TokenCount

__all__ = [
    "CAPABILITIES",
    "NAME",
    "PROFILE",
    "choices_encoder",
    "decode_choices",
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
    "encode_models",
    "encode_models_request",
    "encode_request",
    "encode_response",
    "stream_decoder",
    "stream_encoder",
]


def _reasoning(options: ReasoningOptions) -> Written:
    if options.effort == "none":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    written: Written = {} if options.effort is None else {"reasoning_effort": options.effort}
    return written if options.budget is None else written | {"thinking_token_budget": options.budget}


PROFILE = Profile(
    "vllm",
    MATRIX["vllm"],
    root="/v1",
    reasoning=_reasoning,
    reasoning_text="reasoning",
    extra=OWN_FIELDS["vllm"],
    continue_fields={"add_generation_prompt": False, "continue_final_message": True},
    stop_reason=True,
    context_field="max_model_len",
    failures={"abort": UpstreamFailed},
    kinds={
        "AuthenticationError": Unauthenticated,
        "BadRequestError": InvalidRequest,
        "InternalServerError": UpstreamFailed,
        "NotFoundError": NotFound,
        "PermissionDeniedError": PermissionDenied,
        "RateLimitError": RateLimited,
    },
)

_vllm = Dialect(PROFILE)

NAME = PROFILE.name
CAPABILITIES = PROFILE.capabilities
encode_request = _vllm.encode_request
decode_request = _vllm.decode_request
decode_response = _vllm.decode_response
decode_choices = _vllm.decode_choices
encode_response = _vllm.encode_response
encode_choices = _vllm.encode_choices
choices_encoder = _vllm.choices_encoder
decode_error = _vllm.decode_error
encode_error = _vllm.encode_error
stream_decoder = _vllm.stream_decoder
stream_encoder = _vllm.stream_encoder
encode_embedding_request = _vllm.encode_embedding_request
decode_embedding_request = _vllm.decode_embedding_request
decode_embedding_response = _vllm.decode_embedding_response
encode_embedding_response = _vllm.encode_embedding_response
encode_models_request = _vllm.encode_models_request
decode_models = _vllm.decode_models
encode_models = _vllm.encode_models


def encode_count_request(request: InferenceRequest) -> WireRequest:
    """Ask how many tokens a conversation, or a raw text, comes to."""
    body: dict[str, Any] = {"model": request.model}
    if request.raw:
        body["prompt"] = "".join(message.text for message in request.messages)
    else:
        body["messages"] = write_messages(request.messages, PROFILE)
        body |= write_tools(request)
    return WireRequest("/tokenize", json_body(body), {"content-type": "application/json"})


def decode_count_request(wire: WireRequest) -> InferenceRequest:
    """Read a client's question for a count.

    Raises:
        InvalidRequest: it is wrong; the message names the field.
    """
    raw = "prompt" in Fields(read_object(wire.body))
    path = "/v1/completions" if raw else "/v1/chat/completions"
    return decode_request(WireRequest(path, wire.body, wire.headers)).request


def decode_count(wire: WireResponse) -> TokenCount:
    """Read a count.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no count.
    """
    body = read_body(PROFILE, wire)
    found = count(body.get("count")) if isinstance(body, dict) else None
    if found is None:
        raise found_error(PROFILE, wire, body)
    return TokenCount(found)


def encode_count(counted: TokenCount) -> WireResponse:
    """Write a count. The tokens themselves are not known to whoever counts."""
    body: dict[str, Any] = {"count": counted.input_tokens, "max_model_len": None, "tokens": []}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})
