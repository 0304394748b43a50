"""What it costs a running answer of a real model to move to another process, and to lose its process.

The client sees tokens come; what is measured is the gap between the last token of one process and the first of the
next, which a ``Moved`` between them tells apart, less the usual gap of that answer until then (its median): the *extra
pause*. On a shared machine usual gaps vary too; their own 99th percentile stands beside it. A killed process is
measured from the ``kill`` to the next token. Both are held against reading the conversation again, which is what is
saved: the time from a question to its first token where nobody has read it before.

Needs the real SmolLM2 file in the folder that ``BYENATOS_TEST_MODELS`` names; ``make bench`` has it pulled.
"""

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.figures import Figure, Section, Table
from tests.bench.machine import started

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.messages import InstanceState, Moved, Sampling, SwapStrategy, TextDelta

__all__ = ["measure"]

PARAGRAPH = (
    "The history of computing is a long story of abstraction. Early machines were programmed with wires and switches, "
    "and every program was a physical object. Later, operating systems hid the hardware behind files and drivers. "
)
LENGTHS = {512: 12, 2048: 50, 4096: 101}
"""Positions of context, and how many paragraphs make them."""

MOVES, KILLS = 50, 8
JOURNAL = 1
"""A piece at every token."""
BETWEEN = 12
"""Tokens that are waited for before the next move."""

CEILING_S = 1200.0
"""For all moves at one length; a busy machine takes several times as long as a quiet one."""


def measure(*, quick: bool) -> Section:
    """Move and kill an answer at three lengths of context."""
    folder = os.environ.get("BYENATOS_TEST_MODELS", "")
    file = Path(folder, "smollm2.gguf")
    if not folder or not file.is_file():
        raise SystemExit("BYENATOS_TEST_MODELS names no folder with smollm2.gguf; `make bench` pulls it")
    return asyncio.run(_measure(file, quick=quick))


async def _measure(file: Path, *, quick: bool) -> Section:
    lengths = [512] if quick else list(LENGTHS)
    moves, kills = (10, 3) if quick else (MOVES, KILLS)
    rows: list[tuple[str | float, ...]] = []
    figures: list[Figure] = []
    for length in lengths:
        prompt = PARAGRAPH * LENGTHS[length]
        async with _kernel(file, journal=0) as client:
            read_s = await _first_token(client, prompt)
            gaps, pauses, extra = await _moves(client, prompt, moves)
        async with _kernel(file, journal=JOURNAL) as client:
            await _first_token(client, prompt)
            deaths = await _kills(client, prompt, kills)
        pause = statistics.median(pauses)
        rows.append(
            (
                *(length, len(pauses), _percentile(gaps, 50) * 1000, _percentile(gaps, 99) * 1000),
                *(_percentile(extra, 50) * 1000, _percentile(extra, 99) * 1000),
                *(statistics.median(deaths) * 1000, max(deaths) * 1000, read_s, read_s / pause),
            )
        )
        figures += [
            Figure(f"extra pause of an answer at a move, {length} tokens, p99", _percentile(extra, 99) * 1000, "ms", 5),
            Figure(
                f"SIGKILL of its process to the next token, {length} tokens, p50",
                statistics.median(deaths) * 1000,
                "ms",
                150 if length == 512 else 300,
            ),
            Figure(
                f"reading {length} tokens again, against a move",
                read_s / pause,
                "times",
                100 if length == 512 else 500 if length == 4096 else 250,
                at_most=False,
            ),
        ]
    title = "An answer that moves to another process, and one whose process is killed (journal at every token)"
    columns = (
        *("tokens", "moves", "usual gap p50 ms", "p99 ms", "extra at moves p50 ms", "p99 ms"),
        *("kill to token p50 ms", "most ms", "reading again s", "times a move"),
    )
    return Section([Table(title, columns, rows)], figures)


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@asynccontextmanager
async def _kernel(file: Path, *, journal: int) -> AsyncIterator[AsyncClient]:
    """A kernel with the model on the default slot."""
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as folder:
        home = Home(folder)
        home.create()
        settings = {"n_ctx": 8192, "parallel": 1, "threads": 1, "temperature": 0.0, "max_tokens": 4000}
        model = {"model_id": "smollm2", "vendor": "llamacpp", "journal": journal, "settings": settings}
        home.config.write_text(
            json.dumps({"llm_driver_config": {"default_model": "smollm2"}, "model_config": [model]}), "utf-8"
        )
        (home.models / "smollm2.gguf").symlink_to(file)
        with started("byenatos_kernel.daemon", "--home", folder):
            while not home.socket.exists():
                await asyncio.sleep(0.05)
            async with asyncio.timeout(CEILING_S), AsyncClient(home.path) as client:
                await _ready(client)
                yield client


