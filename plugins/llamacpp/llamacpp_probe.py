"""Judge a file from its GGUF header: is it a language model that this driver can load, and which?

Used by the probe process only, which must answer at once: neither llama.cpp nor numpy is imported here.
"""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

from byenatos_sdk.files import open_file
from byenatos_sdk.protocol.control import ProbeResult
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import ModelSpecification
from llamacpp_gguf import Array, GGUFError, Header, read_header
from llamacpp_memory import MemoryNeed, context_tokens, estimate, token_bytes
from llamacpp_settings import Settings, read_settings

__all__ = ["FEATURES", "probe", "probe_file", "read_model"]

FEATURES = frozenset({"continue", "embeddings", "logprobs", "structured"})
"""Of every model. Those with a chat template follow instructions, so that they have ``tools`` as well."""

MAX_CONTEXT = 1 << 31
MAX_LINE = 200
METADATA = ("license", "author", "organization", "basename", "finetune", "size_label", "url", "source.url")
_NOT_A_MODEL = {"adapter": "a LoRA adapter", "mmproj": "a multimodal projector", "imatrix": "an importance matrix"}
# fmt: off
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}
# fmt: on
"""llama.cpp's ``general.file_type``, as people write it."""


def probe_file(path: Path, settings: dict[str, Any] | None = None) -> ProbeResult:
    """Say whether the file at ``path`` is a model for this driver; never raises for what a file contains.

    ``settings`` that are wrong are not the file's fault: they are told to whoever loads it.
    """
    try:
        wanted = read_settings(settings or {})
    except InvalidRequest:
        wanted = Settings()
    try:
        with open_file(path) as file:
            return probe(path.stem, file, wanted)
    except OSError as error:
        return ProbeResult(reason=f"cannot be read: {error.strerror or error}")


def probe(name: str, file: BinaryIO, settings: Settings | None = None) -> ProbeResult:
    """Say whether ``file`` is a model for this driver; ``name`` becomes its id."""
    try:
        _, specification = _read(name, file, settings or Settings())
    except GGUFError as error:
        return ProbeResult(reason=str(error))
    return ProbeResult(specification=specification)


def read_model(path: Path, settings: Settings) -> tuple[Header, ModelSpecification]:
    """Return the header of the model at ``path``, and its specification with ``settings``.

    Raises:
        InvalidRequest: it cannot be read, or is no model for this driver.
    """
    try:
        with open_file(path) as file:
            return _read(path.stem, file, settings)
    except OSError as error:
        raise InvalidRequest(f"{path.name}: cannot be read: {error.strerror or error}") from None
    except GGUFError as error:
        raise InvalidRequest(f"{path.name}: {error}") from None


def _read(name: str, file: BinaryIO, settings: Settings) -> tuple[Header, ModelSpecification]:
    header = read_header(file)
    reason = _refusal(header)
    if reason:
        raise GGUFError(reason)
    return header, _specification(name, header, file.seek(0, 2), settings)


def _refusal(header: Header) -> str:
    architecture, kind = _line(header.text("general.architecture")), _line(header.text("general.type"))
    if not architecture:
        return "expected a language model, found a GGUF file without general.architecture"
    if architecture == "clip" or kind in _NOT_A_MODEL:
        found = _NOT_A_MODEL.get(kind, "a multimodal projector")
        return f"expected a language model, found {found} ({architecture}); it belongs to a model, it is none"
    parts = header.number("split.count")
    if parts > 1:
        return (
            f"expected a whole model, found part {header.number('split.no') + 1} of {parts}; "
            "join the parts with 'llama-gguf-split --merge' first"
        )
    if not header.tensors:
        return f"expected a language model, found a GGUF file without tensors ({architecture})"
    if header.values.get(f"{architecture}.attention.causal") is False:
        return f"expected a model that generates text, found an embedding model ({architecture})"
    if not isinstance(header.values.get("tokenizer.ggml.tokens"), Array):
        return f"expected a language model, found one without a vocabulary ({architecture})"
    return ""


def _specification(name: str, header: Header, size_bytes: int, settings: Settings) -> ModelSpecification:
    architecture = header.text("general.architecture")
    quantization = _FILE_TYPES.get(header.number("general.file_type")) if "general.file_type" in header.values else None
    need = estimate(header, settings)
    metadata = {key: _line(header.text(f"general.{key}")) for key in METADATA}
    metadata |= _memory(header, settings, need)
    trained = min(header.number(f"{architecture}.context_length"), MAX_CONTEXT)
    metadata["trained_context_length"] = str(trained or "")
    return ModelSpecification(
        id=name,
        driver="llamacpp",
        name=_line(header.text("general.name")) or name,
        architecture=_line(architecture),
        quantization=quantization or header.weights,
        parameters=header.elements,
        context_length=min(context_tokens(header, settings), MAX_CONTEXT) if trained else settings.n_ctx,
        size_bytes=size_bytes,
        tokenizer=_tokenizer(header),
        features=FEATURES | ({"chat_template", "tools"} if header.text("tokenizer.chat_template") else set()),
        metadata={key: value for key, value in metadata.items() if value},
        memory_bytes=need.weights + need.private,
    )


def _memory(header: Header, settings: Settings, need: MemoryNeed) -> dict[str, str]:
    """Return what the model takes, in bytes: each token of context, and all of it with ``settings``."""
    return {
        "kv_bytes_per_token": str(token_bytes(header, settings)),
        "weights_bytes": str(need.weights),
        "kv_bytes": str(need.kv),
        "compute_bytes": str(need.compute + need.output + need.vocabulary),
    }


def _tokenizer(header: Header) -> str:
    """Name the tokenizer so that equal names mean equal tokens: its kind and a hash of its vocabulary and merges."""
    digest = hashlib.sha256()
    for key in ("tokens", "token_type", "merges"):
        value = header.values.get(f"tokenizer.ggml.{key}")
        digest.update(f"{key}={value.digest if isinstance(value, Array) else ''};".encode())
    kinds = (_line(header.text(f"tokenizer.ggml.{key}")) for key in ("model", "pre"))
    return ":".join([*(kind for kind in kinds if kind), digest.hexdigest()[:12]])


def _line(text: str) -> str:
    """Make foreign text fit to be printed on a terminal: one line, no control characters, not endless."""
    return "".join(character if character.isprintable() else " " for character in text[:MAX_LINE]).strip()
