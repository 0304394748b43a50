"""What a server says about itself and its models: ``tags``, ``show``, ``ps``, ``version``; read and written.

ollama-python wants dates that it can read and ``model_info`` in ``show``, even if it is empty.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from byenatos_sdk.formats.ollama.responses import JSON, created_at, decode_error
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = [
    "decode_models",
    "decode_show",
    "decode_show_request",
    "decode_version",
    "encode_models",
    "encode_models_request",
    "encode_running",
    "encode_running_request",
    "encode_show",
    "encode_show_request",
    "encode_version",
    "encode_version_request",
]

_FEATURES = {
    "tools": "tools",
    "vision": "images",
    "embedding": "embeddings",
    "thinking": "reasoning",
    "insert": "insert",
    "completion": "completion",
}
_PLAIN_TEMPLATE = "{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}"
_TOLD_TEMPLATE = "{{ if .Tools }}{{ .Tools }}\n{{ end }}" + _PLAIN_TEMPLATE
"""What stands for a chat template, which is applied elsewhere: clients look in it for whether a model is told of tools.

One of which nothing is known is taken to be.
"""
_CAPABILITIES = {feature: word for word, feature in _FEATURES.items()}


class _Details(msgspec.Struct):
    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None
    format: str | None = None


class _Model(msgspec.Struct):
    name: str | None = None
    model: str | None = None
    size: int | None = None
    digest: str | None = None
    modified_at: str | None = None
    details: _Details | None = None
    capabilities: list[str] | None = None
    context_length: int | None = None


class _Models(msgspec.Struct):
    models: list[_Model] | None = None
    error: Any = None


class _Show(msgspec.Struct):
    details: _Details | None = None
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None
    error: Any = None


class _ShowRequest(msgspec.Struct):
    model: str | None = None
    name: str | None = None


class _Version(msgspec.Struct):
    version: str


_models = msgspec.json.Decoder(_Models)
_show = msgspec.json.Decoder(_Show)
_show_requests = msgspec.json.Decoder(_ShowRequest)
_version = msgspec.json.Decoder(_Version)


# ---- outward ---------------------------------------------------------------------------------------------------


def encode_models_request(page: str = "") -> WireRequest:  # noqa: ARG001 - there is one page only
    """Ask for the models that are there."""
    return WireRequest("/api/tags", method="GET")


def encode_running_request() -> WireRequest:
    """Ask for the models that are loaded; :func:`decode_models` reads the answer too."""
    return WireRequest("/api/ps", method="GET")


def encode_version_request() -> WireRequest:
    """Ask for the server's version."""
    return WireRequest("/api/version", method="GET")


def encode_show_request(model: str) -> WireRequest:
    """Ask what ``model`` is."""
    return WireRequest("/api/show", json_body({"model": model}), {"content-type": "application/json"})


def _read(decoder: msgspec.json.Decoder[Any], wire: WireResponse) -> Any:
    if wire.status >= 400:
        raise decode_error(wire)
    try:
        read = read_as(decoder, wire.body)
    except InvalidRequest as error:
        raise UpstreamFailed(f"answer: {error.message}", vendor_status=wire.status) from None
    if getattr(read, "error", None) is not None:
        raise decode_error(wire)
    return read


def decode_models(wire: WireResponse) -> tuple[list[ModelSpecification], str]:
    """Read the answer of ``/api/tags`` or ``/api/ps``; there is never a next page.

    Raises:
        ByenatosError: the body is an error, or no list.
    """
    read: _Models = _read(_models, wire)
    return [_specification(one) for one in read.models or ()], ""


def _specification(one: _Model) -> ModelSpecification:
    details = one.details or _Details()
    model = one.model or one.name or ""
    metadata = {"digest": one.digest, "modified_at": one.modified_at}
    return ModelSpecification(
        model,
        name=one.name or model,
        architecture=details.family or "",
        quantization=details.quantization_level or "",
        parameters=_count(details.parameter_size),
        context_length=one.context_length or 0,
        size_bytes=one.size or 0,
        features=_features(one.capabilities),
        metadata={name: value for name, value in metadata.items() if value},
    )


def _features(capabilities: list[str] | None) -> frozenset[str]:
    return frozenset(_FEATURES.get(word, word) for word in capabilities or ())


_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def _count(text: str | None) -> int:
    """Return the number that a size such as ``3.2B`` or ``134.52M`` stands for; 0 if it cannot be read."""
    if not text or len(text) > 16:
        return 0
    unit = _UNITS.get(text[-1].upper())
    try:
        return round(float(text if unit is None else text[:-1]) * (unit or 1))
    except (ValueError, OverflowError):
        return 0


