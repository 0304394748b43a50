"""Ranges of the context as bytes, and back: what moves answers and conversations between instances.

llama.cpp writes whole sequences only. A range becomes one by tagging its cells with a second sequence
(``llama_memory_seq_cp`` copies tags, not cells, in a context with one buffer for all): the sequence :attr:`_scratch`,
one more than answers may use, is tagged, written, and untagged again, in half a millisecond and without touching the
sequence that goes on growing. The way back is the same: bytes are read into the scratch sequence, checked, and handed
to the sequence that they continue.

A piece is its tokens, four bytes each, then llama.cpp's bytes. llama.cpp itself accepts nearly anything (of 400 mutated
states, 272), which is why the kernel seals pieces; here only what does not fit *this* context is found: another range,
tokens outside of the vocabulary, another size.

Everything in :class:`ContextState` but the fingerprint runs on the engine's thread, between two steps.

Not every context can do it. A recurrent model has one state and no ranges. What follows is the same to the bit only
where the arithmetic is: as many threads, as large batches, nobody beside (matrix kernels round differently with the
batch's size), and the cells of a sequence in order, because attention sums them up in the order in which they lie. In a
context where sequences have come and gone they do not, and no two such contexts are alike: the fingerprint says so.
"""

import ctypes
import hashlib
import secrets
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from byenatos_sdk.driver import Call, Model
from byenatos_sdk.protocol.errors import InvalidRequest, Overloaded, Unavailable
from byenatos_sdk.protocol.messages import InferenceRequest, user
from byenatos_sdk.protocol.warm import Fingerprint, Holding, Piece, SubjectId
from byenatos_sdk.warm import Resumption, State, missing
from llamacpp_adapters import identity
from llamacpp_chat import ChatTemplate
from llamacpp_engine import AGAIN, Engine
from llamacpp_library import llama
from llamacpp_model import Entry, LlamaModel
from llamacpp_nobody import NoCall
from llamacpp_progress import Opening, Progress, read_progress
from llamacpp_room import HeldSequence
from llamacpp_settings import Settings
from llamacpp_stream import Stream

__all__ = ["ContextState"]

PIECE_TOKENS = 256
"""The longest range in one piece: it costs the other answers less than a millisecond between two of their tokens."""

TOKEN = 4


@cache
def _engine_digest() -> str:
    """The digest of the library that was loaded: its build decides what a state looks like."""
    return hashlib.sha256(Path(llama._lib._name).read_bytes()).hexdigest()  # noqa: SLF001 - the library's own name for itself


