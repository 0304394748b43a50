"""One loaded model with one context of several sequences, over llama.cpp's C interface.

The high-level ``Llama`` class answers one request at a time, copies all logits and cannot continue a partial answer;
everything here is the C interface with the pointers kept in one place. Not thread-safe: after the constructor only the
engine's thread calls in.
"""

import ctypes
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from llamacpp_adapters import load_adapters, use_adapters
from llamacpp_available import bounds, check_memory
from llamacpp_candidates import likeliest
from llamacpp_embedding import Embedder
from llamacpp_files import c_stream
from llamacpp_gguf import Header
from llamacpp_gpu import choose_layers, free_memory
from llamacpp_library import llama, log
from llamacpp_memory import estimate
from llamacpp_pages import without_cleared_pages
from llamacpp_settings import MAX_ROWS, CacheType, Settings
from llamacpp_threads import candidates, fastest
from llamacpp_vocabulary import Vocabulary

__all__ = ["Aborted", "Entry", "LlamaModel", "NoRoom"]

_CACHE_TYPES: dict[CacheType, int] = {
    "f16": llama.GGML_TYPE_F16,
    "q8_0": llama.GGML_TYPE_Q8_0,
    "q4_0": llama.GGML_TYPE_Q4_0,
}


class NoRoom(Exception):
    """llama.cpp found no room in the context for a batch; the context is as it was before."""


class Aborted(Exception):
    """The step was stopped on the way; what it was to compute is not in the context."""


class Entry(NamedTuple):
    """One token of a batch: where it goes, and whether the next token will be sampled after it."""

    token: int
    position: int
    sequence: int
    sampled: bool


