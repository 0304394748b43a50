"""The engine: one thread, one context, all answers together, one step at a time.

A step is one batch: the next token of every running answer, and a chunk of the prompts that are still being read. So
a long prompt delays the others by part of a chunk, never by its whole length, and whoever cancels is gone after a step.

Room. All sequences share the context, and any of them may use all of it while the others do not need it. ``_used``
counts the tokens that it holds. If a step does not fit, the engine first forgets what finished conversations left
behind (kept so that their next turn need not be read again), the oldest first; then it suspends the youngest running
answer: its context is dropped, it goes to the head of the queue and is read again when there is room. Nothing is lost
but time, and the oldest answer always gets on: alone it fits, as no answer may grow beyond the context.

Queue. Requests wait first come, first served, without limit: how many are let in is the kernel's decision. One is taken
in when a sequence is free and its prompt fits beside the running ones.

Repeatability. A prompt that is read in other pieces than before gives slightly other numbers (matrix kernels differ
with the batch's size). A request with a seed therefore starts from an empty sequence instead of what is left in one;
answers that run beside others may still differ in rare close calls.

After an error of llama.cpp the context cannot be trusted: every answer ends with a failure, the engine reports itself
as down and takes nothing more; its process is to be replaced.
"""

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import ByenatosError, Draining, Overloaded, Unavailable
from llamacpp_chat import ChatTemplate
from llamacpp_model import Entry, LlamaModel, NoRoom
from llamacpp_settings import Settings
from llamacpp_stream import Stream, failure

__all__ = ["AGAIN", "Engine"]

AGAIN: Final = object()
"""What a job of :meth:`Engine.between_steps` returns to be run again after the next step."""

CHUNK_SHARE = 4
"""What part of a chunk of prompt is read in a step that answers wait for: they are held up less, it takes hardly
longer."""


class _Sequence:
    """A place in the context: the tokens that it holds, and the answer that uses it (``None``: kept warm).

    ``session`` is whose turn it served last; ``reserved`` is for an answer that is on its way from another instance.
    """

    def __init__(self, id: int) -> None:
        self.id = id
        self.tokens: list[int] = []
        self.stream: Stream | None = None
        self.session: str | None = None
        self.reserved: int | None = None
        self.used_at = 0

    @property
    def free(self) -> bool:
        """Whether an answer may take it."""
        return self.stream is None and self.reserved is None


