"""How much memory a model will take, from the header of its file alone.

Weights are mapped from the file: pages that the system can drop and that processes share. Private are the context (the
keys and values of each token that it holds), the buffer that a step computes in, its results, and the vocabulary. The
context is exact; the others follow llama.cpp's allocations, within a few percent where attention is fused.

Source of the formulas: ``llama-kv-cache*.cpp``, ``llama-hparams.cpp`` and ``llama-memory-recurrent.cpp`` of llama.cpp;
the factors of ``compute`` were fitted to its reports (a test compares them with what it allocates).
"""

from msgspec import Struct

from llamacpp_gguf import MAX_LAYERS, Array, Header
from llamacpp_settings import CACHE_BYTES, MAX_ROWS, Settings

__all__ = ["MemoryNeed", "context_tokens", "estimate", "token_bytes"]

_F32, _F16 = 4, 2
_PAD = 256
"""llama.cpp rounds the size of a context up to a multiple of this."""

_COMPUTE_WIDTHS, _COMPUTE_FORWARDS = 1.75, 4.0
"""How many rows as wide as the model, and as its feed-forward layer, a step holds at once for each token."""

_WORD_BYTES, _MERGE_BYTES = 170, 190
"""What llama.cpp's tables take for each token and for each merge of the vocabulary (measured)."""

_DENSE_EVERY = {
    "afmoe": 4, "cohere2": 4, "cohere2moe": 4, "exaone-moe": 4, "exaone4": 4, "gemma2": 2, "gemma3": 6, "gemma3n": 5,
    "gpt-oss": 2, "llama4": 4, "olmo2": 4, "plamo3": 8, "smallthinker": 4,
}  # fmt: skip
"""Of so many layers one sees all of the context, the others a window of it; where the file does not say."""

_DENSE_FIRST = frozenset({"cohere2moe", "smallthinker"})


class MemoryNeed(Struct, frozen=True):
    """Bytes. ``weights`` are mapped, all else is private."""

    weights: int
    kv: int
    compute: int
    output: int
    vocabulary: int

    @property
    def private(self) -> int:
        """What no other process shares."""
        return self.kv + self.compute + self.output + self.vocabulary


def estimate(header: Header, settings: Settings) -> MemoryNeed:
    """Say what the model will take with ``settings``."""
    cells = _padded(context_tokens(header, settings))
    layers = _layer_bytes(header, settings)
    window = header.number(_key(header, "attention.sliding_window"))
    rows = max(settings.prefill_chunk, MAX_ROWS)
    windowed = _windowed(header, len(layers)) if window else [False] * len(layers)
    narrow = cells
    if not settings.full_window:
        narrow = min(cells, _padded(window * (settings.parallel + 1) + rows))
    kv = sum(size * (narrow if is_windowed else cells) for size, is_windowed in zip(layers, windowed, strict=True))
    masks = len({narrow if is_windowed else cells for is_windowed in windowed}) + (len(set(windowed)) - 1) * (
        narrow == cells
    )
    width = header.number(_key(header, "embedding_length"))
    forward = max(header.per_layer(_key(header, "feed_forward_length"), len(layers), 0), default=0)
    forward = max(forward, header.number(_key(header, "expert_feed_forward_length")) * _experts(header))
    row = (_COMPUTE_WIDTHS * width + _COMPUTE_FORWARDS * forward) * _F32 + masks * cells * _F16
    words, merges = (_count(header, f"tokenizer.ggml.{key}") for key in ("tokens", "merges"))
    output = (settings.parallel + 1) * words * _F32
    return MemoryNeed(
        header.weight_bytes,
        kv + _recurrent_bytes(header, settings),
        max(int(row * rows), output),
        output,
        words * _WORD_BYTES + merges * _MERGE_BYTES,
    )


def token_bytes(header: Header, settings: Settings) -> int:
    """Return what each token of context takes."""
    return sum(_layer_bytes(header, settings))


def context_tokens(header: Header, settings: Settings) -> int:
    """Return how many tokens of context there will be."""
    trained = header.number(_key(header, "context_length"))
    wanted = settings.n_ctx or trained
    return min(wanted, trained) if trained > 0 else wanted


def _layer_bytes(header: Header, settings: Settings) -> list[int]:
    """Return for each layer what one token's key and value take: 2 x heads x head size, in the cache's types."""
    count = max(_layers(header) - header.number(_key(header, "nextn_predict_layers")), 0)
    heads = header.per_layer(_key(header, "attention.head_count"), count, 1)
    kv_heads = header.per_layer(_key(header, "attention.head_count_kv"), count, 0)
    if _key(header, "attention.head_count_kv") not in header.values:
        kv_heads = heads
    width = header.number(_key(header, "embedding_length"))
    usual = width // heads[0] if heads and heads[0] else 0
    key = header.number(_key(header, "attention.key_length")) or usual
    value = header.number(_key(header, "attention.value_length")) or usual
    if _key(header, "attention.key_length_mla") in header.values:
        value = 0  # a part of the key
    shared = header.number(_key(header, "attention.shared_kv_layers"))
    sizes = [
        _row_bytes(number * key, settings.cache_type_k) + _row_bytes(number * value, settings.cache_type_v)
        for number in kv_heads
    ]
    return sizes[: max(count - shared, 0)] + [0] * min(shared, count)


def _row_bytes(numbers: int, kind: str) -> int:
    per_block, block_bytes = CACHE_BYTES[kind]
    return numbers // per_block * block_bytes


def _windowed(header: Header, layers: int) -> list[bool]:
    """Say for each layer whether it sees a window of the context only."""
    pattern = header.values.get(_key(header, "attention.sliding_window_pattern"))
    if isinstance(pattern, Array):
        return ([bool(item) for item in pattern.items] + [False] * layers)[:layers]
    architecture = header.text("general.architecture")
    every = header.number(_key(header, "attention.sliding_window_pattern")) or _DENSE_EVERY.get(architecture, 1)
    if architecture in _DENSE_FIRST:
        return [layer % every != 0 for layer in range(layers)]
    return [layer % every < every - 1 for layer in range(layers)]


def _recurrent_bytes(header: Header, settings: Settings) -> int:
    """Return what the states of recurrent layers take (Mamba's): one for each sequence."""
    inner, state = header.number(_key(header, "ssm.inner_size")), header.number(_key(header, "ssm.state_size"))
    if not inner:
        return 0
    layers = _layers(header)
    kv_heads = header.per_layer(_key(header, "attention.head_count_kv"), layers, 0)
    groups, kernel = header.number(_key(header, "ssm.group_count")), header.number(_key(header, "ssm.conv_kernel"))
    one = (max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner) * _F32
    return one * kv_heads.count(0) * (settings.parallel + 1)


def _layers(header: Header) -> int:
    return min(header.number(_key(header, "block_count")), MAX_LAYERS)


def _experts(header: Header) -> int:
    return header.number(_key(header, "expert_used_count"))


def _count(header: Header, key: str) -> int:
    value = header.values.get(key)
    return value.count if isinstance(value, Array) else 0


def _key(header: Header, name: str) -> str:
    return f"{header.text('general.architecture')}.{name}"


def _padded(count: int) -> int:
    return -(-count // _PAD) * _PAD
