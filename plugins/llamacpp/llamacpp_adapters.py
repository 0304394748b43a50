"""LoRA adapters: small files that change a model a little, listed in the model's settings.

Like a model's, their headers are read in Python first: llama.cpp is not made to be shown what is none.
"""

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from byenatos_sdk.files import open_file
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from llamacpp_files import c_stream
from llamacpp_gguf import GGUFError, read_header
from llamacpp_library import llama, log
from llamacpp_settings import Adapter

__all__ = ["identity", "load_adapters", "use_adapters"]


def load_adapters(
    weights: Any, folder: Path, wanted: list[Adapter | str], architecture: str
) -> list[tuple[Any, float]]:
    """Load the adapters ``wanted``, from ``folder`` unless they say, before a context is made; return their scales too.

    They live as long as ``weights``.

    Raises:
        InvalidRequest: one is missing, damaged, or does not fit the model.
    """
    loaded = []
    for adapter in _adapters(wanted):
        path = folder / adapter.file
        try:
            _check(path, architecture)
            with c_stream(path) as stream:
                found = llama.llama_adapter_lora_init_from_file_ptr(weights, stream)
        except InvalidRequest as error:
            raise InvalidRequest(f"lora: {error.message}") from None
        if not found:
            raise InvalidRequest(f"lora: {path.name}: llama.cpp cannot load it: {log.last_error()}")
        loaded.append((found, adapter.scale))
    return loaded


def use_adapters(context: Any, loaded: list[tuple[Any, float]]) -> None:
    """Apply ``loaded`` to everything that ``context`` computes.

    Raises:
        InvalidRequest: llama.cpp refuses.
    """
    if not loaded:
        return
    adapters = (llama.llama_adapter_lora_p_ctypes * len(loaded))(*(adapter for adapter, _ in loaded))
    scales = (ctypes.c_float * len(loaded))(*(scale for _, scale in loaded))
    if llama.llama_set_adapters_lora(context, adapters, len(loaded), scales):
        raise InvalidRequest(f"lora: llama.cpp cannot apply the adapters: {log.last_error()}")


def identity(folder: Path, wanted: list[Adapter | str], digests: Mapping[str, str]) -> str:
    """Say which adapters are applied, and how strongly: equal ones change a model alike.

    Raises:
        Unavailable: one has no digest.
    """
    said = []
    for adapter in _adapters(wanted):
        digest = digests.get(str(folder / adapter.file))
        if not digest:
            raise Unavailable(f"lora: {adapter.file}: expected the digest of the file from the kernel, found none")
        said.append(f"{digest}*{adapter.scale!r}")
    return "+".join(said)


def _adapters(wanted: list[Adapter | str]) -> Iterator[Adapter]:
    for one in wanted:
        yield Adapter(one) if isinstance(one, str) else one


def _check(path: Path, architecture: str) -> None:
    """Refuse what is no LoRA adapter for a model of this ``architecture``."""
    try:
        with open_file(path) as file:
            header = read_header(file)
    except OSError as error:
        raise InvalidRequest(f"{path.name}: cannot be opened: {error.strerror or error}") from None
    except GGUFError as error:
        raise InvalidRequest(f"{path.name}: {error}") from None
    kind = header.text("general.type"), header.text("adapter.type")
    if kind != ("adapter", "lora"):
        raise InvalidRequest(f"{path.name}: expected a LoRA adapter, found {' '.join(filter(None, kind)) or 'none'}")
    if header.text("general.architecture") != architecture:
        raise InvalidRequest(
            f"{path.name}: expected an adapter for {architecture}, found one for {header.text('general.architecture')}"
        )