class Engine:
    """Answers calls with ``model`` in a thread of its own. ``submit`` may be called from any thread.

    ``scattered`` counts the holes that were made since the context held at most one sequence: while it is 0, each
    sequence lies in the order of its positions, and its sums are made in that order.
    """

    def __init__(self, model: LlamaModel, template: ChatTemplate, settings: Settings) -> None:
        self._model = model
        self._template = template
        self._settings = settings
        self._inbox: deque[Call] = deque()
        self._waiting: deque[Stream] = deque()
        self.sequences = [_Sequence(number) for number in range(settings.parallel)]
        self._running: list[_Sequence] = []  # in the order in which they were taken in
        self._jobs: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._failed = ""
        self.scattered = 0
        self.steps = 0
        self._thread = threading.Thread(target=self._run, name="llamacpp-engine", daemon=True)
        self._thread.start()

    def submit(self, call: Call) -> None:
        """Queue ``call``; it ends in exactly one terminal delta, unless it is cancelled."""
        self._inbox.append(call)
        self._wake.set()

    def resume(self) -> None:
        """Look again whether calls are congested."""
        self._wake.set()

    def between_steps(self, job: Callable[[], object]) -> Future[object]:
        """Run ``job`` on the engine's thread before its next step, when it may look at sequences and answers.

        What it returns or raises is the future's; :data:`AGAIN` has it run once more after the next step.
        """
        future: Future[object] = Future()
        self._jobs.append((job, future))
        self._wake.set()
        return future

    def close(self) -> None:
        """Stop after the current step, end what is left as ``draining``, free the model."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._model.close()

    @property
    def failed(self) -> str:
        """Why the engine stopped working; empty while it works."""
        return self._failed

    @property
    def metrics(self) -> dict[str, float]:
        """Figures for the health report."""
        return {
            "running": len(self._running),
            "waiting": len(self._waiting) + len(self._inbox),
            "context_used": self._used(),
            "context_length": self._model.context_length,
            "steps": self.steps,
        }

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Step until closed. Whatever a step raises is foreign (llama.cpp, the channel) and ends the engine."""
        try:
            while not self._closing:
                self._wake.clear()
                self._take_in()
                changed = self._run_jobs()
                if not self._step() and not changed:
                    self._wake.wait()
        except Exception as error:  # noqa: BLE001  (foreign code)
            traceback.print_exc(file=sys.stderr)
            self._failed = f"{type(error).__name__}: {error}"
        self._end_all()

    def _run_jobs(self) -> bool:
        """Run the jobs that wait; return whether one of them is done: what it did may let an answer begin."""
        changed = False
        for _ in range(len(self._jobs)):
            job, future = self._jobs.popleft()
            if future.cancelled():
                continue
            try:
                result = job()
            except Exception as error:  # noqa: BLE001  (whoever asked for the job hears of it)
                _settle(future, error=error)
                continue
            if result is AGAIN:
                self._jobs.append((job, future))
            else:
                changed = True
                _settle(future, result)
        return changed

    # ---- for jobs between two steps ------------------------------------------------------------------------------

    def answer(self, number: int) -> Stream | None:
        """The answer of the call ``number``, running or waiting."""
        running = (sequence.stream for sequence in self._running if sequence.stream is not None)
        return next((stream for stream in (*running, *self._waiting) if stream.call.id == number), None)

    def take_free(self) -> _Sequence:
        """The free sequence that was used least lately.

        Raises:
            Overloaded: all are in use.
        """
        free = [sequence for sequence in self.sequences if sequence.free]
        if not free:
            raise Overloaded(f"all {len(self.sequences)} sequences are in use")
        return min(free, key=lambda sequence: (bool(sequence.tokens), sequence.used_at))

    def room_for(self, count: int) -> bool:
        """Whether there is room for ``count`` tokens more, once others' warm conversations are forgotten."""
        self._forget_warm(count)
        return bool(self._used() + count <= self._model.context_length)

    def forget(self, sequence: _Sequence) -> None:
        """Empty a sequence."""
        self._forget(sequence)

    def adopt(self, sequence: _Sequence, stream: Stream) -> None:
        """Have an answer that began elsewhere go on in ``sequence``, which holds what it needs."""
        sequence.stream = stream
        sequence.session = None
        self._running.append(sequence)

    def _end_all(self) -> None:
        """End what is left, and, after a failure, whatever still comes."""
        error = Unavailable(f"the llamacpp engine failed: {self._failed}") if self._failed else Draining("stopping")
        for sequence in self._running:
            self._end(sequence, error)
        self._running.clear()
        while True:
            for stream in self._waiting:
                stream.call.emit(failure(error))
                stream.close()
            self._waiting.clear()
            while self._inbox:
                self._inbox.popleft().emit(failure(error))
            while self._jobs:
                _settle(self._jobs.popleft()[1], error=error)
            if self._closing:
                return
            self._wake.wait()
            self._wake.clear()

    def _end(self, sequence: _Sequence, error: ByenatosError) -> None:
        if sequence.stream is not None:
            sequence.stream.call.emit(failure(error))
            self._release(sequence)

    def _take_in(self) -> None:
        """Drop what was cancelled, read new requests, and give free sequences to those who wait longest."""
        for sequence in [sequence for sequence in self._running if sequence.stream and sequence.stream.call.cancelled]:
            self._release(sequence)
            self._running.remove(sequence)
        while self._inbox:
            self._prepare(self._inbox.popleft())
        for stream in [stream for stream in self._waiting if stream.call.cancelled]:
            self._waiting.remove(stream)
            stream.close()
        while self._waiting and any(one.free for one in self.sequences) and self._fits(self._waiting[0]):
            self._start(self._waiting.popleft())

    def _prepare(self, call: Call) -> None:
        if call.cancelled:
            return
        try:
            self._waiting.append(Stream(call, self._model, self._template, self._settings))
        except ByenatosError as error:
            call.emit(failure(error))

    def _fits(self, stream: Stream) -> bool:
        running = sum(len(sequence.stream.tokens) for sequence in self._running if sequence.stream)
        return running + len(stream.tokens) <= self._model.context_length or not self._running

    def _start(self, stream: Stream) -> None:
        """Give ``stream`` the free sequence that begins most like it, if that uses most of what it holds."""
        free = [sequence for sequence in self.sequences if sequence.free]

        def worth(sequence: _Sequence) -> tuple[int, int]:
            shared = _shared(sequence.tokens, stream.tokens)
            return (shared if 2 * shared >= len(sequence.tokens) else 0, -sequence.used_at)

        sequence = max(free, key=worth)
        # The last token is always computed: its logits are not kept.
        shared = 0 if stream.repeatable else min(_shared(sequence.tokens, stream.tokens), len(stream.tokens) - 1)
        kept = self._keep(sequence, shared)
        if not stream.answer_tokens:
            stream.cached_tokens = kept
        sequence.stream = stream
        self._running.append(sequence)

    def _step(self) -> bool:
        """Compute one batch; return whether there was anything to compute."""
        entries = self._plan()
        while entries and not self._make_room(len(entries)):
            entries = self._plan()
        if not entries:
            return False
        try:
            self._model.decode(entries)
        except NoRoom:
            self._suspend_youngest()
            return True
        self.steps += 1
        call: Call | None = None
        for index, entry in enumerate(entries):
            sequence = self.sequences[entry.sequence]
            sequence.tokens.append(entry.token)
            if entry.sampled and sequence.stream is not None:
                call = sequence.stream.call
                if not sequence.stream.advance(index):
                    self._release(sequence)
                    self._running.remove(sequence)
        if call is not None:
            call.flush()  # what the whole step emitted leaves as one message
        return True

    def _plan(self) -> list[Entry]:
        """Return the next batch: one token for each answer that is being written, then prompts, the oldest first."""
        entries: list[Entry] = []
        prompts: list[tuple[_Sequence, list[int]]] = []
        for sequence in self._running:
            stream = sequence.stream
            if stream is None or stream.frozen or stream.call.congested:
                continue
            missing = stream.tokens[len(sequence.tokens) :]
            if len(missing) == 1:
                entries.append(Entry(missing[0], len(sequence.tokens), sequence.id, sampled=True))
            else:
                prompts.append((sequence, missing))
        budget = self._settings.prefill_chunk
        if entries:
            budget = max(1, budget // CHUNK_SHARE)
        for sequence, missing in prompts:
            start, chunk = len(sequence.tokens), missing[:budget]
            last = len(missing) - 1
            entries += (Entry(token, start + at, sequence.id, at == last) for at, token in enumerate(chunk))
            budget -= len(chunk)
        return entries

    # ---- room ----------------------------------------------------------------------------------------------------

    def _used(self) -> int:
        return sum(len(sequence.tokens) for sequence in self.sequences)

    def _make_room(self, needed: int) -> bool:
        """Make room for ``needed`` more tokens; return whether there is, else an answer was suspended: plan again."""
        self._forget_warm(needed)
        if self._used() + needed <= self._model.context_length:
            return True
        self._suspend_youngest()
        return False

    def _forget_warm(self, needed: int) -> None:
        """Forget what finished conversations left behind, the oldest first, until ``needed`` tokens more fit."""
        warm = (sequence for sequence in self.sequences if sequence.free and sequence.tokens)
        for sequence in sorted(warm, key=lambda sequence: sequence.used_at):
            if self._used() + needed <= self._model.context_length:
                break
            self._forget(sequence)

    def _suspend_youngest(self) -> None:
        """Send the youngest running answer back to the head of the queue; its tokens are read again later.

        Raises:
            RuntimeError: only one is running, and that should fit.
        """
        if len(self._running) < 2:
            raise RuntimeError("expected room for one answer in the context, found none")
        sequence = self._running.pop()
        if sequence.stream is not None:
            self._waiting.appendleft(sequence.stream)
        sequence.stream = None
        self._forget(sequence)

    def _forget(self, sequence: _Sequence) -> None:
        self._keep(sequence, 0)

    def _keep(self, sequence: _Sequence, count: int) -> int:
        """Have a sequence hold its first ``count`` tokens only, or fewer; return how many.

        What becomes free among others' cells is filled next, so that a sequence no longer lies in order.
        """
        kept = self._model.keep(sequence.id, count)
        if kept < len(sequence.tokens):
            del sequence.tokens[kept:]
            self.scattered = self.scattered + 1 if self._used() > len(sequence.tokens) else 0
        return kept

    def _release(self, sequence: _Sequence) -> None:
        """Free the sequence of an answer that ended; what it holds stays warm for the conversation's next turn."""
        if sequence.stream is not None:
            sequence.session = sequence.stream.call.request.session
            sequence.stream.close()
        sequence.stream = None
        sequence.used_at = self.steps


def _settle(future: Future[object], result: object = None, error: Exception | None = None) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _shared(held: list[int], wanted: list[int]) -> int:
    """Return how many tokens two sequences share at their start."""
    count = 0
    for ours, theirs in zip(held, wanted, strict=False):
        if ours != theirs:
            break
        count += 1
    return count
