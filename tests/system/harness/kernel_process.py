"""A real kernel in a process of its own, as an operator would start it, and the words to wait for what it does.

Whatever a test does to it, two things are looked at when it stops: that no process of its sandboxes is left, and that
its log holds no traceback. A kernel that a test kills on purpose is watched in the same way.
"""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psutil

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import Event, InstanceInfo, KernelStatus, ModelInfo, SlotInfo

CEILING_S = 60.0
"""How long anything may take before a test gives up; no test waits for it to pass."""

_LOOK_AGAIN_S = 0.05


class Relatives:
    """Processes that somebody started, held so that their end is seen at once and their numbers mean nobody else."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.held: dict[int, int] = {}
        for pid in pids:
            with suppress(ProcessLookupError):  # it has just ended
                self.held[pid] = os.pidfd_open(pid)

    def __len__(self) -> int:
        return len(self.held)

    def left(self) -> list[int]:
        """Wait until all have ended; the pids of those that have not, for as long as anybody waits."""
        deadline = time.monotonic() + CEILING_S / 6
        left = []
        for pid, descriptor in self.held.items():
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                left.append(pid)
            os.close(descriptor)
        self.held = {}
        return left


class KernelProcess:
    """One run of ``python -m byenatos_kernel.daemon``; its home outlives it, so that another run can follow."""

    def __init__(self, home: Home, *, wait: bool = True, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self._log = home.path / "test.log"
        with self._log.open("ab") as log:
            self._logged_before = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "byenatos_kernel.daemon", "--home", str(home.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self.pid = self.process.pid
        if wait:
            self.wait_until_it_listens()

    @property
    def log(self) -> str:
        """What this run printed so far."""
        with self._log.open("rb") as log:
            log.seek(self._logged_before)
            return log.read().decode(errors="replace")

    @property
    def rss(self) -> int:
        """Resident bytes, as the operating system counts them."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def client(self, name: str = "test") -> AsyncClient:
        """A client that is not connected yet."""
        return AsyncClient(self.home, name=name, connect_timeout_s=CEILING_S)

    def family(self) -> Relatives:
        """Every process that the kernel started, and what those started."""
        return Relatives(child.pid for child in psutil.Process(self.pid).children(recursive=True))

    def wait_until_it_listens(self) -> None:
        """Connect until somebody answers; waits for the kernel's death in between, which would be the other answer."""
        for _ in range(int(CEILING_S / _LOOK_AGAIN_S)):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.home.socket))
                except OSError:
                    with suppress(subprocess.TimeoutExpired):
                        self.process.wait(_LOOK_AGAIN_S)
                        break
                else:
                    return
        raise AssertionError(f"the kernel does not listen (exit status {self.process.poll()}):\n{self.log}")

    def wait(self) -> int:
        """Wait until the kernel is gone; its exit status."""
        return self.process.wait(CEILING_S)

    def kill(self) -> list[int]:
        """Kill the kernel at once; the pids of those of its family that outlive it for as long as anybody waits."""
        family = self.family()
        self.process.kill()
        self.process.wait(CEILING_S)
        return family.left()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop, wait until it has; the exit status. Fails if it leaves a process behind."""
        if self.process.poll() is None:
            family = self.family()
            self.process.send_signal(number)
            self.process.wait(CEILING_S)
            left = family.left()
            assert not left, f"left behind: {left}\n{self.log}"
        return self.process.returncode

    def clean_up(self) -> None:
        """Stop it if it still runs, and look through its log; what has to be killed is a failure."""
        try:
            self.stop()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        for trace in ("Traceback", "Exception in callback", "never retrieved", "AssertionError"):
            own = [line for line in self.log.splitlines() if trace in line and not line.startswith("  |")]
            assert not own, f"the kernel's log has {own[0]!r}:\n{self.log}"


def write_config(
    home: Home,
    *,
    default: str | None = "echo",
    fallback: str | None = None,
    slots: dict[str, str] | None = None,
    models: dict[str, dict[str, Any]] | None = None,
    fronts: dict[str, dict[str, Any]] | None = None,
    **driver: Any,
) -> None:
    """Write a configuration; ``models`` are further models of the echo driver with their settings."""
    table: dict[str, Any] = {"llm_driver_config": dict(driver)}
    if default is not None:
        table["llm_driver_config"]["default_model"] = default
    if fallback is not None:
        table["llm_driver_config"]["fallback_model"] = fallback
    table["slots"] = slots or {}
    table["fronts"] = fronts or {}
    table["model_config"] = [
        {"model_id": model, "vendor": "echo", "settings": settings} for model, settings in (models or {}).items()
    ]
    home.path.mkdir(parents=True, exist_ok=True)
    home.config.write_text(json.dumps(table))
    allow_unsigned(home)
    keep_nothing(home)


def allow_unsigned(home: Home) -> None:
    """Let the plugin folders that a test writes run without a signature, unless it has rules of its own."""
    home.policies.mkdir(parents=True, exist_ok=True)
    if not home.access.exists():
        home.access.write_text("[plugins]\nunsigned = true\n")


def keep_nothing(home: Home) -> None:
    """Let the old model go as soon as a swap has switched, unless a test has rules of its own for swaps."""
    rules = home.policies / "swap.toml"
    if not rules.exists():
        rules.write_text("[swap]\nkeep_old_s = 0\n")


# ---- waiting ---------------------------------------------------------------------------------------------------


async def until(client: AsyncClient, holds: Callable[[KernelStatus], Any]) -> KernelStatus:
    """Wait until the status is as it should be; looks after each event of the kernel, and now and then."""
    async with asyncio.timeout(CEILING_S), client.events() as events:
        while not holds(status := await client.status()):
            await _next(events)
        return status


async def until_models(client: AsyncClient, holds: Callable[[dict[str, ModelInfo]], Any]) -> dict[str, ModelInfo]:
    """Wait until the models, by id, are as they should be."""
    async with asyncio.timeout(CEILING_S), client.events() as events:
        while not holds(models := {model.id: model for model in await client.models()}):
            await _next(events)
        return models


async def until_ready(client: AsyncClient, *slots: str) -> KernelStatus:
    """Wait until the slots (``default`` if none is named) serve."""
    names = set(slots or ("default",))
    return await until(client, lambda status: names <= {one.name for one in status.slots if one.state == "ready"})


async def until_event(client: AsyncClient, holds: Callable[[Event], bool], after: Callable[[], Any]) -> Event:
    """Do something, and wait for the first event since then that is as it should be."""
    async with asyncio.timeout(CEILING_S), client.events() as events:
        await client.status()  # answered after the subscription has begun
        after()
        async for event in events:
            if holds(event):
                return event
    raise AssertionError("the events ended")


async def _next(events: Any) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_AGAIN_S):
            await anext(events)


def judged(status: KernelStatus) -> set[str]:
    """The ids of the plugins that the kernel has made up its mind about."""
    return {plugin.id for plugin in status.plugins if plugin.state != "checking"}


def slot_of(status: KernelStatus, name: str = "default") -> SlotInfo:
    """The slot called ``name``."""
    return next(slot for slot in status.slots if slot.name == name)


def signal_driver(status: KernelStatus, model: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the process that serves ``model``."""
    instance = instance_of(status, model)
    assert instance is not None
    assert instance.pid
    os.kill(instance.pid, number)


def instance_of(status: KernelStatus, model: str) -> InstanceInfo | None:
    """The newest instance of ``model``."""
    return max((one for one in status.instances if one.model == model), key=lambda one: one.epoch, default=None)


def numbers(count: int, first: int = 0) -> str:
    """The text of an echo driver that counts."""
    return "".join(f"{number} " for number in range(first, count))


def counting(tokens: int, rate: float = 0.0, **more: Any) -> dict[str, Any]:
    """The ``extra`` that makes an echo driver count."""
    return {"echo": {"tokens": tokens, "rate": rate, **more}}


def is_counted(text: str) -> bool:
    """Whether the text is a run of numbers from 0 on without a gap or a repetition; the last may be cut off."""
    words = text.split(" ")
    return words[:-1] == [str(number) for number in range(len(words) - 1)]


__all__ = [
    "CEILING_S",
    "KernelProcess",
    "Relatives",
    "allow_unsigned",
    "counting",
    "instance_of",
    "is_counted",
    "judged",
    "numbers",
    "slot_of",
    "until",
    "until_event",
    "until_models",
    "until_ready",
    "write_config",
]
