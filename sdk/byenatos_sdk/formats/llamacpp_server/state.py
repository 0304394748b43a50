"""What a server says about itself: ``/props``, which describes its model, and ``/slots``, which of them are busy."""

from pathlib import PurePosixPath
from typing import NamedTuple

from byenatos_sdk.formats.llamacpp_server.profile import PROFILE
from byenatos_sdk.formats.openai_chat.errors import found_error, read_body
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.wire import WireRequest, WireResponse
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = ["Slots", "decode_props", "decode_slots", "encode_props_request", "encode_slots_request"]


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
