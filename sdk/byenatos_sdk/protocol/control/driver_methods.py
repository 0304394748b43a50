"""What a driver is told to load, and what the kernel asks of it."""

from typing import Any, Final

from msgspec import Struct

from byenatos_sdk.protocol.control.parameters import Empty
from byenatos_sdk.protocol.messages import (
    DetokenizeRequest,
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    ModelHealthStatus,
    ModelSpecification,
    TokenCount,
    TokenizeRequest,
    Tokens,
    Value,
)

__all__ = ["DRIVER_METHODS", "LoadOrder", "ProbeOrder", "ProbeResult"]


class LoadOrder(Value, frozen=True, omit_defaults=True):
    """What an instance is to load.

    ``path`` is the model's file, empty for models that have none, ``digest`` the BLAKE2b-256 of its content, in hex.
    ``max_tokens`` and ``temperature`` are the operator's, for requests that name none. ``declared`` is what the
    plugin's manifest says of the model; it counts where the driver has nothing to say. ``strict`` counts for all
    requests. In the ``background`` others are not to be held up: the loop's executor has low priority while it loads.
    ``files`` are the further files that the settings name, by path, with their digests.
    """

    model: str
    path: str = ""
    settings: dict[str, Any] = {}
    max_tokens: int | None = None
    temperature: float | None = None
    digest: str = ""
    declared: ModelSpecification | None = None
    strict: bool = False
    background: bool = False
    files: dict[str, str] = {}


class ProbeOrder(Value, frozen=True, omit_defaults=True):
    """Ask a driver whether a model file is its own, and what it would be if it were loaded with ``settings``."""

    path: str
    settings: dict[str, Any] = {}


class ProbeResult(Value, frozen=True, omit_defaults=True):
    """``specification`` if the file is the driver's; else ``reason`` says what was expected and what was found."""

    specification: ModelSpecification | None = None
    reason: str = ""


DRIVER_METHODS: Final[dict[str, tuple[type[Struct], Any]]] = {
    "probe": (ProbeOrder, ProbeResult),
    "health": (Empty, ModelHealthStatus),
    "embed": (EmbeddingRequest, EmbeddingResponse),
    "count_tokens": (InferenceRequest, TokenCount),
    "tokenize": (TokenizeRequest, Tokens),
    "detokenize": (DetokenizeRequest, Tokens),
    "models": (Empty, list[ModelSpecification]),
}
"""Every method of a driver that the kernel calls, with the type of its parameters and of its result."""
