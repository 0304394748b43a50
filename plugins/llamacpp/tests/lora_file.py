"""Writes LoRA adapters for SmolLM2, of one matrix, in the smallest."""

import math
import struct
from pathlib import Path

__all__ = ["write_adapter"]

WIDTH, RANK = 576, 2


def write_adapter(path: Path, size: float, *, architecture: str = "llama", kind: str = "lora") -> None:
    """Write an adapter of rank 2 for the queries of the first layer, with numbers up to ``size``."""
    values = {"general.architecture": architecture, "general.type": "adapter", "adapter.type": kind}
    head = b"".join(_text(key) + struct.pack("<I", 8) + _text(value) for key, value in values.items())
    head += _text("adapter.lora.alpha") + struct.pack("<If", 6, 2.0)
    place = 0
    for name, shape in {"lora_a": (WIDTH, RANK), "lora_b": (RANK, WIDTH)}.items():
        head += _text(f"blk.0.attn_q.weight.{name}") + struct.pack("<IQQIQ", 2, *shape, 0, place)
        place += WIDTH * RANK * 4
    data = b"GGUF" + struct.pack("<IQQ", 3, 2, 4) + head
    data += b"\0" * (-len(data) % 32)
    numbers = (size * math.sin(at) for at in range(2 * WIDTH * RANK))
    path.write_bytes(data + struct.pack(f"<{2 * WIDTH * RANK}f", *numbers))


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
