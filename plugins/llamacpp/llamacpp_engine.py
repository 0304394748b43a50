"""The engine: one thread, one context, all answers together, one step at a time.

A step is up to two batches: first the next token of every running answer, then a piece of the prompt that has waited
longest, with those of short ones (``llamacpp_plan``). So a long prompt delays a running answer by one piece, never
by its whole length, and whoever cancels is gone after a step (or amid a long one, see ``llamacpp_abort``).

Room (``llamacpp_room``). If a step does not fit, the engine first forgets what finished conversations left behind (kept
so that their next turn need not be read again), the oldest first; then it suspends the youngest running answer: its
context is copied out, and back in at the head of the queue when there is room. Nothing is lost but time, and the oldest
answer always gets on: alone it fits, as no answer may grow beyond the context.

Queue. Requests wait first come, first served, without limit: how many are let in is the kernel's decision. One is taken
in when a sequence is free and its prompt fits beside the running ones.

Repeatability. What a token's logits are must not depend on who else is answered. llama.cpp computes each row of a batch
by itself, but its attention sums in the order in which tokens lie in the context (``Room`` keeps them in order), and
from ``MAX_ROWS`` rows on it works in tiles, whose rounding depends on where they begin. So running answers are never in
one batch with a prompt, and the first ``exact_tokens`` of a prompt are read in pieces below that size; beyond them
speed matters more. Pieces begin at fixed positions. What remains: several threads share out the attention of a single
row beyond 512 tokens of context, and round by the share.

After an error of llama.cpp the context cannot be trusted: every answer ends with a failure, the engine reports itself
as down and takes nothing more; its process is to be replaced.
"""

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from byenatos_sdk.driver import Call
from byenatos_sdk.protocol.errors import Draining, Overloaded, Unavailable
from byenatos_sdk.protocol.messages import DetokenizeRequest, InferenceRequest, TokenizeRequest, Tokens
from llamacpp_abort import Abort
from llamacpp_chat import ChatTemplate
from llamacpp_embedding_job import EmbeddingJob
from llamacpp_jobs import AGAIN, Jobs
from llamacpp_model import Aborted, Entry, LlamaModel, NoRoom
from llamacpp_plan import plan_answers, plan_prompts
from llamacpp_queue import Queue
from llamacpp_request import count_tokens
from llamacpp_room import HeldSequence, Room
from llamacpp_settings import Settings
from llamacpp_stream import Stream, failure

__all__ = ["AGAIN", "Engine"]


