"""What a server says about itself: ``/props``, which describes its model, and ``/slots``, which of them are busy."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from byenatos_sdk.formats.llamacpp_server.profile import PROFILE
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = [
    "Slots",
    "decode_props",
    "decode_slots",
    "encode_props",
    "encode_props_request",
    "encode_slots",
    "encode_slots_request",
]

_JSON = {"content-type": "application/json"}


class Slots(NamedTuple):
    """How many requests a server can work on at once, and on how many it does."""

    total: int
    busy: int


def encode_props_request() -> WireRequest:
    """Ask for the model's description."""
    return WireRequest("/props", method="GET")


def encode_slots_request() -> WireRequest:
    """Ask for the slots; a server offers them with ``--slots`` only."""
    return WireRequest("/slots", method="GET")


def decode_props(wire: WireResponse) -> ModelSpecification:
    """Read a model's description. ``metadata`` holds ``slots`` and ``build`` where the server names them.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no description.
    """
    body = read_body(PROFILE, wire)
    settings = body.get("default_generation_settings") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(settings, dict):
        raise found_error(PROFILE, wire, body)
    path, alias = body.get("model_path"), body.get("model_alias")
    name = PurePosixPath(path).name if isinstance(path, str) else ""
    modalities = body.get("modalities")
    features = {"continue"}
    if body.get("chat_template"):
        features.add("chat_template")
    if isinstance(modalities, dict):
        features |= {feature for word, feature in _FEATURES.items() if modalities.get(word) is True}
    metadata = {}
    slots, build = count(body.get("total_slots")), body.get("build_info")
    if slots is not None:
        metadata["slots"] = str(slots)
    if isinstance(build, str):
        metadata["build"] = build
    return ModelSpecification(
        alias if isinstance(alias, str) and alias else name,
        name=name,
        context_length=count(settings.get("n_ctx")) or 0,
        features=frozenset(features),
        metadata=metadata,
    )


_FEATURES = {"vision": "images", "audio": "audio"}


def encode_props(model: ModelSpecification, *, slots: int = 1, build: str = "") -> WireResponse:
    """Write a model's description. What is not known of it, its file and its chat template, is left out."""
    settings: dict[str, Any] = {}
    if model.context_length:
        settings["n_ctx"] = model.context_length
    body = {
        "default_generation_settings": settings,
        "total_slots": slots,
        "model_alias": model.id,
        "modalities": {word: feature in model.features for word, feature in _FEATURES.items()},
        "build_info": build,
    }
    return WireResponse(json_body(body), headers=dict(_JSON))


def encode_slots(slots: Sequence[tuple[ModelSpecification, int]]) -> WireResponse:
    """Write slots, each with its model and how many answers are under way in it."""
    body = []
    for number, (model, streams) in enumerate(slots):
        slot: dict[str, Any] = {"id": number, "model": model.id, "is_processing": streams > 0, "streams": streams}
        if model.context_length:
            slot["n_ctx"] = model.context_length
        body.append(slot)
    return WireResponse(json_body(body), headers=dict(_JSON))


def decode_slots(wire: WireResponse) -> Slots:
    """Read the slots.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no list.
    """
    body = read_body(PROFILE, wire)
    if not isinstance(body, list):
        raise found_error(PROFILE, wire, body)
    slots = [one for one in body if isinstance(one, dict)]
    return Slots(len(slots), sum(one.get("is_processing") is True or one.get("state") == 1 for one in slots))
