"""Sandboxes to be measured: real links of the kernel to real driver processes, the echo driver in all of them.

Run as a program it starts as many as its argument says, prints their process ids and waits to be killed.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

from byenatos_kernel.link import DriverLink
from byenatos_kernel.models import PluginEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_sandbox import Grant, Templates
from byenatos_sandbox.layers import LAYERS
from byenatos_sdk.manifest import read_manifest
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.frames import DriverEvent, Load, Ready, Start, encode
from byenatos_sdk.protocol.messages import Failure, Finish

__all__ = ["EchoLink", "Kind", "Sandboxes", "end", "sandboxes", "share_of"]

Kind = Literal["plain", "shared", "one-shot"]
ECHO = Path(__file__).parents[2] / "plugins" / "echo"
CODE = {path.name: path.read_bytes() for path in ECHO.glob("*.py")}
PRELOADED = ("byenatos_sdk.runtime",)
CALM_S = 0.06
CEILING_S = 30.0


class EchoLink(DriverLink):
    """A link that loads the echo driver and makes requests, one at a time."""

    def __init__(self, grant: Grant, nurseries: Nurseries) -> None:
        super().__init__(PluginEntry("echo", ECHO, read_manifest(ECHO), stored=ECHO), grant, nurseries)
        self._heard: asyncio.Future[None] = self._loop.create_future()
        self._number = 0

    async def load(self) -> None:
        """Have the driver loaded."""
        self.send(Load(), encode(LoadOrder("echo")))
        await self._heard

    async def round_trip(self, body: bytes) -> None:
        """Make one request and wait for the end of its answer."""
        self._number += 1
        self._heard = self._loop.create_future()
        self.send(Start(self._number), body)
        await self._heard

    def _event(self, number: int, event: DriverEvent) -> None:
        if isinstance(event, Failure):
            self._heard.set_exception(RuntimeError(event.message))
        elif isinstance(event, Ready | Finish):
            self._heard.set_result(None)
        else:
            super()._event(number, event)


class Sandboxes:
    """Starts them. ``warm`` one-shot templates are kept."""

    def __init__(self, scratch: str, warm: int) -> None:
        self.nurseries = Nurseries(Templates(PRELOADED, warm=warm))
        self._scratch = scratch
        self._started: set[int] = set()

    def link(self, kind: Kind, *, layers: bool = True) -> EchoLink:
        """A link to a process that is not launched yet."""
        without = frozenset() if layers else frozenset(LAYERS)
        grant = Grant(
            "bench/echo", plugin=str(ECHO), template=kind, without=without, scratch_root=self._scratch, memory_mib=512
        )
        return EchoLink(grant, self.nurseries)

    async def start(self, kind: Kind, *, layers: bool = True) -> EchoLink:
        """Launch one and wait until it has said Hello."""
        link = self.link(kind, layers=layers)
        link.launch(CODE)
        await link.welcomed()
        self._started.add(link.pid)
        return link

    async def spawn(self, kind: Kind, *, layers: bool) -> int:
        """Launch one, wait for its Hello, end it; return the nanoseconds up to the Hello."""
        link = self.link(kind, layers=layers)
        began = time.perf_counter_ns()
        link.launch(CODE)
        await link.welcomed()
        took = time.perf_counter_ns() - began
        await end(link)
        return took

    @property
    def idle(self) -> list[int]:
        """The process ids of the templates that wait for an order."""
        return [child for child in _children() if _is_template(child) and child not in self._started]

    async def warmed(self) -> None:
        """Wait until the templates have nothing to do any more."""
        await asyncio.sleep(0.15)  # a launch has a refill of its own waiting that long
        await _settled(self.idle)


async def end(link: EchoLink) -> None:
    """Kill the process behind a link and wait until it is gone."""
    assert link.process is not None
    exited = link.process.exited
    link.fail("measured")
    await exited


@asynccontextmanager
async def sandboxes(*, warm: int = 1) -> AsyncIterator[Sandboxes]:
    """Make a :class:`Sandboxes` with a folder of its own; all are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as scratch:
        made = Sandboxes(scratch, warm)
        made.nurseries.templates.start()
        try:
            yield made
        finally:
            made.nurseries.close()


def share_of(pid: int) -> dict[str, float]:
    """The memory of a process in MB: ``Pss``, its proportional share, and what is its alone; root may look."""
    words = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:])
    sizes = {line[0].rstrip(":"): int(line[1]) / 1024 for line in words}
    return {"share": sizes["Pss"], "private": sizes["Private_Clean"] + sizes["Private_Dirty"]}


async def _settled(pids: list[int]) -> None:
    """Wait until none of some processes takes processor time any more."""
    deadline = time.monotonic() + CEILING_S
    before: list[str] = []
    while (now := [_time_of(pid) for pid in pids]) != before and time.monotonic() < deadline:
        before = now
        await asyncio.sleep(CALM_S)


def _time_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]
    return ""


def _children() -> list[int]:
    pid = os.getpid()
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def _is_template(pid: int) -> bool:
    """Whether a child of ours is a template, or was one before it became a sandbox."""
    with suppress(OSError):
        return b"byenatos_sandbox.template" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


async def _wait_to_be_killed(count: int) -> None:
    async with sandboxes() as made:
        links = [await made.start("one-shot" if number % 2 else "shared") for number in range(count)]
        await made.warmed()
        sys.stdout.write(" ".join(str(pid) for pid in (*(link.pid for link in links), *made.idle)) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, signal.pause)


if __name__ == "__main__":
    asyncio.run(_wait_to_be_killed(int(sys.argv[1])))
