"""A driver that counts, and whose whole state is how far it has come: warm state in the smallest.

It runs as a plugin (its source is written into a plugin folder). An answer is ``"0 1 2 …"``, ``extra["abacus"]`` says
how far (``tokens``) and how fast (``rate``, per second), and which ``fault`` to commit, at the source of a move or at
its target. A position of its state is 64 bytes that can be checked, so a piece that is not what it should be is found.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from byenatos_sdk.driver import Call, Driver
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import Finish, InferenceRequest, Message, Usage
from byenatos_sdk.protocol.warm import Fingerprint, Holding, Piece, SubjectId
from byenatos_sdk.warm import Resumption, State, WarmState, missing

WIDTH = 64


class Answer:
    """One count: ``done`` numbers were said, ``held`` positions are in its state."""

    def __init__(self, call: Call, done: int) -> None:
        self.call = call
        wanted = call.request.extra.get("abacus", {})
        self.tokens = int(wanted.get("tokens", 5))
        self.rate = float(wanted.get("rate", 0))
        self.fault = str(wanted.get("fault", ""))
        self.done = done
        self.frozen = False
        self.silent = False
        self.stepped = asyncio.Condition()


def cells(start: int, stop: int, fault: str) -> bytes:
    """The state of some positions."""
    return b"".join(f"{number}:{fault}".encode().ljust(WIDTH) for number in range(start, stop))


class Abacus(WarmState, Driver):
    """Counts."""

    continues = True

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._answers: dict[int, Answer] = {}
        self._restored: dict[SubjectId, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._own = os.urandom(8).hex()

    def infer(self, request: Any) -> Any:
        raise NotImplementedError

    def serve(self, call: Call) -> bool:
        self._run(Answer(call, call.request.partial.count(" ")))
        return True

    def _run(self, answer: Answer) -> None:
        self._answers[answer.call.id] = answer
        task = asyncio.get_running_loop().create_task(self._count(answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, answer: Answer) -> None:
        while answer.done < answer.tokens and not answer.call.cancelled:
            if not (answer.frozen or answer.silent):
                answer.call.emit(f"{answer.done} ")
                answer.done += 1
                async with answer.stepped:
                    answer.stepped.notify_all()
            await asyncio.sleep(1 / answer.rate if answer.rate else 0)
        if not answer.call.cancelled:
            answer.call.emit(Finish(usage=Usage(output_tokens=answer.done)))
        session = answer.call.request.session
        if session:
            self._restored[session] = answer.done
        del self._answers[answer.call.id]
        async with answer.stepped:
            answer.stepped.notify_all()

    # ---- warm state ----------------------------------------------------------------------------------------------

    async def fingerprint(self) -> Fingerprint:
        layout = self._own if self.settings.get("loner") else "abacus"
        return Fingerprint(layout, self._own if self.settings.get("inexact") else "")

    async def holdings(self) -> tuple[Holding, ...]:
        return tuple(
            Holding(subject, done, done * WIDTH) for subject, done in self._restored.items() if isinstance(subject, str)
        )

    async def reach(self, subject: SubjectId, position: int) -> int:
        while (held := self._held(subject)) < position:
            answer = self._answers[int(subject)]
            async with answer.stepped:
                await answer.stepped.wait()
        return held

    async def export(self, subject: SubjectId, start: int, into: memoryview) -> Piece:
        return self._export("export", subject, start, into)

    async def freeze(self, subject: int, start: int, into: memoryview) -> Piece:
        piece = self._export("freeze", subject, start, into)
        self._answers[subject].frozen = True
        return piece

    def _held(self, subject: SubjectId) -> int:
        if isinstance(subject, int) and subject in self._answers:
            return self._answers[subject].done
        if subject in self._restored:
            return self._restored[subject]
        raise missing(subject)

    def _export(self, method: str, subject: SubjectId, start: int, into: memoryview) -> Piece:
        answer = self._answers.get(subject) if isinstance(subject, int) else None
        fault = answer.fault if answer is not None else ""
        if fault == f"{method} refuses":
            raise Unavailable("this abacus shows nobody its beads")
        if fault == f"{method} dies":
            os._exit(3)
        if fault == f"{method} lies about the range":
            return Piece(start + 1, start + 2, WIDTH)
        if fault == f"{method} lies about the size":
            return Piece(start, start + 1, len(into) + 1)
        if fault == f"{method} says too much":
            return Piece(start, start + 1, WIDTH, b"x" * (900 << 10) * 2)
        stop = min(self._held(subject), start + min(len(into) // WIDTH, 1000))
        data = cells(start, stop, fault)
        into[: len(data)] = data
        progress = msgspec.msgpack.encode(answer.done) if answer is not None else b""
        return Piece(start, stop, len(data), progress)

    async def thaw(self, subject: int) -> None:
        if subject not in self._answers:
            raise missing(subject)
        self._answers[subject].frozen = False

    async def restore(self, subject: SubjectId, states: Sequence[State]) -> None:
        self._restore(subject, states)

    def _restore(self, subject: SubjectId, states: Sequence[State]) -> None:
        held = self._restored.get(subject, 0)
        if isinstance(subject, str) and states and states[0].start == 0:
            held = 0
        for state in states:
            fault = bytes(state.data[:WIDTH]).decode().strip().partition(":")[2]
            if fault == "restore refuses":
                raise Unavailable("this abacus takes nobody's beads")
            if fault == "restore dies":
                os._exit(3)
            if state.start != held or bytes(state.data) != cells(state.start, state.stop, fault):
                raise InvalidRequest(f"expected the state from {held} on, found another one")
            held = state.stop
        self._restored[subject] = held

    def resume(self, call: Call, resumption: Resumption) -> None:
        self._restore(call.id, resumption.states)
        held, done = self._restored.pop(call.id), msgspec.msgpack.decode(resumption.progress, type=int)
        answer = Answer(call, held)
        if answer.fault == "resume fails":
            raise Unavailable("this abacus does not go on")
        if answer.fault == "resume dies":
            os._exit(3)
        said = resumption.said.count(" ") + call.request.partial.count(" ")
        if done != held or said < held:
            raise InvalidRequest(f"expected a count that had come to {held}, found {done} and {said} said")
        answer.done = said  # what was said since is not said again
        answer.silent = answer.fault == "resume says nothing"
        self._run(answer)

    async def release(self, subject: SubjectId) -> None:
        self._restored.pop(subject, None)

    async def prefill(self, session: str, messages: tuple[Message, ...]) -> int:
        self._restored[session] = len(messages)
        return len(messages)

    async def read(self, request: InferenceRequest) -> int:
        fault = request.extra.get("abacus", {}).get("fault", "")
        if fault == "read refuses":
            raise Unavailable("this abacus reads nothing")
        if fault == "read dies":
            os._exit(3)
        return request.partial.count(" ")
