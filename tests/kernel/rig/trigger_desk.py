"""Triggers over a simulated clock: the real engine and the real measures, a machine of files, slots without units."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byenatos_kernel.arrivals import Arrivals
from byenatos_kernel.clients import ClientState
from byenatos_kernel.measurements import Measurements
from byenatos_kernel.pressure import Machine
from byenatos_kernel.routes import Slot
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.swap_policy import read_swap_policy
from byenatos_kernel.trigger_measures import TriggerMeasures
from byenatos_kernel.trigger_rules import Trigger
from byenatos_kernel.triggers import Triggers
from byenatos_sdk.protocol.control import DriverFailed, TriggerFired
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    SwapEvent,
    SwapRequest,
    SwapState,
    Terminal,
    Usage,
    user,
)

__all__ = ["NOON", "TriggerDesk"]

NOON = 1_772_366_400.0
"""2026-03-01 12:00 UTC, when the wall's clock begins; the loop's begins at 1000."""


class TriggerDesk:
    """A kernel's triggers in ``folder``, with slot ``default`` bound to ``big``. Use it inside the event loop."""

    def __init__(self, folder: Path, *triggers: str, on: bool = True, start_at: float = NOON) -> None:
        self.now = 1000.0
        self.wall_at_start = start_at
        self.slots = {"default": Slot("default", "big", "big")}
        self.models = {"big", "small", "tiny"}
        self.live: set[Stream] = set()
        self.told: list[TriggerFired] = []
        self.swaps: list[tuple[float, str]] = []
        self.failing: ByenatosError | None = None
        self.folder = folder
        self.write(*triggers)
        self.measurements = Measurements(lambda: self.now)
        self.arrivals = Arrivals(lambda: self.now)
        self.measures = TriggerMeasures(
            self.measurements,
            self.arrivals,
            Machine(folder / "proc", folder / "hwmon"),
            lambda: self.live,
            self.slots,
            lambda: self.now,
        )
        self.triggers = Triggers(
            lambda: self.policy,
            self.measures,
            self.slots,
            self.models.__contains__,
            self._swap,
            self.told.append,
            on=on,
            clock=lambda: self.now,
            wall=lambda: self.wall,
        )

    def write(self, *triggers: str) -> None:
        """Write other triggers into the operator's file, and have it read."""
        path = self.folder / "swap.toml"
        path.write_text("".join(f"[[triggers]]\n{trigger}\n" for trigger in triggers))
        self.policy: tuple[Trigger, ...] = read_swap_policy(path).triggers

    @property
    def wall(self) -> float:
        return self.wall_at_start + self.now - 1000.0

    @property
    def model(self) -> str:
        return self.slots["default"].model

    @property
    def states(self) -> list[str]:
        return [info.state for info in self.triggers.infos()]

    async def _swap(self, request: SwapRequest) -> SwapEvent:
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        slot = self.slots[request.slot]
        event = SwapEvent(1, slot.name, slot.model, request.model, request.strategy, SwapState.SWITCHED, self.wall)
        slot.model = request.model
        self.swaps.append((self.now, request.model))
        return event

    async def pass_time(self, seconds: float, each: Callable[[], object] = lambda: None, *, step: float = 1.0) -> None:
        """Look every ``step`` seconds, and have ``each`` happen before every look."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            each()
            self.triggers.look()
            for _ in range(4):
                await asyncio.sleep(0)

    # ---- what happens to the kernel ------------------------------------------------------------------------------

    def stream(self, *, state: StreamState = StreamState.RUNNING, task: str = "", tokens: int = 1) -> Stream:
        """A request that has just come to the slot, and is running or waiting."""
        stream = Stream(ClientState("uid:0", 0), 1, "default")
        stream.slot = "default"
        stream.model = self.model
        stream.opened_at = self.now
        stream.state = state
        stream.body = encode(InferenceRequest((user("x" * 4 * tokens),), task=task or None))
        self.live.add(stream)
        self.arrivals.opened(stream)
        return stream

    def answer(self, took_s: float = 1.0, first_s: float = 0.5, tokens: int = 10, *, code: str = "") -> None:
        """A request ends now that came ``took_s`` ago."""
        stream = self.stream()
        self.live.discard(stream)
        stream.opened_at = self.now - took_s
        stream.first_at = stream.opened_at + first_s
        terminal: Terminal = Failure(code, "it failed") if code else Finish(usage=Usage(output_tokens=tokens))
        self.measurements.ended(stream, terminal)

    def crash(self) -> None:
        self.measures.happened(DriverFailed(self.wall, 1, "scripted", self.model, "died"))

    def show(self, path: str, text: str) -> None:
        """The operating system shows something else from now on."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def memory(self, mib: int) -> None:
        self.show("proc/meminfo", f"MemTotal: 8388608 kB\nMemAvailable: {mib * 1024} kB\n")

    def refuse(self) -> None:
        self.failing = Unavailable("there is no room for it")


def said(events: list[TriggerFired]) -> list[Any]:
    """What was told, in short."""
    return [(one.model, one.returning, one.dry_run, bool(one.problem)) for one in events]
