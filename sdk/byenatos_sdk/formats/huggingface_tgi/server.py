"""What a server says besides answers: ``/info`` about its model, ``/tokenize``, and vectors (feature extraction)."""

from collections.abc import Sequence
from typing import Any

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.formats.huggingface_tgi.profile import CHAT
from byenatos_sdk.formats.huggingface_tgi.requests import decode_request, encode_request
from byenatos_sdk.formats.openai_chat.errors import read_body
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body, read_object
from byenatos_sdk.protocol.errors import Unsupported, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    Message,
    ModelSpecification,
    Text,
    TokenCount,
    Usage,
)

__all__ = [
    "decode_count",
    "decode_count_request",
    "decode_embedding_request",
    "decode_embedding_response",
    "decode_models",
    "encode_count",
    "encode_count_request",
    "encode_embedding_request",
    "encode_embedding_response",
    "encode_models",
    "encode_models_request",
]

_JSON = {"content-type": "application/json"}
_EXTRA = ("normalize", "truncate", "truncation_direction", "prompt_name")


# ---- the model -------------------------------------------------------------------------------------------------


def encode_models_request(page: str = "") -> WireRequest:  # noqa: ARG001 - a server has one model
    """Ask the server about its model."""
    return WireRequest("/info", method="GET")


def decode_models(wire: WireResponse) -> tuple[list[ModelSpecification], str]:
    """Read the answer of ``/info``, or the router's list of models.

    Raises:
        ByenatosError: the body is an error (whatever its status), or neither.
    """
    body = read_body(CHAT.profile, wire)
    if not isinstance(body, dict) or not isinstance(body.get("model_id"), str):
        return CHAT.decode_models(wire)
    total, version = count(body.get("max_total_tokens")), body.get("version")
    model = ModelSpecification(
        body["model_id"],
        context_length=total or 0,
        metadata={"version": version} if isinstance(version, str) else {},
    )
    return [model], ""


def encode_models(models: Sequence[ModelSpecification], created: int) -> WireResponse:  # noqa: ARG001 - no dates here
    """Write the answer of ``/info`` about the first model: a server of this kind has one.

    Raises:
        Unsupported: there is no model.
    """
    if not models:
        raise Unsupported("models: expected one, found none: /info is about a model")
    body: dict[str, Any] = {"model_id": models[0].id, "version": models[0].metadata.get("version", "")}
    if models[0].context_length:
        body["max_total_tokens"] = models[0].context_length
    return WireResponse(json_body(body), 200, dict(_JSON))


# ---- tokens ----------------------------------------------------------------------------------------------------


def encode_count_request(request: InferenceRequest) -> WireRequest:
    """Ask for the tokens of a raw text, or of a conversation with its template."""
    if request.raw:
        prompt = "".join(message.text for message in request.messages)
        return WireRequest("/tokenize", json_body({"inputs": prompt}), dict(_JSON))
    return WireRequest("/chat_tokenize", encode_request(request).wire.body, dict(_JSON))


def decode_count_request(wire: WireRequest) -> InferenceRequest:
    """Read a client's request for tokens.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    if not wire.path.partition("?")[0].rstrip("/").endswith("/tokenize"):
        return decode_request(wire).request
    text = Fields(read_object(wire.body)).need_text("inputs")
    return InferenceRequest((Message("user", (Text(text),)),), raw=True)


def decode_count(wire: WireResponse) -> TokenCount:
    """Count the tokens of an answer.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no list of tokens.
    """
    body = read_body(CHAT.profile, wire)
    tokens = body.get("tokenize_response") if isinstance(body, dict) else body
    if not isinstance(tokens, list):
        if isinstance(body, dict) and body.get("error"):
            raise CHAT.decode_error(wire)
        raise UpstreamFailed("answer: expected a list of tokens, found none", vendor_status=wire.status)
    return TokenCount(len(tokens))


def encode_count(count: TokenCount) -> WireResponse:
    """Refuse: the answer is the tokens themselves, and only how many there are is known.

    Raises:
        Unsupported: always.
    """
    raise Unsupported(f"tokenize: expected the tokens themselves, found their number only ({count.input_tokens})")


# ---- vectors ---------------------------------------------------------------------------------------------------


def encode_embedding_request(request: EmbeddingRequest) -> WireRequest:
    """Write a request for feature extraction."""
    body: dict[str, Any] = {"inputs": list(request.inputs)}
    body |= {name: request.extra[name] for name in _EXTRA if name in request.extra}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return WireRequest("/", json_body(body), dict(_JSON))


def decode_embedding_request(wire: WireRequest) -> EmbeddingRequest:
    """Read a client's request for feature extraction; its parameters may stand beside the inputs or below.

    Raises:
        InvalidRequest: the request is wrong; the message names the field.
    """
    body = Fields(read_object(wire.body))
    inputs = body.texts("inputs")
    if not inputs:
        raise body.wrong("inputs", "at least one text")
    found = body.inner("parameters") or body
    extra = {name: found.values[name] for name in _EXTRA if name in found}
    return EmbeddingRequest(inputs, body.text("model") or "default", found.whole("dimensions"), extra)


def decode_embedding_response(wire: WireResponse) -> EmbeddingResponse:
    """Read vectors: one for each text, or one alone.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no vectors of whole texts.
    """
    body = read_body(CHAT.profile, wire)
    if isinstance(body, dict):
        raise CHAT.decode_error(wire)
    if isinstance(body, list) and body and _is_vector(body):
        body = [body]
    if not isinstance(body, list) or not all(_is_vector(vector) for vector in body):
        raise UpstreamFailed(
            "answer: expected one vector for each text; a model without pooling gives one for each token",
            vendor_status=wire.status,
        )
    return EmbeddingResponse(tuple(tuple(float(one) for one in vector) for vector in body), usage=Usage(None, 0))


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)


def encode_embedding_response(
    response: EmbeddingResponse,
    reply: Reply,  # noqa: ARG001 - vectors and nothing else
    asked: WireRequest,  # noqa: ARG001 - there is one form only
) -> WireResponse:
    """Write vectors."""
    return WireResponse(json_body(response.vectors), 200, dict(_JSON))
