"""The demonstration's conversation: two questions, one swap in the middle of the second answer, and the checks."""

import secrets
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from byenatos_kernel.cli.screen import dim, printable, say, write
from byenatos_kernel.cli.sessions import show_transcript
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import ModelInfo
from byenatos_sdk.protocol.errors import DeadlineExceeded, NotFound
from byenatos_sdk.protocol.messages import Delta, Finish, Moved, Sampling, SwapEvent, TextDelta, Value

if TYPE_CHECKING:
    from byenatos_sdk.client import Client

__all__ = ["Check", "Rehearsal", "Report", "Step"]

_SLOT = "default"
_FIRST = "smollm2"
_SECOND = "gemma-3-270m"
_QUESTION = "What is the capital of France? Answer in one sentence."
_STORY = "Write a long story about a robot who learns to paint. Use many details."
_STORY_TOKENS = 300
_SWAP_AFTER_DELTAS = 40
_READY_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.1


class Step(Value, frozen=True):
    """Something that was done, and how long it took."""

    name: str
    took_s: float
    detail: str = ""


class Check(Value, frozen=True):
    """Something that must hold, and what was found if it does not."""

    name: str
    ok: bool
    found: str = ""


class Report(Value, frozen=True):
    """The whole demonstration. ``text`` is the answer that moved, ``session`` where it is stored."""

    ok: bool
    session: str
    checks: tuple[Check, ...]
    steps: tuple[Step, ...]