class ContextState:
    """Exports from, and imports into, the sequences of ``engine``."""

    def __init__(self, engine: Engine, model: LlamaModel, template: ChatTemplate, settings: Settings) -> None:
        self._engine = engine
        self._model = model
        self._template = template
        self._settings = settings
        self._memory: Any = llama.llama_get_memory(model.context)
        self._scratch = settings.parallel
        self._token_bytes = 0  # what a token took in the last piece
        self._own = secrets.token_hex(8)  # what no other context has

    def touch(self) -> None:
        """Take one step of an answer that nobody hears: what a process does for the first time is slow.

        Memory is mapped at its first use, and copied where it is shared with the process that this one was forked from:
        the weights alone are a thousand page faults, which an answer that moves here would wait for.
        """
        plain = (token for token in range(self._model.vocabulary) if not self._model.ends(token))
        token = next((token for token in plain if self._model.piece(token)), 0)
        progress = Progress(Opening(1, 1, None, (), lstrip=False), 0, 0, [token]).encode()
        nobody = NoCall(InferenceRequest((user(""),)))
        stream = Stream(nobody, self._model, self._template, self._settings, progress=read_progress(progress))
        try:
            self._model.decode([Entry(token, 0, self._scratch, sampled=True)])
            stream.advance(0)
        finally:
            stream.close()
            llama.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)

    def fingerprint(self, model: Model) -> Fingerprint:
        """Say what a state of this model means: file, engine, layout of the cache; and how it is computed with.

        A context in which sequences do not lie in order has no equal. May be called from any thread.

        Raises:
            Unavailable: the state depends on what has no digest, or has no ranges.
        """
        settings, context = self._settings, self._model.context
        if not model.digest:
            raise Unavailable(f"{model.id}: expected the digest of its file from the kernel, found none")
        if not settings.full_window:
            raise Unavailable(f"{model.id}: a state of a part of a sliding window is not moved")
        layout = (
            f"model={model.digest} engine={_engine_digest()} k={settings.cache_type_k} v={settings.cache_type_v} "
            f"unified order={sys.byteorder}"
        )
        if settings.lora:
            assert model.path is not None
            layout += f" lora={identity(model.path.parent, settings.lora, model.files)}"
        arithmetic = (
            f"threads={llama.llama_n_threads(context)} batch_threads={llama.llama_n_threads_batch(context)} "
            f"chunk={settings.prefill_chunk} exact={settings.exact_tokens} parallel={settings.parallel} "
            f"gpu_layers={settings.gpu_layers} repack={settings.repack}"
        )
        if self._engine.scattered:
            arithmetic += f" scattered={self._own}.{self._engine.scattered}"
        return Fingerprint(layout, arithmetic)

    # ---- out -----------------------------------------------------------------------------------------------------

    def holdings(self) -> tuple[Holding, ...]:
        """The sessions that no answer uses."""
        idle = [one for one in self._engine.sequences if one.free and one.session and one.tokens]
        latest = {one.session: one for one in sorted(idle, key=lambda one: one.used_at)}
        return tuple(
            Holding(session, len(one.tokens), len(one.tokens) * self._token_bytes)
            for session, one in latest.items()
            if session is not None
        )

    def reach(self, subject: SubjectId, position: int) -> object:
        """To where the subject's state goes, or ``AGAIN`` while that is before ``position``."""
        stream = self._engine.answer(subject) if isinstance(subject, int) else None
        sequence = self._holding(stream) if stream is not None else self._sequence(subject)
        held = len(sequence.tokens) if sequence is not None else 0
        return held if held >= position else AGAIN

    def export(self, subject: SubjectId, start: int, into: memoryview, *, freeze: bool = False) -> Piece:
        """Write the range from ``start`` on, as far as it goes and ``into`` takes; hold the answer with ``freeze``."""
        stream = self._engine.answer(subject) if isinstance(subject, int) else None
        sequence = self._holding(stream) if stream is not None else self._sequence(subject)
        held = len(sequence.tokens) if sequence is not None else 0
        if not 0 <= start <= held:
            raise InvalidRequest(f"expected a start of at most {held}, where the state of {subject!r} ends: {start}")
        if freeze and stream is not None:
            stream.frozen = True
        stop, size = (start, 0) if sequence is None or start == held else self._write(sequence, start, held, into)
        return Piece(start, stop, size, stream.progress(stop).encode() if stream is not None else b"")

    def thaw(self, subject: int) -> None:
        """Let a frozen answer go on."""
        stream = self._engine.answer(subject)
        if stream is None:
            raise missing(subject)
        stream.frozen = False

    def release(self, subject: SubjectId) -> None:
        """Forget what is kept for a subject that does not run."""
        for one in self._engine.sequences:
            if one.stream is None and subject in {one.reserved, one.session}:
                one.reserved = None
                self._engine.forget(one)

    def _sequence(self, subject: SubjectId) -> HeldSequence:
        """Where the subject's state is."""
        mine = [
            one
            for one in self._engine.sequences
            if (
                one.reserved == subject or (one.stream is not None and one.stream.call.id == subject)
                if isinstance(subject, int)
                else one.free and one.session == subject and one.tokens
            )
        ]
        if not mine:
            raise missing(subject)
        return max(mine, key=lambda one: one.used_at)

    def _holding(self, stream: Stream) -> HeldSequence | None:
        """The sequence of an answer; none for one that waits in line."""
        return next((one for one in self._engine.sequences if one.stream is stream), None)

    def _write(self, sequence: HeldSequence, start: int, held: int, into: memoryview) -> tuple[int, int]:
        """Write a piece and return where it stops and its size."""
        count = min(held - start, PIECE_TOKENS)
        if self._token_bytes:
            count = max(1, min(count, len(into) // self._token_bytes))
        while True:
            llama.llama_memory_seq_cp(self._memory, sequence.id, self._scratch, start, start + count)
            try:
                size = int(llama.llama_state_seq_get_size(self._model.context, self._scratch))
                whole = count * TOKEN + size
                self._token_bytes = -(-whole // count)
                if whole <= len(into):
                    self._write_scratch(sequence.tokens[start : start + count], size, into)
                    return start + count, whole
            finally:
                llama.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)
            if count == 1:
                raise Overloaded(f"a piece of one token takes {whole} bytes, the place for it has {len(into)}")
            count = max(1, min(count // 2, len(into) // self._token_bytes))

    def _write_scratch(self, tokens: list[int], size: int, into: memoryview) -> None:
        head = len(tokens) * TOKEN
        into[:head] = array("i", tokens).tobytes()
        place = (ctypes.c_uint8 * size).from_buffer(into, head)
        written = llama.llama_state_seq_get_data(self._model.context, place, size, self._scratch)
        if written != size:
            raise Unavailable(f"llama.cpp wrote {written} bytes of a state where it had announced {size}")

    # ---- in ------------------------------------------------------------------------------------------------------

    def restore(self, subject: SubjectId, states: Sequence[State]) -> None:
        """Put states behind what the subject has; a subject that has nothing begins in a free sequence."""
        if isinstance(subject, int):
            sequence = next((one for one in self._engine.sequences if one.reserved == subject), None)
        else:
            idle = (one for one in self._engine.sequences if one.free and one.session == subject)
            sequence = max(idle, key=lambda one: one.used_at, default=None)
        if sequence is None or (isinstance(subject, str) and states and states[0].start == 0):
            sequence = sequence or self._engine.take_free()
            self._engine.forget(sequence)
            sequence.reserved = subject if isinstance(subject, int) else None
            sequence.session = subject if isinstance(subject, str) else None
        sequence.used_at = self._engine.steps
        try:
            for state in states:
                self._read(sequence, state)
        except Exception:
            sequence.reserved = None
            self._engine.forget(sequence)
            raise

    def resume(self, call: Call, resumption: Resumption) -> None:
        """Put the last states behind what was restored for ``call``, and have its answer go on there."""
        subject = call.id
        self.restore(subject, resumption.states)
        sequence = self._sequence(subject)
        try:
            stream = Stream(
                call,
                self._model,
                self._template,
                self._settings,
                progress=read_progress(resumption.progress),
                known=sequence.tokens,
                said=resumption.said,
            )
            _check_ahead(stream, sequence)
        except Exception:
            self.release(subject)
            raise
        sequence.reserved = None
        self._engine.adopt(sequence, stream)

    def _read(self, sequence: HeldSequence, state: State) -> None:
        """Put one state behind what ``sequence`` holds."""
        count = state.stop - state.start
        if state.start != len(sequence.tokens) or not 0 < count <= PIECE_TOKENS:
            raise InvalidRequest(
                f"expected a state from {len(sequence.tokens)} on, of at most {PIECE_TOKENS} tokens, found one from "
                f"{state.start} to {state.stop}"
            )
        head = count * TOKEN
        tokens = array("i", bytes(state.data[:head])).tolist() if len(state.data) > head else []
        if not tokens or any(not 0 <= token < self._model.vocabulary for token in tokens):
            raise InvalidRequest(f"expected {count} tokens of this model and their state, found something else")
        if not self._engine.room_for(count):
            raise Overloaded(f"there is no room in the context for {count} tokens more")
        size = len(state.data) - head
        place = (ctypes.c_uint8 * size).from_buffer(state.data, head)
        memory, scratch = self._memory, self._scratch
        try:
            read = llama.llama_state_seq_set_data(self._model.context, place, size, scratch)
            first, last = (
                llama.llama_memory_seq_pos_min(memory, scratch),
                llama.llama_memory_seq_pos_max(memory, scratch),
            )
            if read != size or (first, last) != (state.start, state.stop - 1):
                raise InvalidRequest(
                    f"expected a state of {size} bytes for {state.start} to {state.stop}, llama.cpp found one of "
                    f"{read} for {first} to {last + 1}"
                )
            llama.llama_memory_seq_cp(memory, scratch, sequence.id, -1, -1)
        finally:
            llama.llama_memory_seq_rm(memory, scratch, -1, -1)
        sequence.tokens += tokens


def _check_ahead(stream: Stream, sequence: HeldSequence) -> None:
    """Close an answer that cannot go on from what ``sequence`` holds.

    Raises:
        InvalidRequest: it is not what the sequence holds and one token more, at least.
    """
    held = len(sequence.tokens)
    if stream.tokens[:held] != sequence.tokens or len(stream.tokens) == held:
        stream.close()
        raise InvalidRequest("expected an answer that is ahead of its state by one token at least")
