"""Lists of models and counts of tokens, both ways. A model's resource name is ``models/`` and its id."""

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from byenatos_sdk.formats.gemini.errors import decode_error
from byenatos_sdk.formats.gemini.shapes import JSON, Model, Models, TokenTotal
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import ModelSpecification, TokenCount

__all__ = [
    "decode_count",
    "decode_models",
    "encode_count",
    "encode_model",
    "encode_models",
    "encode_models_request",
    "read_answer",
]

_Struct = TypeVar("_Struct")
_PAGE = 1000
"""Models per page: the most that the API gives."""
_METHODS = {
    "generateContent": "completion",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
}
_lists = msgspec.json.Decoder(Models)
_counts = msgspec.json.Decoder(TokenTotal)


def read_answer(decoder: msgspec.json.Decoder[_Struct], wire: WireResponse) -> _Struct:
    """Read an answer of a known shape.

    Raises:
        ByenatosError: the body is an error, or of another shape.
    """
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        return read_as(decoder, wire.body)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None


def encode_models_request(page: str = "") -> WireRequest:
    """Ask for the page of the list that ``page`` names."""
    token = f"&pageToken={quote(page, safe='')}" if page else ""
    return WireRequest(f"/v1beta/models?pageSize={_PAGE}{token}", method="GET")


def decode_models(wire: WireResponse) -> tuple[list[ModelSpecification], str]:
    """Read a page of the list, and the token of the next one (empty: there is none).

    Raises:
        ByenatosError: the body is an error, or no list.
    """
    read = read_answer(_lists, wire)
    return [_specification(one) for one in read.models or ()], read.next_page_token or ""


def _specification(one: Model) -> ModelSpecification:
    features = {_METHODS[method] for method in one.supported_generation_methods or () if method in _METHODS}
    if one.thinking:
        features.add("reasoning")
    limit = None if one.output_token_limit is None else str(one.output_token_limit)
    metadata = {"description": one.description, "version": one.version, "max_output_tokens": limit}
    return ModelSpecification(
        one.name.removeprefix("models/"),
        name=one.display_name or "",
        context_length=one.input_token_limit or 0,
        features=frozenset(features),
        metadata={name: value for name, value in metadata.items() if value},
    )


def encode_models(
    models: Sequence[ModelSpecification],
    created: int,  # noqa: ARG001  # no dates here
    *,
    more: bool = False,
) -> WireResponse:
    """Write a page of the list; where it has ``more``, the next page begins behind the last one of these."""
    body: dict[str, Any] = {"models": [_info(model) for model in models]}
    if more:
        body["nextPageToken"] = models[-1].id
    return WireResponse(json_body(body), 200, dict(JSON))


def encode_model(model: ModelSpecification, created: int) -> WireResponse:  # noqa: ARG001  # no dates here
    """Write one model."""
    return WireResponse(json_body(_info(model)), 200, dict(JSON))


def _info(model: ModelSpecification) -> dict[str, Any]:
    named = model.id if model.id.startswith("tunedModels/") else f"models/{model.id}"
    info: dict[str, Any] = {
        "name": named,
        "version": model.metadata.get("version", ""),
        "displayName": model.name or model.id,
    }
    if "description" in model.metadata:
        info["description"] = model.metadata["description"]
    if model.context_length:
        info["inputTokenLimit"] = model.context_length
    limit = model.metadata.get("max_output_tokens", "")
    if limit.isdecimal():
        info["outputTokenLimit"] = int(limit)
    methods = ["embedContent", "batchEmbedContents"] if "embeddings" in model.features else []
    if not methods or "completion" in model.features:
        methods = ["generateContent", "countTokens", *methods]
    info["supportedGenerationMethods"] = methods
    if "reasoning" in model.features:
        info["thinking"] = True
    return info


def decode_count(wire: WireResponse) -> TokenCount:
    """Read a count of tokens.

    Raises:
        ByenatosError: the body is an error, or no count.
    """
    return TokenCount(read_answer(_counts, wire).total_tokens)


def encode_count(count: TokenCount) -> WireResponse:
    """Write a count of tokens."""
    return WireResponse(json_body({"totalTokens": count.input_tokens}), 200, dict(JSON))
