"""Moves of answers and sessions made by hand, as the kernel makes them."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Sampling
from byenatos_sdk.protocol.warm import Piece
from byenatos_sdk.warm import Resumption, State

INVENTORS = {
    "type": "json_schema",
    "json_schema": {
        "name": "inventors",
        "schema": {
            "type": "array",
            "minItems": 3,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
                "required": ["name", "born"],
            },
        },
    },
}

PARAGRAPH = (
    "The history of computing is a long story of abstraction. Early machines were programmed with wires and switches, "
    "and every program was a physical object. Later, operating systems hid the hardware behind files and drivers. "
)
ROOM = 8 << 20


class Copy:
    """Pieces of one subject, as they were exported."""

    def __init__(self, driver: Any, subject: int | str) -> None:
        self.driver = driver
        self.subject = subject
        self.pieces: list[tuple[Piece, bytearray]] = []

    @property
    def stop(self) -> int:
        return self.pieces[-1][0].stop if self.pieces else 0

    async def more(self, *, freeze: bool = False, room: int = ROOM) -> Piece:
        into = bytearray(room)
        take = self.driver.freeze if freeze else self.driver.export
        piece: Piece = await take(self.subject, self.stop, memoryview(into))
        if piece.stop > piece.start or not self.pieces:
            self.pieces.append((piece, into[: piece.size]))
        else:
            self.pieces[-1] = (
                Piece(self.pieces[-1][0].start, piece.stop, self.pieces[-1][0].size, piece.progress),
                self.pieces[-1][1],
            )
        return piece

    async def up_to(self, position: int) -> None:
        while self.stop < position:
            await self.driver.reach(self.subject, self.stop + 1)
            await self.more()

    @property
    def states(self) -> tuple[State, ...]:
        return tuple(
            State(piece.start, piece.stop, memoryview(bytearray(data)))
            for piece, data in self.pieces
            if piece.stop > piece.start
        )

    @property
    def progress(self) -> bytes:
        return self.pieces[-1][0].progress


class Mover:
    """Begins answers, and moves them."""

    def __init__(self, recorded: Callable[[InferenceRequest, int], Any]) -> None:
        self._recorded = recorded
        self._numbers = itertools.count(1)

    def begin(self, driver: Any, *messages: Message, format: dict[str, Any] | None = None, **sampling: Any) -> Any:
        sampling.setdefault("logit_bias", {2: -100.0})
        request = InferenceRequest(messages, sampling=Sampling(**sampling), response_format=format)
        call = self._recorded(request, next(self._numbers))
        assert driver.serve(call)
        return call

    def go_on(self, driver: Any, call: Any, resumption: Resumption) -> Any:
        resumed = self._recorded(call.request, call.id)
        driver.resume(resumed, resumption)
        return resumed

    async def move(self, source: Any, target: Any, call: Any) -> tuple[str, str]:
        """The same answer twice: as it stayed, and as it moved in its middle."""
        copy = Copy(source, call.id)
        await said(call, 3)
        while (piece := await copy.more()).stop - piece.start > 16:
            pass
        await copy.more(freeze=True)
        before = call.text
        await target.restore(call.id, copy.states[:-1])
        resumed = self.go_on(target, call, Resumption(before, copy.progress, copy.states[-1:]))
        await ended(resumed)
        await source.thaw(call.id)
        await ended(call)
        return call.text, before + resumed.text


async def ended(call: Any, ceiling_s: float = 120.0) -> Any:
    return await asyncio.to_thread(call.wait, ceiling_s)


async def said(call: Any, deltas: int) -> None:
    await asyncio.to_thread(call.wait_for_deltas, deltas)


class Fresh:
    """Instances with a context that nobody has used before, so that all that lies in it lies in order."""

    def __init__(self, driver_class: Any, models: Path) -> None:
        self._driver_class = driver_class
        self._models = models
        self._started: list[Any] = []

    def __call__(self, name: str, **settings: Any) -> Any:
        driver = self._driver_class({})
        settings.setdefault("threads", 1)  # and not what two measurements may see differently
        model = Model(name, self._models / f"{name}.gguf", settings, digest=f"of {name}")
        asyncio.run(driver.start(model))
        self._started.append(driver)
        return driver

    def close(self) -> None:
        for driver in self._started:
            asyncio.run(driver.stop())