class Engine:
    """Answers calls with ``model`` in a thread of its own. ``submit`` may be called from any thread."""

    def __init__(self, model: LlamaModel, template: ChatTemplate, settings: Settings) -> None:
        self._model = model
        self._template = template
        self._settings = settings
        self._queue = Queue(lambda call: Stream(call, model, template, settings))
        self._room = Room(model, settings.parallel)
        self._running: list[HeldSequence] = []  # in the order in which they were taken in
        self._jobs = Jobs()
        self._wake = threading.Event()
        self._closing = False
        self._failed = ""
        self._stepped: list[Call] = []  # whose tokens the batch that is being computed holds
        self.steps = 0
        self._abort = Abort(model.context, self._unwanted)
        self._thread = threading.Thread(target=self._run, name="llamacpp-engine", daemon=True)
        self._thread.start()

    def submit(self, call: Call) -> None:
        """Queue ``call``; it ends in exactly one terminal delta, unless it is cancelled."""
        self._queue.add(call)
        self._wake.set()

    def resume(self) -> None:
        """Look again whether calls are congested."""
        self._wake.set()

    def between_steps(self, job: Callable[[], object]) -> Future[object]:
        """Run ``job`` on the engine's thread before its next step, when it may look at sequences and answers.

        What it returns or raises is the future's; :data:`AGAIN` has it run once more after the next step.
        """
        future = self._jobs.add(job)
        self._wake.set()
        return future

    def count_tokens(self, request: InferenceRequest) -> int:
        """Return how many tokens the prompt of ``request`` comes to; from any thread."""
        return count_tokens(request, self._model, self._template)

    def tokenize(self, request: TokenizeRequest) -> Tokens:
        """Split a text; from any thread."""
        return self._spelled(self._model.split(request.text, special=request.special, begin=request.begin))

    def detokenize(self, request: DetokenizeRequest) -> Tokens:
        """Spell tokens; from any thread. Raises ``InvalidRequest`` for those that do not exist."""
        return self._spelled(request.ids)

    def _spelled(self, ids: Sequence[int]) -> Tokens:
        return Tokens(tuple(ids), tuple(self._model.spell(ids)))

    def embed(self, texts: Sequence[str]) -> Future[object]:
        """Compute a vector for each of ``texts``, a batch between two steps; from any thread.

        The future gives ``(vectors, tokens)``, or raises what ``Embedder.tokenize`` does.
        """
        return self.between_steps(EmbeddingJob(self._model, texts))

    def close(self) -> None:
        """Stop after the current step, end what is left as ``draining``, free the model."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._abort.close()
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
            "waiting": len(self._queue),
            "context_used": self._room.used,
            "context_length": self._model.context_length,
            "steps": self.steps,
            **self._model.figures,
        }

    # ---- for jobs between two steps ------------------------------------------------------------------------------

    @property
    def sequences(self) -> list[HeldSequence]:
        """The places in the context."""
        return self._room.sequences

    @property
    def scattered(self) -> int:
        """See :class:`Room`."""
        return self._room.scattered

    def answer(self, number: int) -> Stream | None:
        """Return the answer of the call ``number``, running or waiting."""
        running = (sequence.stream for sequence in self._running if sequence.stream is not None)
        return next((stream for stream in (*running, *self._queue) if stream.call.id == number), None)

    def take_free(self) -> HeldSequence:
        """Return the free sequence that was used least lately.

        Raises:
            Overloaded: all are in use.
        """
        if not self._room.free:
            raise Overloaded(f"all {len(self.sequences)} sequences are in use")
        return self._room.least_used()

    def room_for(self, count: int) -> bool:
        """Make room for ``count`` tokens more, in order; return whether there is, once what is warm is forgotten."""
        if not self._room.make(count):
            return False
        self._room.order()
        return True

    def forget(self, sequence: HeldSequence) -> None:
        """Empty a sequence."""
        self._room.keep(sequence, 0)

    def adopt(self, sequence: HeldSequence, stream: Stream) -> None:
        """Have an answer that began elsewhere go on in ``sequence``, which holds what it needs."""
        sequence.stream = stream
        sequence.session = None
        self._running.append(sequence)

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Step until closed. Whatever a step raises is foreign (llama.cpp, the channel) and ends the engine."""
        try:
            while not self._closing:
                self._wake.clear()
                self._abort.work()
                self._take_in()
                changed = self._jobs.run()
                if not self._step() and not changed:
                    self._abort.rest()
                    self._wake.wait()
        except Exception as error:  # noqa: BLE001  (foreign code)
            traceback.print_exc(file=sys.stderr)
            self._failed = f"{type(error).__name__}: {error}"
        self._end_all()

    def _end_all(self) -> None:
        """End what is left, and, after a failure, whatever still comes."""
        error = Unavailable(f"the llamacpp engine failed: {self._failed}") if self._failed else Draining("stopping")
        for sequence in self._running:
            if sequence.stream is not None:
                sequence.stream.call.emit(failure(error))
                self._release(sequence)
        self._running.clear()
        while True:
            self._queue.end(error)
            self._jobs.fail(error)
            if self._closing:
                return
            self._wake.wait()
            self._wake.clear()

    def _unwanted(self) -> bool:
        """Say whether nobody wants the batch that is being computed; from any thread."""
        stepped = self._stepped
        return bool(stepped) and (self._closing or all(call.cancelled for call in stepped))

    def _take_in(self) -> None:
        """Drop what was cancelled, read new requests, and give free sequences to those who wait longest."""
        for sequence in [sequence for sequence in self._running if sequence.stream and sequence.stream.call.cancelled]:
            self._release(sequence)
            self._running.remove(sequence)
        self._queue.read()
        while (first := self._queue.first) is not None and self._room.free and self._fits(first):
            self._start(self._queue.take())

    def _fits(self, stream: Stream) -> bool:
        running = sum(len(sequence.stream.tokens) for sequence in self._running if sequence.stream)
        return running + len(stream.tokens) <= self._model.context_length or not self._running

    def _start(self, stream: Stream) -> None:
        """Give ``stream`` its own context back, or the free sequence that begins most like it."""
        sequence = self._room.unpark(stream.parked) if stream.parked is not None else None
        stream.parked = None
        if sequence is None:
            sequence, kept = self._room.take(stream.tokens, from_start=stream.repeatable)
            if not stream.answer_tokens:
                stream.cached_tokens = kept
        sequence.stream = stream
        sequence.read_at = self.steps
        self._running.append(sequence)

    def _step(self) -> bool:
        """Compute the next tokens of the running answers, then a piece of a prompt; return whether there was any."""
        self._share()
        answered = self._compute(lambda: plan_answers(self._running))
        read = self._compute(lambda: plan_prompts(self._running, self._settings, self.steps, answered=answered))
        self.steps += answered or read
        return answered or read

    def _share(self) -> None:
        """Have prompts that begin as others do hold what these have read already."""
        for sequence in self._running:
            stream = sequence.stream
            if stream is None or stream.repeatable or stream.frozen or len(stream.tokens) - len(sequence.tokens) < 2:
                continue
            shared = self._room.share(sequence, stream.tokens)
            if not stream.answer_tokens:
                stream.cached_tokens += shared

    def _compute(self, plan: Callable[[], list[Entry]]) -> bool:
        """Compute one batch; return whether there was anything to compute."""
        entries = plan()
        while entries and not self._room.make(len(entries)):
            if len(self._running) < 2 and any(sequence.reserved is not None for sequence in self.sequences):
                return False  # until what is reserved has moved in or is released
            self._suspend_youngest()
            entries = plan()
        if not entries:
            return False
        self._room.order()
        places = [self.sequences[entry.sequence] for entry in entries]
        self._stepped = [place.stream.call for place in places if place.stream is not None]
        try:
            self._model.decode(entries)
        except NoRoom:
            self._suspend_youngest()
            return True
        except Aborted:
            self._abort.clear()
            for place in places:  # llama.cpp may have begun the batch
                self._model.keep(place.id, len(place.tokens))
            return True
        finally:
            self._stepped = []
        wrong: dict[HeldSequence, int] = {}
        call: Call | None = None
        for index, (entry, sequence) in enumerate(zip(entries, places, strict=True)):
            end, stream = len(sequence.tokens), sequence.stream
            sequence.tokens.append(entry.token)
            if not entry.sampled or stream is None or sequence in wrong:
                continue
            if stream.tokens[end : end + 1] != [entry.token]:
                wrong[sequence] = end  # it was guessed
                continue
            call = stream.call
            if not stream.advance(index):
                self._release(sequence)
                self._running.remove(sequence)
        for sequence, end in wrong.items():
            self._room.keep(sequence, end)
        if call is not None:
            call.flush()  # what the whole batch emitted leaves as one message
        return True

    def _suspend_youngest(self) -> None:
        """Send the youngest running answer back to the head of the queue, with its context.

        Raises:
            RuntimeError: only one is running, and that should fit.
        """
        if len(self._running) < 2:
            raise RuntimeError("expected room for one answer in the context, found none")
        sequence = self._running.pop()
        stream, sequence.stream = sequence.stream, None
        parked = self._room.park(sequence)
        if stream is not None:
            stream.parked = parked
            self._queue.put_first(stream)

    def _release(self, sequence: HeldSequence) -> None:
        """Free the sequence of an answer that ended; what it holds stays warm for the conversation's next turn."""
        if sequence.stream is not None:
            sequence.session = sequence.stream.call.request.session
            sequence.stream.close()
        sequence.stream = None
        sequence.used_at = self.steps
