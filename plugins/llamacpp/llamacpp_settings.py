"""The settings that an operator may give, with their defaults and limits; an unknown key is refused."""

import os
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["CACHE_BYTES", "MAX_ROWS", "Adapter", "CacheType", "Settings", "read_settings"]

SMALL_MODEL = 1 << 30
"""Bytes below which one thread decodes: more threads wait for each other longer than they compute (measured)."""

MAX_ROWS = 60
"""The largest batch whose rows do not affect each other: from 64 on, attention is computed in tiles. It is a multiple
of 4, in which some matrix kernels take rows."""

CacheType: TypeAlias = Literal["f16", "q8_0", "q4_0"]
CACHE_BYTES = {"f16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18)}
"""Numbers in a block of a cache type, and the bytes that it takes."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 24)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class Adapter(Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter: its ``file``, beside the model's unless a whole path, and how strongly it is applied."""

    file: str
    scale: Annotated[float, Meta(ge=-10, le=10)] = 1.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[settings]`` of the manifest.

    ``n_ctx`` tokens of context are shared by at most ``parallel`` answers at a time (0: as many as the model was
    trained for). ``threads`` decode, ``batch_threads`` read prompts (0: chosen), at most ``prefill_chunk`` tokens per
    step, the first ``exact_tokens`` of one in a way that others do not affect. ``full_window``: layers
    that see a window of the context keep all of it. ``repack``: weights are
    rearranged in private memory for kernels that are faster with some files. ``gpu_layers`` go to a GPU
    (``auto`` or -1: as many as its free memory holds).
    ``lora`` lists adapters. ``pooling`` makes the vector of a text of at most ``embedding_tokens`` from its tokens'.
    The rest are defaults of requests that do not say; ``max_tokens`` of 0 means as many as the context holds.
    """

    n_ctx: Count = 4096
    parallel: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = 4
    threads: Annotated[int, Meta(ge=0, le=512)] = 0
    batch_threads: Annotated[int, Meta(ge=0, le=512)] = 0
    prefill_chunk: Annotated[int, Meta(ge=1, le=8192)] = 128
    exact_tokens: Count = 960
    repack: bool = False
    full_window: bool = True
    gpu_layers: Annotated[int, Meta(ge=-1, le=10_000)] | Literal["auto"] = 0
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    lora: Annotated[list[Adapter | str], Meta(max_length=16)] = []
    pooling: Literal["model", "mean", "cls", "last"] = "model"
    embedding_tokens: Annotated[int, Meta(ge=1, le=1 << 20)] = 1024
    max_tokens: Count = 1024
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.7
    top_k: Count = 40
    top_p: Share = 0.95
    min_p: Share = 0.05
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] = 1.1
    penalty_window: Annotated[int, Meta(ge=0, le=4096)] = 64

    def decode_threads(self, model_bytes: int) -> int:
        """Return how many threads generate one token of a model of ``model_bytes``."""
        return self.threads or (1 if model_bytes < SMALL_MODEL else _cores())

    def prefill_threads(self) -> int:
        """Return how many threads read a prompt, or several streams' tokens at once."""
        return self.batch_threads or _cores()


def read_settings(settings: dict[str, Any]) -> Settings:
    """Check ``settings``.

    Raises:
        InvalidRequest: naming the key, what was expected and what was found.
    """
    try:
        return msgspec.convert(settings, Settings)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"llamacpp settings: {error}") from None


def _cores() -> int:
    """Return how many threads make sense: one per core, but no more than the sandbox grants (``OMP_NUM_THREADS``)."""
    cores, granted = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(granted)) if granted.isdecimal() and int(granted) else cores
