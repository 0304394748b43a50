"""Lists of models and counts of tokens, both ways."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from byenatos_sdk.formats.anthropic_messages.answers import ModelInfo, ModelList
from byenatos_sdk.formats.anthropic_messages.errors import decode_error
from byenatos_sdk.formats.anthropic_messages.shapes import NEW_VERSION
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import ModelSpecification, TokenCount

__all__ = ["decode_count", "decode_models", "encode_count", "encode_model", "encode_models", "encode_models_request"]

_Struct = TypeVar("_Struct")
_PAGE = 1000
"""Models per page: the most that the API gives."""


class _Count(msgspec.Struct):
    input_tokens: int


_lists = msgspec.json.Decoder(ModelList)
_counts = msgspec.json.Decoder(_Count)


def _read(decoder: msgspec.json.Decoder[_Struct], wire: WireResponse) -> _Struct:
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        return read_as(decoder, wire.body)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None


def encode_models_request(page: str = "") -> WireRequest:
    """Ask for the models behind the one that ``page`` names."""
    after = f"&after_id={quote(page, safe='')}" if page else ""
    headers = {"anthropic-version": NEW_VERSION}
    return WireRequest(f"/v1/models?limit={_PAGE}{after}", headers=headers, method="GET")


def decode_models(wire: WireResponse) -> tuple[list[ModelSpecification], str]:
    """Read a page of the list, and the token of the next one (empty: there is none).

    Raises:
        ByenatosError: the body is an error, or no list.
    """
    read = _read(_lists, wire)
    models = [_specification(one) for one in read.data]
    return models, (read.last_id or models[-1].id) if read.has_more and models else ""


def _specification(one: ModelInfo) -> ModelSpecification:
    metadata = {
        "created_at": one.created_at,
        "lifecycle": one.lifecycle,
        "max_output_tokens": None if one.max_tokens is None else str(one.max_tokens),
    }
    return ModelSpecification(
        one.id,
        name=one.display_name or "",
        context_length=one.max_input_tokens or 0,
        metadata={name: value for name, value in metadata.items() if value},
    )


def encode_models(models: Sequence[ModelSpecification], created: int, *, more: bool = False) -> WireResponse:
    """Write a page of the list, which has ``more``; ``created`` (seconds since the epoch) stands for unknown dates."""
    data = [_info(model, created) for model in models]
    body = {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
    return WireResponse(json_body(body), 200, {"content-type": "application/json"})


def encode_model(model: ModelSpecification, created: int) -> WireResponse:
    """Write one model."""
    return WireResponse(json_body(_info(model, created)), 200, {"content-type": "application/json"})


def _info(model: ModelSpecification, created: int) -> dict[str, Any]:
    moment = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    limit = model.metadata.get("max_output_tokens", "")
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name or model.id,
        "created_at": model.metadata.get("created_at", moment),
        "lifecycle": model.metadata.get("lifecycle", "active"),
        "max_input_tokens": model.context_length or None,
        "max_tokens": int(limit) if limit.isdecimal() else None,
    }


def decode_count(wire: WireResponse) -> TokenCount:
    """Read a count of tokens.

    Raises:
        ByenatosError: the body is an error, or no count.
    """
    return TokenCount(_read(_counts, wire).input_tokens)


def encode_count(count: TokenCount) -> WireResponse:
    """Write a count of tokens."""
    return WireResponse(json_body({"input_tokens": count.input_tokens}), 200, {"content-type": "application/json"})
