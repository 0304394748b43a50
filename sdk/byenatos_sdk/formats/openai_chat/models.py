"""Lists of models."""

from collections.abc import Sequence
from typing import Any

from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = ["decode_models", "encode_model", "encode_models", "encode_models_request", "model_object"]

_CONTEXTS = ("max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens")
"""Where servers say how long a context may be: vLLM, OpenRouter and Moonshot, Groq, LM Studio, others."""


def encode_models_request(profile: Profile, page: str = "") -> WireRequest:
    """Write the request for the list; there is only one page, unless a server says otherwise."""
    return WireRequest(f"{profile.root}/models{f'?after={page}' if page else ''}", method="GET")


def _specification(one: dict[str, Any]) -> ModelSpecification:
    meta = one.get("meta")
    found = [count(one.get(field)) for field in _CONTEXTS]
    found.append(count(meta.get("n_ctx_train")) if isinstance(meta, dict) else None)  # llama.cpp
    name = one.get("name")
    owner = one.get("owned_by")
    return ModelSpecification(
        one["id"],
        name=name if isinstance(name, str) else "",
        parameters=(count(meta.get("n_params")) or 0) if isinstance(meta, dict) else 0,
        size_bytes=(count(meta.get("size")) or 0) if isinstance(meta, dict) else 0,
        context_length=next((context for context in found if context), 0),
        metadata={"owned_by": owner} if isinstance(owner, str) and owner else {},
    )


def decode_models(profile: Profile, wire: WireResponse) -> tuple[list[ModelSpecification], str]:
    """Read a list of models and the token of its next page, empty at the last.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no list.
    """
    body = read_body(profile, wire)
    data = body.get("data") if isinstance(body, dict) else body
    if not isinstance(data, list):
        raise found_error(profile, wire, body)
    models = [_specification(one) for one in data if isinstance(one, dict) and isinstance(one.get("id"), str)]
    more = isinstance(body, dict) and body.get("has_more") is True
    return models, models[-1].id if more and models else ""


def model_object(profile: Profile, model: ModelSpecification, created: int) -> dict[str, Any]:
    """Write one model."""
    owner = model.metadata.get("owned_by") or model.driver or "byenatos"
    body = {"id": model.id, "object": "model", "created": created, "owned_by": owner}
    if profile.context_field and model.context_length:
        body[profile.context_field] = model.context_length
    return body


def encode_models(profile: Profile, models: Sequence[ModelSpecification], created: int) -> WireResponse:
    """Write a list of models."""
    body = {"object": "list", "data": [model_object(profile, model, created) for model in models]}
    return WireResponse(json_body(body), headers={"content-type": "application/json"})


def encode_model(profile: Profile, model: ModelSpecification, created: int) -> WireResponse:
    """Write one model, as the answer to the request for it alone."""
    return WireResponse(json_body(model_object(profile, model, created)), headers={"content-type": "application/json"})