def _size(parameters: int) -> str:
    for letter in "TBMK":
        if parameters >= _UNITS[letter]:
            return f"{parameters / _UNITS[letter]:.4g}{letter}"
    return str(parameters) if parameters else ""


def decode_show(wire: WireResponse, model: str) -> ModelSpecification:
    """Read the answer of ``/api/show`` about ``model``.

    Raises:
        ByenatosError: the body is an error, or no description.
    """
    read: _Show = _read(_show, wire)
    details = read.details or _Details()
    info = read.model_info or {}
    architecture = info.get("general.architecture") or details.family or ""
    length = info.get(f"{architecture}.context_length")
    parameters = info.get("general.parameter_count")
    return ModelSpecification(
        model,
        architecture=str(architecture),
        quantization=details.quantization_level or "",
        parameters=parameters if isinstance(parameters, int) else _count(details.parameter_size),
        context_length=length if isinstance(length, int) else 0,
        features=_features(read.capabilities),
    )


def decode_version(wire: WireResponse) -> str:
    """Read the answer of ``/api/version``.

    Raises:
        ByenatosError: the body is an error, or names no version.
    """
    read: _Version = _read(_version, wire)
    return read.version


# ---- inward ----------------------------------------------------------------------------------------------------


def _details(model: ModelSpecification) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf" if model.quantization else "",
        "family": model.architecture,
        "families": [model.architecture] if model.architecture else [],
        "parameter_size": _size(model.parameters),
        "quantization_level": model.quantization,
    }


def _capabilities(model: ModelSpecification) -> list[str]:
    """Return what a model can do in Ollama's words; one that only embeds does not complete."""
    words = {_CAPABILITIES[feature] for feature in model.features if feature in _CAPABILITIES}
    if words != {"embedding"}:
        words.add("completion")
    return sorted(words)


def _entry(model: ModelSpecification, created: int) -> dict[str, Any]:
    """Return a model of a list. Who has no digest gets one made from its name: clients tell models apart by it."""
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": model.metadata.get("modified_at") or created_at(created),
        "size": model.size_bytes,
        "digest": model.metadata.get("digest") or hashlib.sha256(model.id.encode()).hexdigest(),
        "details": _details(model),
    }


def encode_models(models: Sequence[ModelSpecification], created: int) -> WireResponse:
    """Write the answer of ``/api/tags``."""
    entries = [_entry(model, created) | {"capabilities": _capabilities(model)} for model in models]
    return WireResponse(json_body({"models": entries}), 200, dict(JSON))


def encode_running(models: Sequence[ModelSpecification], created: int, expires: int) -> WireResponse:
    """Write the answer of ``/api/ps``; ``expires``: until when they stay loaded, in seconds since the epoch."""
    entries = [
        {name: value for name, value in _entry(model, created).items() if name != "modified_at"}
        | {"expires_at": created_at(expires), "size_vram": 0, "context_length": model.context_length}
        for model in models
    ]
    return WireResponse(json_body({"models": entries}), 200, dict(JSON))


def decode_show_request(wire: WireRequest) -> str:
    """Return the model that ``/api/show`` asks about.

    Raises:
        InvalidRequest: the request names none.
    """
    read = read_as(_show_requests, wire.body)
    model = read.model or read.name
    if not model:
        raise InvalidRequest("model: expected a model's name, found none")
    return model


def encode_show(model: ModelSpecification, created: int) -> WireResponse:
    """Write the answer of ``/api/show``."""
    info: dict[str, Any] = {}
    if model.architecture:
        info["general.architecture"] = model.architecture
    if model.parameters:
        info["general.parameter_count"] = model.parameters
    if model.context_length:
        info[f"{model.architecture or 'model'}.context_length"] = model.context_length
    known = model.features & _CAPABILITIES.keys()
    body = {
        "modelfile": "",
        "parameters": "",
        "template": _TOLD_TEMPLATE if "tools" in known or not known else _PLAIN_TEMPLATE,
        "details": _details(model),
        "model_info": info,
        "capabilities": _capabilities(model),
        "modified_at": model.metadata.get("modified_at") or created_at(created),
    }
    return WireResponse(json_body(body), 200, dict(JSON))


def encode_version(version: str) -> WireResponse:
    """Write the answer of ``/api/version``."""
    return WireResponse(json_body({"version": version}), 200, dict(JSON))
