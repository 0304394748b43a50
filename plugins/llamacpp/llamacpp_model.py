"""One loaded model with one context of several sequences, over llama.cpp's C interface.

The high-level ``Llama`` class answers one request at a time, copies all logits and cannot continue a partial answer;
everything here is the C interface with the pointers kept in one place. Not thread-safe: after the constructor only the
engine's thread calls in.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from byenatos_sdk.files import open_file
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from llamacpp_candidates import likeliest
from llamacpp_library import llama, log
from llamacpp_settings import MAX_ROWS, CacheType, Settings

__all__ = ["Aborted", "Entry", "LlamaModel", "NoRoom"]

_CACHE_TYPES: dict[CacheType, int] = {
    "f16": llama.GGML_TYPE_F16,
    "q8_0": llama.GGML_TYPE_Q8_0,
    "q4_0": llama.GGML_TYPE_Q4_0,
}

LIKELIEST = 64
"""How many tokens to look at before sorting all."""


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


_libc = ctypes.CDLL(None)
_libc.fdopen.restype = ctypes.c_void_p
_libc.fclose.argtypes = [ctypes.c_void_p]


def _load(path: Path, parameters: Any) -> Any:
    """Load the weights from the open file that was granted, not from a name; ``None`` if llama.cpp cannot.

    Raises:
        InvalidRequest: it cannot be opened.
    """
    try:
        with open_file(path) as file:
            stream = ctypes.c_void_p(_libc.fdopen(os.dup(file.fileno()), b"rb"))
    except OSError as error:
        raise InvalidRequest(f"{path.name}: cannot be opened: {error.strerror}") from None
    try:
        return llama.llama_model_load_from_file_ptr(stream, parameters)
    finally:
        _libc.fclose(stream)


class LlamaModel:
    """Weights, vocabulary and context.

    Raises:
        InvalidRequest: llama.cpp cannot load the file.
        Unavailable: there is no memory for the context.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        log.errors.clear()
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = settings.gpu_layers
        parameters.use_extra_bufts = settings.repack
        self._model: Any = _load(path, parameters)
        if not self._model:
            raise InvalidRequest(f"{path.name}: llama.cpp cannot load it: {log.last_error()}")
        if llama.llama_model_has_encoder(self._model) or not llama.llama_model_has_decoder(self._model):
            llama.llama_model_free(self._model)
            raise InvalidRequest(f"{path.name}: expected a model that only decodes, found one with an encoder")
        self.vocab: Any = llama.llama_model_get_vocab(self._model)
        self.vocabulary = llama.llama_vocab_n_tokens(self.vocab)
        trained = llama.llama_model_n_ctx_train(self._model)
        wanted = settings.n_ctx or trained
        self._on_gpu = settings.gpu_layers != 0
        self._batch_size = max(settings.prefill_chunk, MAX_ROWS)
        context = llama.llama_context_default_params()
        context.n_ctx = min(wanted, trained) if trained > 0 else wanted
        context.n_seq_max = settings.parallel + 1  # the last is where ranges of the others are put together
        context.n_outputs_max = settings.parallel + 1  # else there is room for the logits of a whole batch
        context.n_batch = context.n_ubatch = self._batch_size
        context.n_threads = settings.decode_threads(path.stat().st_size)
        context.n_threads_batch = settings.prefill_threads()
        context.type_k = _CACHE_TYPES[settings.cache_type_k]
        context.type_v = _CACHE_TYPES[settings.cache_type_v]
        # One buffer for all sequences: any of them may use the whole context while the others do not need it.
        context.kv_unified = True
        context.no_perf = True
        self.context: Any = llama.llama_init_from_model(self._model, context)
        if not self.context:
            llama.llama_model_free(self._model)
            raise Unavailable(
                f"{path.name}: no context of {context.n_ctx} tokens for {settings.parallel} streams: "
                f"{log.last_error()}; choose a smaller n_ctx"
            )
        # llama.cpp rounds the size up; what the model was trained for stays the limit.
        self.context_length = min(llama.llama_n_ctx(self.context), context.n_ctx)
        self._memory: Any = llama.llama_get_memory(self.context)
        self._window = llama.llama_model_n_swa(self._model)
        self._batch: Any = llama.llama_batch_init(self._batch_size, 0, 1)
        self._buffer = ctypes.create_string_buffer(256)

    def close(self) -> None:
        """Free everything; the object is not used again."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self.context)
        llama.llama_model_free(self._model)

    # ---- vocabulary ----------------------------------------------------------------------------------------------

    @property
    def chat_template(self) -> str:
        """The template that came with the model, empty without one."""
        return self._metadata("tokenizer.chat_template")

    @property
    def bos(self) -> str:
        """The text of the token that begins a text, as templates write it."""
        return self._token_text(llama.llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> str:
        """The text of the token that ends a text, as templates write it."""
        return self._token_text(llama.llama_vocab_eos(self.vocab))

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of ``text``, special ones included, with exactly one BOS if the model wants one."""
        tokens = self._split(text.encode(errors="replace"), special=True)  # a template can write half a surrogate pair
        bos = llama.llama_vocab_bos(self.vocab)
        if llama.llama_vocab_get_add_bos(self.vocab) and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def tokens_of(self, text: str) -> list[int]:
        """Return tokens that stand for exactly the bytes of ``text``, none of them special.

        Raises:
            InvalidRequest: the vocabulary has none.
        """
        wanted = text.encode(errors="replace")
        # Some vocabularies put a space before a text: then the text follows on a line break, which is taken off again.
        for before in (b"", b"\n"):
            tokens = self._split(before + wanted, special=False)
            pieces = [self.piece(token) for token in tokens]
            for skipped in range(min(3, len(tokens) + 1)):
                if b"".join(pieces[skipped:]) == wanted:
                    return tokens[skipped:]
        raise InvalidRequest(f"the vocabulary has no tokens for {text[:80]!r}")

    def control_tokens(self, texts: Iterable[str]) -> dict[int, bytes]:
        """Return those of ``texts`` that are one token, by that token: control tokens have no bytes otherwise."""
        found = ((self._split(text.encode(), special=True), text) for text in texts)
        return {tokens[0]: text.encode() for tokens, text in found if len(tokens) == 1}

    def piece(self, token: int) -> bytes:
        """Return the bytes of ``token`` in an answer; nothing for control tokens."""
        return self._piece(token, special=False)

    def ends(self, token: int) -> bool:
        """Say whether ``token`` ends an answer."""
        return bool(llama.llama_vocab_is_eog(self.vocab, token))

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

    def by_likelihood(self, index: int) -> Iterator[int]:
        """Yield all tokens, the likeliest first, from the logits at ``index`` of the last step."""
        for count in (LIKELIEST, self.vocabulary):
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

    def _split(self, data: bytes, *, special: bool) -> list[int]:
        buffer = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(self.vocab, data, len(data), buffer, len(buffer), False, special)
        if count < 0:
            raise InvalidRequest(f"llama.cpp cannot split a text of {len(data)} bytes into tokens")
        return list(buffer[:count])

    @property
    def has_ranges(self) -> bool:
        """Whether the context holds a state for each position, and not only one of the whole."""
        return not (llama.llama_model_is_recurrent(self._model) or llama.llama_model_is_hybrid(self._model))

    @property
    def movable(self) -> bool:
        """Whether sequences can be copied out and in at little cost."""
        return self.has_ranges and not self._on_gpu

    def clear(self) -> None:
        """Empty all sequences."""
        llama.llama_memory_clear(self._memory, False)

    def save(self, sequence: int) -> bytearray | None:
        """Return what the context holds of ``sequence``, for :meth:`restore`; ``None`` if there is no memory for it."""
        size = llama.llama_state_seq_get_size(self.context, sequence)
        try:
            data = bytearray(size)
        except MemoryError:
            return None
        place = (ctypes.c_uint8 * size).from_buffer(data)
        written = llama.llama_state_seq_get_data(self.context, place, size, sequence)
        if written != size:
            raise RuntimeError(f"llama.cpp wrote {written} bytes of a state where it had announced {size}")
        return data

    def restore(self, sequence: int, data: bytearray) -> bool:
        """Put back into the empty ``sequence`` what :meth:`save` returned; return whether it fits."""
        place = (ctypes.c_uint8 * len(data)).from_buffer(data)
        return bool(llama.llama_state_seq_set_data(self.context, place, len(data), sequence) == len(data))

    @property
    def figures(self) -> dict[str, float]:
        """How the model was loaded, for the health report."""
        return {}

    def _metadata(self, key: str) -> str:
        length = llama.llama_model_meta_val_str(self._model, key.encode(), self._buffer, len(self._buffer))
        if length < 0:
            return ""
        buffer = ctypes.create_string_buffer(length + 1)
        llama.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def _token_text(self, token: int) -> str:
        return self._piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def _piece(self, token: int, *, special: bool) -> bytes:
        length = llama.llama_token_to_piece(self.vocab, token, self._buffer, len(self._buffer), 0, special)
        if length < 0:
            self._buffer = ctypes.create_string_buffer(-length)
            length = llama.llama_token_to_piece(self.vocab, token, self._buffer, -length, 0, special)
        return self._buffer.raw[:length]