async def _ready(client: AsyncClient) -> int:
    """Wait until one instance serves, and return its pid."""
    while True:
        status = await client.status()
        if [one.state for one in status.instances] == [InstanceState.READY] and status.slots[0].state == "ready":
            return status.instances[0].pid
        await asyncio.sleep(0.02)


async def _first_token(client: AsyncClient, prompt: str) -> float:
    """From the question to its first token; nobody has read it."""
    begun = time.perf_counter()
    async with client.stream(prompt, sampling=_endless(2)) as stream:
        await anext(stream)
        return time.perf_counter() - begun


def _endless(tokens: int) -> Sampling:
    return Sampling(temperature=0.0, max_tokens=tokens, logit_bias={2: -100.0})


async def _moves(client: AsyncClient, prompt: str, count: int) -> tuple[list[float], list[float], list[float]]:
    """Reload the model under one answer after the other; return usual gaps, gaps at moves, and by how much longer."""
    gaps: list[float] = []
    pauses: list[float] = []
    extra: list[float] = []
    while len(pauses) < count:
        async with client.stream(prompt, sampling=_endless(400)) as stream:
            swap: asyncio.Task[object] | None = None
            before = await _until_text(stream)
            own: list[float] = []
            moved = False
            async for delta in stream:
                if isinstance(delta, Moved):
                    moved = True
                if not isinstance(delta, TextDelta):
                    continue
                now = time.perf_counter()
                gap, before = now - before, now
                if moved:
                    pauses.append(gap)
                    extra.append(gap - statistics.median(own))
                    moved = False
                elif swap is None or swap.done():
                    own.append(gap)
                if swap is not None and swap.done():
                    await swap
                    swap = None
                if len(pauses) >= count:
                    break
                if swap is None and len(own) >= BETWEEN and len(own) % BETWEEN == 0:
                    swap = asyncio.create_task(_reload(client, "immediate"))
            if swap is not None:
                await swap
            gaps += own
    return gaps, pauses, extra


async def _reload(client: AsyncClient, strategy: SwapStrategy) -> None:
    """Swap the model for itself and wait until the old process is gone."""
    await client.swap("default", "smollm2", strategy=strategy, until="retired", keep_old_s=0)


async def _kills(client: AsyncClient, prompt: str, count: int) -> list[float]:
    """Kill the process under one answer after the other; return the times to the next token."""
    found: list[float] = []
    while len(found) < count:
        pid = await _ready(client)
        async with client.stream(prompt, sampling=_endless(400)) as stream:
            for _ in range(BETWEEN):
                await _until_text(stream)
            killed = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            moved = False
            async for delta in stream:
                moved = moved or isinstance(delta, Moved)
                if moved and isinstance(delta, TextDelta):
                    found.append(time.perf_counter() - killed)
                    break
        # a second crash of the same unit would wait longer before its restart
        await _reload(client, "graceful")
    return found


async def _until_text(stream: AsyncIterator[object]) -> float:
    while not isinstance(await anext(stream), TextDelta):
        pass
    return time.perf_counter()