class LlamaModel(Vocabulary):
    """Weights, vocabulary and context of the file at ``path``, of which ``header`` was read.

    Raises:
        InvalidRequest: llama.cpp cannot load the file.
        Unavailable: there is not enough memory, by the estimate or by llama.cpp.
    """

    def __init__(self, path: Path, settings: Settings, header: Header) -> None:
        log.errors.clear()
        log.buffers.clear()
        self._need = estimate(header, settings)
        check_memory(path.name, self._need, bounds())
        llama.llama_backend_init()
        free = free_memory() if llama.llama_supports_gpu_offload() else None
        self._gpu_layers = choose_layers(header, self._need, settings, free)
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = self._gpu_layers
        parameters.use_extra_bufts = settings.repack
        with c_stream(path) as stream:
            weights: Any = llama.llama_model_load_from_file_ptr(stream, parameters)
        if not weights:
            raise InvalidRequest(f"{path.name}: llama.cpp cannot load it: {log.last_error()}")
        if llama.llama_model_has_encoder(weights) or not llama.llama_model_has_decoder(weights):
            llama.llama_model_free(weights)
            raise InvalidRequest(f"{path.name}: expected a model that only decodes, found one with an encoder")
        super().__init__(weights)
        try:
            adapters = load_adapters(weights, path.parent, settings.lora, header.text("general.architecture"))
        except InvalidRequest:
            llama.llama_model_free(weights)
            raise
        trained = llama.llama_model_n_ctx_train(self._model)
        wanted = settings.n_ctx or trained
        self._settings = settings
        self._embedder: Embedder | None = None
        self._scratch = settings.parallel
        self._batch_size = max(settings.prefill_chunk, MAX_ROWS)
        context = llama.llama_context_default_params()
        context.n_ctx = min(wanted, trained) if trained > 0 else wanted
        context.n_seq_max = settings.parallel + 1  # the last is where ranges of the others are put together
        context.n_outputs_max = settings.parallel + 1  # else there is room for the logits of a whole batch
        context.n_batch = context.n_ubatch = self._batch_size
        self._threads = settings.decode_threads(self._need.weights)
        context.n_threads = self._threads
        context.n_threads_batch = settings.prefill_threads()
        context.type_k = _CACHE_TYPES[settings.cache_type_k]
        context.type_v = _CACHE_TYPES[settings.cache_type_v]
        # One buffer for all sequences: any of them may use the whole context while the others do not need it.
        context.kv_unified = True
        context.swa_full = settings.full_window
        context.no_perf = True
        with without_cleared_pages():
            self.context: Any = llama.llama_init_from_model(self._model, context)
        if not self.context:
            llama.llama_model_free(self._model)
            raise Unavailable(
                f"{path.name}: no context of {context.n_ctx} tokens for {settings.parallel} streams: "
                f"{log.last_error()}; choose a smaller n_ctx"
            )
        use_adapters(self.context, adapters)
        self._allocated = Counter(log.buffers)
        # llama.cpp rounds the size up; what the model was trained for stays the limit.
        self.context_length = min(llama.llama_n_ctx(self.context), context.n_ctx)
        self._memory: Any = llama.llama_get_memory(self.context)
        self._window = llama.llama_model_n_swa(self._model)
        self._batch: Any = llama.llama_batch_init(self._batch_size, 0, 1)

    def embedder(self) -> Embedder:
        """Return what makes vectors of texts; made when it is asked for first.

        Raises:
            Unavailable: there is no memory for it.
        """
        if self._embedder is None:
            self._embedder = Embedder(self._model, self, self._settings, self._settings.prefill_threads())
        return self._embedder

    def close(self) -> None:
        """Free everything; the object is not used again."""
        if self._embedder is not None:
            self._embedder.close()
        llama.llama_batch_free(self._batch)
        llama.llama_free(self.context)
        llama.llama_model_free(self._model)

    # ---- context -------------------------------------------------------------------------------------------------

    def decode(self, entries: list[Entry]) -> None:
        """Compute one step; afterwards the logits of every sampled entry can be read at its index.

        Raises:
            NoRoom: the context is full.
        Aborted: the callback that asks whether to go on said no.
            RuntimeError: llama.cpp failed; the context cannot be trusted any more.
        """
        batch = self._batch
        for index, (token, position, sequence, sampled) in enumerate(entries):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = sampled
        batch.n_tokens = len(entries)
        code = llama.llama_decode(self.context, batch)
        if code == 1:
            raise NoRoom
        if code == 2:
            raise Aborted
        if code:
            raise RuntimeError(f"llama_decode failed with code {code}: {log.last_error()}")

    def by_likelihood(self, index: int, count: int) -> Iterator[int]:
        """Yield ``count`` tokens, the likeliest first, from the logits at ``index`` of the last step."""
        yield from (token for token, _ in likeliest(self.context, index, count))

    def keep(self, sequence: int, count: int) -> int:
        """Forget all but the first ``count`` tokens of ``sequence``; return how many could really be kept.

        A model with a sliding window may have dropped what lies before the window, and a recurrent one has only its
        last state: then nothing is kept.
        """
        first = llama.llama_memory_seq_pos_min(self._memory, sequence)
        reachable = first <= max(0, count - self._window) if self._window else first <= 0
        if count and reachable and llama.llama_memory_seq_rm(self._memory, sequence, count, -1):
            return count
        llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return 0

    @property
    def has_ranges(self) -> bool:
        """Whether the context holds a state for each position, and not only one of the whole."""
        return not (llama.llama_model_is_recurrent(self._model) or llama.llama_model_is_hybrid(self._model))

    @property
    def movable(self) -> bool:
        """Whether sequences can be copied out and in at little cost."""
        return self.has_ranges and not self._gpu_layers

    def clear(self) -> None:
        """Empty all sequences."""
        llama.llama_memory_clear(self._memory, False)

    def save(self, sequence: int, start: int = 0) -> bytearray | None:
        """Return what the context holds of ``sequence`` from ``start`` on; ``None`` if there is no memory for it."""
        if start:
            llama.llama_memory_seq_cp(self._memory, sequence, self._scratch, start, -1)
            sequence = self._scratch
        try:
            size = llama.llama_state_seq_get_size(self.context, sequence)
            data = bytearray(size)
            place = (ctypes.c_uint8 * size).from_buffer(data)
            written = llama.llama_state_seq_get_data(self.context, place, size, sequence)
        except MemoryError:
            return None
        finally:
            llama.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)
        if written != size:
            raise RuntimeError(f"llama.cpp wrote {written} bytes of a state where it had announced {size}")
        return data

    def restore(self, sequence: int, data: bytearray, start: int = 0) -> bool:
        """Put what :meth:`save` returned behind the ``start`` tokens that ``sequence`` has; return whether it fits."""
        target = self._scratch if start else sequence  # llama.cpp empties it first
        place = (ctypes.c_uint8 * len(data)).from_buffer(data)
        fits = bool(llama.llama_state_seq_set_data(self.context, place, len(data), target) == len(data))
        if start:
            llama.llama_memory_seq_cp(self._memory, self._scratch, sequence, -1, -1)
            llama.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)
        return fits

    @property
    def shares(self) -> bool:
        """Whether several sequences can hold the same cells."""
        return self.has_ranges and (self._settings.full_window or not self._window)

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        """Have ``target`` hold the positions from ``start`` to ``stop`` of ``source``, in the same cells."""
        llama.llama_memory_seq_cp(self._memory, source, target, start, stop)

    def measure_threads(self) -> None:
        """Find out how many threads generate a token fastest, unless the operator said. The context is empty after."""
        if self._settings.threads:
            return
        batch_threads = self._settings.prefill_threads()
        token = Entry(max(llama.llama_vocab_bos(self.vocab), 0), 0, 0, sampled=True)

        def step(threads: int) -> None:
            llama.llama_set_n_threads(self.context, threads, batch_threads)
            self.clear()
            self.decode([token])

        self._threads = fastest(candidates(batch_threads), step)
        llama.llama_set_n_threads(self.context, self._threads, batch_threads)
        self.clear()

    @property
    def figures(self) -> dict[str, float]:
        """How the model was loaded, for the health report: threads, layers on a GPU, memory estimated and allocated."""
        need, found = self._need, self._allocated
        estimated = need.kv + need.compute + need.output
        measured = sum(found[kind] for kind in ("KV", "RS", "compute", "output"))
        return {
            "threads": self._threads,
            "gpu_layers": self._gpu_layers,
            "memory_estimated_bytes": estimated,
            "memory_measured_bytes": measured,
            "memory_error": estimated / measured - 1 if measured else 0.0,
            "kv_estimated_bytes": need.kv,
            "kv_measured_bytes": found["KV"] + found["RS"],
        }
