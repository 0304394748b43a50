"""How many layers go to a GPU: as many as its free memory holds, unless the operator says."""

import importlib
from typing import Any

from llamacpp_gguf import Header
from llamacpp_memory import MemoryNeed
from llamacpp_settings import Settings

__all__ = ["choose_layers", "free_memory", "layers_that_fit"]

RESERVE = 512 << 20
"""What a GPU's driver, its kernels and their scratch take beside what is counted (bytes)."""


def choose_layers(header: Header, need: MemoryNeed, settings: Settings, free: int | None) -> int:
    """Return how many layers go to the GPU that has ``free`` bytes; ``None``: there is none that could be used."""
    if settings.gpu_layers not in {"auto", -1}:
        return int(settings.gpu_layers)
    return 0 if free is None else layers_that_fit(_layers(header), need, free)


def layers_that_fit(layers: int, need: MemoryNeed, free: int) -> int:
    """Return how many of ``layers``, and the output layer as one more, fit into ``free`` bytes with their context."""
    left = free - RESERVE - need.compute
    one = need.weights / (layers + 1) + need.kv / max(layers, 1)
    if left >= need.weights + need.kv:
        return layers + 1
    return max(0, min(int(left / one), layers))


def free_memory() -> int | None:
    """Return the free bytes of the first NVIDIA GPU, by NVML; ``None`` without one, or without ``pynvml``."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        try:
            return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(0)).free)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:
        return None


def _layers(header: Header) -> int:
    return header.number(f"{header.text('general.architecture')}.block_count")
