"""LoRA adapters: small files beside a model's that change it a little, listed in the model's settings."""

import ctypes
from pathlib import Path
from typing import Any

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_files import c_stream
from llamacpp_library import llama, log
from llamacpp_settings import Adapter

__all__ = ["load_adapters", "use_adapters"]

_HINT = (
    "; an adapter lies beside its model, and a sandbox gives a driver the model's file only (isolation = 'none' all)"
)


def load_adapters(weights: Any, folder: Path, wanted: list[Adapter | str]) -> list[tuple[Any, float]]:
    """Load the adapters ``wanted`` from ``folder``, before a context is made; return them with their scales.

    They live as long as ``weights``.

    Raises:
        InvalidRequest: one is missing, or does not fit the model.
    """
    loaded = []
    for one in wanted:
        adapter = Adapter(one) if isinstance(one, str) else one
        if Path(adapter.file).name != adapter.file:
            raise InvalidRequest(f"lora: expected the name of a file beside the model's, found {adapter.file!r}")
        with c_stream(folder / adapter.file, _HINT) as stream:
            found = llama.llama_adapter_lora_init_from_file_ptr(weights, stream)
        if not found:
            raise InvalidRequest(f"lora: {adapter.file}: llama.cpp cannot load it: {log.last_error()}")
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
