"""What isolation costs: until a driver says Hello, in memory, for each request; and how soon all of it is gone.

Baseline of each figure: the same process without a layer, or started without a template. Variants take turns.
"""

import asyncio
import os
import select
import signal
import statistics
import subprocess
import sys
import time

from tests.bench.figures import Figure, Section, Table, percentile
from tests.bench.machine import echo_request
from tests.bench.sandboxes import Kind, end, sandboxes, share_of

__all__ = ["measure"]

SPAWNS = 24
COUNTS = (1, 5, 20)
ROUND_TRIPS, BATCHES = 100, 40
KILLS, KILLED = 8, 4
TEXT = "x" * 512
AS_ROOT = os.geteuid() == 0

VARIANTS: list[tuple[str, Kind, int, bool]] = [
    ("plain start", "plain", 0, False),
    ("plain start, all layers", "plain", 0, True),
    ("shared template", "shared", 1, False),
    ("shared template, all layers", "shared", 1, True),
    ("one-shot, warm", "one-shot", 1, False),
    ("one-shot, warm, all layers", "one-shot", 1, True),
    ("one-shot, cold", "one-shot", 0, False),
    ("one-shot, cold, all layers", "one-shot", 0, True),
]
"""Name, template, how many are kept warm, whether with layers."""


def measure(*, quick: bool) -> Section:
    """Measure everything."""
    parts = [
        asyncio.run(_spawns(SPAWNS // (4 if quick else 1))),
        *([asyncio.run(_memory())] if AS_ROOT else []),  # nobody else may look
        asyncio.run(_round_trips(BATCHES // (4 if quick else 1))),
        _deaths(KILLS // (4 if quick else 1)),
    ]
    return Section([table for part in parts for table in part.tables], [one for part in parts for one in part.figures])


async def _spawns(count: int) -> Section:
    taken: dict[str, list[int]] = {name: [] for name, _, _, _ in VARIANTS}
    async with sandboxes(warm=1) as warm, sandboxes(warm=0) as cold:
        for kind in ("shared", "one-shot"):
            await warm.spawn(kind, layers=True)
        for _ in range(count):
            for name, kind, kept, layers in VARIANTS:
                await warm.warmed()
                taken[name].append(await (warm if kept else cold).spawn(kind, layers=layers))
    plain = percentile(taken["plain start"], 50)
    rows = [
        (name, percentile(times, 50) / 1e6, percentile(times, 90) / 1e6, min(times) / 1e6,
         percentile(times, 50) / plain)
        for name, times in taken.items()
    ]  # fmt: skip
    table = Table(
        f"Sandbox: from launch to Hello, {count} times each, as {'root' if AS_ROOT else 'an ordinary user'}",
        ("made by", "p50 ms", "p90 ms", "least ms", "of a plain start"),
        rows,
    )
    bound = 20 if AS_ROOT else 15
    shared = percentile(taken["shared template, all layers"], 50) / 1e6
    one_shot = percentile(taken["one-shot, warm, all layers"], 50) / 1e6
    return Section(
        [table],
        [
            Figure("sandbox from the shared template to Hello, p50", shared, "ms", bound),
            Figure("one-shot sandbox from a warm template to Hello, p50", one_shot, "ms", 20),
        ],
    )


async def _memory() -> Section:
    rows: list[tuple[str | float, ...]] = []
    shares: dict[tuple[str, int], float] = {}
    async with sandboxes() as made:
        kinds: list[tuple[str, Kind, bool]] = [
            ("plain start, no layer", "plain", False),
            ("shared template", "shared", True),
            ("one-shot", "one-shot", True),
        ]
        for name, kind, layers in kinds:
            for count in COUNTS:
                links = [await made.start(kind, layers=layers) for _ in range(count)]
                await made.warmed()
                found = [share_of(link.pid) for link in links]
                share, private = (statistics.mean(one[key] for one in found) for key in ("share", "private"))
                shares[name, count] = share
                rows.append((name, count, share, private, share / shares["plain start, no layer", count]))
                for link in links:
                    await end(link)
    return Section(
        [
            Table(
                "Sandbox: memory of an idle one that has said Hello, the mean of so many",
                ("made by", "at once", "PSS MB", "private MB", "of a plain start"),
                rows,
            )
        ],
        [Figure("idle sandbox from the shared template, PSS, 5 at once", shares["shared template", 5], "MB", 6)],
    )


async def _round_trips(batches: int) -> Section:
    body = echo_request(reply=TEXT)
    taken: dict[bool, list[int]] = {True: [], False: []}
    async with sandboxes() as made:
        links = {layers: await made.start("shared", layers=layers) for layers in taken}
        for link in links.values():
            await link.load()
        for batch in range(batches + 1):
            for layers, link in links.items():
                for _ in range(ROUND_TRIPS):
                    began = time.perf_counter_ns()
                    await link.round_trip(body)
                    if batch:
                        taken[layers].append(time.perf_counter_ns() - began)
        for link in links.values():
            await end(link)
    rows = [
        ("all layers" if layers else "no layer", percentile(times, 50) / 1e3, percentile(times, 99) / 1e3)
        for layers, times in taken.items()
    ]
    ratio = percentile(taken[True], 50) / percentile(taken[False], 50)
    return Section(
        [
            Table(
                f"Sandbox: an echo request of 512 bytes over the channel, {batches * ROUND_TRIPS:,} times each",
                ("process", "p50 µs", "p99 µs", "ratio of p50"),
                [(*rows[0], ratio), (*rows[1], 1)],
            )
        ],
        [Figure("round trip with all layers, against none", ratio, "times", 1.02)],
    )


def _deaths(count: int) -> Section:
    taken = [_kill_a_launcher() for _ in range(count)]
    return Section(
        [
            Table(
                f"Sandbox: SIGKILL of the launching process to the last of {KILLED} sandboxes and their templates gone",
                ("p50 ms", "least ms", "most ms"),
                [(percentile(taken, 50) / 1e6, min(taken) / 1e6, max(taken) / 1e6)],
            )
        ],
        [Figure("launching process killed: all sandboxes gone, p50", percentile(taken, 50) / 1e6, "ms", 20)],
    )


def _kill_a_launcher() -> int:
    command = [sys.executable, "-m", "tests.bench.sandboxes", str(KILLED)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        pids = [int(word) for word in launcher.stdout.readline().split()]
        watched = [os.pidfd_open(pid) for pid in pids]
        began = time.perf_counter_ns()
        launcher.send_signal(signal.SIGKILL)
        for descriptor in watched:
            select.select([descriptor], [], [])
        took = time.perf_counter_ns() - began
        for descriptor in watched:
            os.close(descriptor)
        return took