class Rehearsal:
    """Plays the conversation on a running kernel and collects steps and checks; ``silent`` prints nothing."""

    def __init__(self, home: Home, *, silent: bool = False) -> None:
        self._home = home
        self._silent = silent
        self._session = f"demo-{secrets.token_hex(4)}"
        self._steps: list[Step] = []
        self._checks: list[Check] = []

    def took(self, name: str, took_s: float, detail: str = "") -> None:
        """Note a step."""
        self._steps.append(Step(name, took_s, detail))

    def check(self, name: str, *, holds: bool, found: object = "") -> None:
        """Note whether ``name`` holds."""
        self._checks.append(Check(name, holds, "" if holds else str(found)))

    def report(self) -> Report:
        """Return what was noted."""
        return Report(all(one.ok for one in self._checks), self._session, tuple(self._checks), tuple(self._steps))

    def play(self) -> None:
        """Play all of it.

        Raises:
            ByenatosError: if a step fails; the steps before it are noted.
        """
        from byenatos_sdk.client import Client

        with Client(self._home) as client:
            self._find_models(client)
            self._bind_first(client)
            self._ask_the_question(client)
            text = self._tell_the_story(client)
            self._read_back(client, text)

    def _say(self, text: str) -> None:
        if not self._silent:
            say(printable(text) if text else "")

    def _write(self, text: str) -> None:
        if not self._silent:
            write(text)

    def _find_models(self, client: "Client") -> None:
        begin = time.monotonic()
        models: dict[str, ModelInfo] = {}
        while time.monotonic() - begin < _READY_WITHIN_S:
            models = {one.id: one for one in client.models()}
            wanted = [models[name] for name in (_FIRST, _SECOND) if name in models]
            if len(wanted) == 2 and all(one.state not in {"copying", "checking"} for one in wanted):
                break
            if len(wanted) < 2 and time.monotonic() - begin > 10 * _LOOK_EVERY_S and not _unsettled(models.values()):
                break
            time.sleep(_LOOK_EVERY_S)
        for name in (_FIRST, _SECOND):
            found = models.get(name)
            if found is None or found.state != "available":
                why = f"{found.state} {found.reason}".strip() if found else "not in the models folder"
                raise NotFound(f"model {name}: expected available, found {why}; run: byenatos models pull {name}")
            self._say(f"model {name}: {found.specification.name if found.specification else ''}, driver {found.driver}")
        self.took("models listed", time.monotonic() - begin, f"{len(models)} models")

    def _bind_first(self, client: "Client") -> None:
        begin = time.monotonic()
        while True:
            slot = next((one for one in client.slots() if one.name == _SLOT), None)
            if slot is None or slot.state != "loading":
                break
            if time.monotonic() - begin > _READY_WITHIN_S:
                raise DeadlineExceeded(f"slot {_SLOT} is still loading {slot.model} after {_READY_WITHIN_S:g} s")
            time.sleep(_LOOK_EVERY_S)
        if slot is None:
            client.load(_FIRST, slot=_SLOT)
        elif slot.model != _FIRST or slot.state in {"unavailable", "empty"}:
            client.swap(_SLOT, _FIRST, strategy="graceful")
        self.took(f"slot {_SLOT} bound to {_FIRST}", time.monotonic() - begin)

    def _ask_the_question(self, client: "Client") -> None:
        self._say(f"\n── slot {_SLOT}, model {_FIRST}\n> {_QUESTION}")
        begin = time.monotonic()
        answer = _Heard()
        sampling = Sampling(temperature=0.0, max_tokens=64)
        with client.stream(_QUESTION, model=_SLOT, session=self._session, sampling=sampling) as stream:
            for delta in stream:
                self._hear(answer, delta)
        self._say("")
        self.took("question answered", time.monotonic() - begin, f"{answer.deltas} deltas")
        self.check('the answer contains "Paris"', holds="Paris" in answer.text, found=repr(answer.text))
        self.check(f"{_FIRST} gave the answer", holds=answer.model == _FIRST, found=answer.model)

    def _tell_the_story(self, client: "Client") -> str:
        self._say(f"\n── slot {_SLOT} is swapped to {_SECOND} in the middle of this answer\n> {_STORY}")
        begin = time.monotonic()
        story = _Heard()
        swapping: Future[list[SwapEvent]] | None = None
        sampling = Sampling(temperature=0.0, max_tokens=_STORY_TOKENS, repetition_penalty=1.1)
        with ThreadPoolExecutor(1) as thread:
            with client.stream(_STORY, model=_SLOT, session=self._session, sampling=sampling) as stream:
                for delta in stream:
                    self._hear(story, delta)
                    if story.deltas == _SWAP_AFTER_DELTAS and swapping is None:
                        swapping = thread.submit(self._swap)
            self._say("")
            self.took("long answer", time.monotonic() - begin, f"{story.deltas} deltas")
            self.check(
                f"the answer was longer than {_SWAP_AFTER_DELTAS} deltas",
                holds=swapping is not None,
                found=story.deltas,
            )
            self._note_swap(swapping.result() if swapping else [], story.pause_s)
        self.check("the answer moved exactly once", holds=len(story.moves) == 1, found=f"{len(story.moves)} moves")
        self.check("the answer ended exactly once", holds=story.finishes == 1, found=f"{story.finishes} ends")
        self.check("there is text before the move", holds=bool(story.before.strip()), found="none")
        self.check("there is text after the move", holds=bool(story.after.strip()), found="none")
        self.check(f"{_SECOND} ended the answer", holds=story.model == _SECOND, found=story.model)
        return story.text

    def _note_swap(self, steps: list[SwapEvent], pause_s: float) -> None:
        before_s = 0.0
        for step in steps:
            self.took(f"  swap: {step.state.value}", step.elapsed_s - before_s, step.detail)
            before_s = step.elapsed_s
        self.took("  pause in the answer at its move", pause_s)

    def _swap(self) -> list[SwapEvent]:
        from byenatos_sdk.client import Client

        steps: list[SwapEvent] = []
        with Client(self._home) as client:
            client.swap(_SLOT, _SECOND, strategy="immediate", until="retired", keep_old_s=0, on_event=steps.append)
        return steps

    def _read_back(self, client: "Client", text: str) -> None:
        begin = time.monotonic()
        transcript = client.transcript(self._session)
        self.took("transcript read", time.monotonic() - begin, f"session {self._session}")
        if not self._silent:
            say("\n── the session as the kernel keeps it")
            show_transcript(transcript)
        self.check("the session has 4 turns", holds=len(transcript.turns) == 4, found=len(transcript.turns))
        stored = transcript.turns[-1].message.text if transcript.turns else ""
        self.check(
            "the stored answer is the streamed one",
            holds=stored == text,
            found=f"{len(stored)} stored, {len(text)} streamed characters",
        )

    def _hear(self, heard: "_Heard", delta: Delta) -> None:
        heard.add(delta)
        if isinstance(delta, TextDelta):
            self._write(printable(delta.text))
        elif isinstance(delta, Moved):
            self._write(dim(printable(f" ⟨{delta.source} → {delta.target}, {delta.reason}⟩ ")))


class _Heard:
    """What a stream added up to, before and after its move, and how long no text came in between."""

    def __init__(self) -> None:
        self.before = ""
        self.after = ""
        self.deltas = 0
        self.finishes = 0
        self.model = ""
        self.moves: list[Moved] = []
        self.pause_s = 0.0
        self._last_text_at = time.monotonic()

    @property
    def text(self) -> str:
        return self.before + self.after

    def add(self, delta: Delta) -> None:
        if isinstance(delta, TextDelta):
            self.deltas += 1
            now = time.monotonic()
            if self.moves and not self.after:
                self.pause_s = now - self._last_text_at
            self._last_text_at = now
            if self.moves:
                self.after += delta.text
            else:
                self.before += delta.text
        elif isinstance(delta, Moved):
            self.moves.append(delta)
        elif isinstance(delta, Finish):
            self.finishes += 1
            self.model = delta.model


def _unsettled(models: Iterable[ModelInfo]) -> bool:
    return any(one.state in {"copying", "checking"} for one in models)
