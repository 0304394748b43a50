"""What a swap costs those who listen: the pause of a running answer by strategy, a switch, a failover.

The pause is what a client sees: the longest time without a token from the moment that the swap was asked for until the
stream has gone on for a while, less the usual gap of that stream (its median until then). The baseline is what one does
without a kernel that swaps: stop, wait for the other model, ask again with what was said so far.

Real models run where ``BYENATOS_TEST_MODELS`` has their files; ``make bench`` has them pulled.
"""

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import Figure, Section, Table
from tests.bench.machine import started

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, NotFound
from byenatos_sdk.protocol.messages import (
    Moved,
    Sampling,
    SwapEvent,
    SwapState,
    SwapStrategy,
    TextDelta,
    assistant,
    user,
)

__all__ = ["measure"]

STREAMS = 16
RATE = 100
SWAPS = 20
LIVE: Final[tuple[SwapStrategy, ...]] = ("immediate", "graceful", "session_aware")
"""Strategies under which somebody may be talking; ``background`` waits until nobody is."""
PARAGRAPH = (
    "The history of computing is a long story of abstraction. Early machines were programmed with wires and switches, "
    "and every program was a physical object. Later, operating systems hid the hardware behind files and drivers. "
)
PARAGRAPHS = 50
"""About 2,000 tokens."""
SETTINGS = {"n_ctx": 4096, "parallel": 2, "threads": 1, "temperature": 0.0, "max_tokens": 2000}
CEILING_S = 240.0


def measure(*, quick: bool) -> Section:
    """Swap echo drivers under load, and real models under one long answer."""
    return asyncio.run(_measure(quick=quick))


async def _measure(*, quick: bool) -> Section:
    swaps = 4 if quick else SWAPS
    async with _kernel({}, {"one": {}, "two": {}, "refuge": {}}, "one", fallback="refuge") as client:
        rows = [await _echo_pauses(client, strategy, swaps) for strategy in LIVE]
        switches = [await _switch(client, number) for number in range(swaps)]
        failovers = [await _failover(client) for _ in range(2 if quick else 4)]
        asked, refused = await _under_load(client, swaps)
    tables = [
        Table(
            f"{STREAMS} paced streams of the echo driver ({RATE} tokens/s each), {swaps} swaps to a model not loaded",
            ("strategy", "usual gap ms", "pause p50 ms", "pause most ms", "swap p50 ms"),
            rows,
        ),
        Table(
            "A slot that is switched to a model that is loaded, and one whose driver is killed",
            ("switch p50 ms", "most ms", "SIGKILL to token p50 ms", "most ms", "asked under swaps", "refused"),
            [
                (
                    *(statistics.median(switches) * 1000, max(switches) * 1000),
                    *(statistics.median(failovers) * 1000, max(failovers) * 1000),
                    *(float(asked), float(refused)),
                )
            ],
        ),
    ]
    figures = [
        Figure("switch to a loaded model, p50", statistics.median(switches) * 1000, "ms", 5),
        Figure("failover of a running answer, p50", statistics.median(failovers) * 1000, "ms", 300),
        Figure(f"requests refused during {swaps} swaps under load", float(refused), "", 0),
    ]
    folder = os.environ.get("BYENATOS_TEST_MODELS", "")
    files = {name: Path(folder, f"{name}.gguf") for name in ("smollm2", "gemma-3-270m")}
    if not folder or not all(file.is_file() for file in files.values()):
        raise SystemExit("BYENATOS_TEST_MODELS names no folder with the two models; `make bench` pulls them")
    real = []
    for target in files:
        async with _kernel(files, {}, "smollm2") as client:
            moved = [await _real_pause(client, target) for _ in range(1 if quick else 3)]
            naive = await _naive(client, target)
        pause = statistics.median(extra for extra, _ in moved)
        usual = statistics.median(gap for _, gap in moved)
        real.append((f"smollm2 → {target}", usual * 1000, pause * 1000, naive * 1000, naive / max(pause, 1e-4)))
        figures.append(Figure(f"pause at 2,000 tokens, smollm2 → {target}, p50", pause * 1000, "ms", 50))
    tables.append(
        Table(
            "One answer of a real model at about 2,000 tokens, swapped by immediate",
            ("models", "usual gap ms", "pause p50 ms", "stop and ask again ms", "times"),
            real,
        )
    )
    return Section(tables, figures)


@asynccontextmanager
async def _kernel(
    files: dict[str, Path], models: dict[str, dict[str, Any]], default: str, **more: str
) -> AsyncIterator[AsyncClient]:
    """A kernel on the files of real models and on ``models`` of the echo driver, with ``default`` in the slot."""
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as folder:
        home = Home(folder)
        home.create()
        configured: list[dict[str, Any]] = [
            {"model_id": name, "vendor": "echo", "settings": settings} for name, settings in models.items()
        ]
        configured += [{"model_id": name, "vendor": "llamacpp", "settings": SETTINGS} for name in files]
        more = {f"{name}_model": model for name, model in {"default": default, **more}.items()}
        home.config.write_text(json.dumps({"llm_driver_config": more, "model_config": configured}), "utf-8")
        (home.policies / "swap.toml").write_text("[swap]\nkeep_old_s = 0\n")
        for name, file in files.items():
            (home.models / f"{name}.gguf").symlink_to(file)
        with started("byenatos_kernel.daemon", "--home", folder):
            while not home.socket.exists():
                await asyncio.sleep(0.05)
            async with asyncio.timeout(CEILING_S), AsyncClient(home.path) as client:
                while (await client.slots())[0].state != "ready":
                    await asyncio.sleep(0.02)
                yield client


# ---- the echo driver -------------------------------------------------------------------------------------------


async def _echo_pauses(client: AsyncClient, strategy: SwapStrategy, swaps: int) -> tuple[str | float, ...]:
    pauses: list[float] = []
    usual: list[float] = []
    took: list[float] = []
    for number in range(swaps):
        target = await _other(client)
        asked = asyncio.Event()
        over = asyncio.Event()
        sessions = [f"{strategy} {number} {one}" if one % 2 else None for one in range(STREAMS)]
        listening = [asyncio.create_task(_listen(client, session, asked, over)) for session in sessions]
        await asyncio.sleep(30 / RATE)
        asked.set()
        took.append((await client.swap("default", target, strategy=strategy)).elapsed_s)
        await asyncio.sleep(20 / RATE)
        over.set()
        for pause, gap in await asyncio.gather(*listening):
            pauses.append(pause)
            usual.append(gap)
    return (
        strategy,
        statistics.median(usual) * 1000,
        statistics.median(pauses) * 1000,
        max(pauses) * 1000,
        statistics.median(took) * 1000,
    )


async def _listen(
    client: AsyncClient, session: str | None, asked: asyncio.Event, over: asyncio.Event
) -> tuple[float, float]:
    """Read a stream until ``over``; return its pause since ``asked`` beyond the usual gap, and that gap."""
    usual: list[float] = []
    longest = 0.0
    async with client.stream("count", session=session, extra={"echo": {"tokens": -1, "rate": RATE}}) as stream:
        before = time.perf_counter()
        async for delta in stream:
            if not isinstance(delta, TextDelta):
                continue
            now = time.perf_counter()
            gap, before = now - before, now
            if not asked.is_set():
                usual.append(gap)
            longest = max(longest, gap) if asked.is_set() else 0.0
            if over.is_set():
                break
    gap = statistics.median(usual[1:])
    return max(longest - gap, 0.0), gap


async def _other(client: AsyncClient) -> str:
    return "two" if (await client.slots())[0].model == "one" else "one"


async def _switch(client: AsyncClient, number: int) -> float:
    """Preload the other model, and swap to it; return after how long new requests went there."""
    target = await _other(client)
    await client.preload(target)
    steps: list[SwapEvent] = []
    event = await client.swap("default", target, strategy=LIVE[number % len(LIVE)], on_event=steps.append)
    with suppress(NotFound):  # it has gone by itself, unless it was preloaded as well
        await client.unload(event.source)
    return next(step.elapsed_s for step in steps if step.state is SwapState.SWITCHED)


async def _failover(client: AsyncClient) -> float:
    """Kill the process under a running answer; return the time to its next token."""
    async with client.stream("count", extra={"echo": {"tokens": -1, "rate": RATE}}) as stream:
        for _ in range(10):
            await anext(stream)
        status = await client.status()
        model = status.slots[0].model
        pid = next(one.pid for one in status.instances if one.model == model and one.pid)
        killed = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        moved = False
        async for delta in stream:
            moved = moved or isinstance(delta, Moved)
            if moved and isinstance(delta, TextDelta):
                break
        took = time.perf_counter() - killed
    await client.swap("default", await _other(client))
    return took


async def _under_load(client: AsyncClient, swaps: int) -> tuple[int, int]:
    """Swap while 64 clients ask one question after the other; return how many they asked, and were refused."""
    running = True
    asked = refused = 0

    async def ask() -> None:
        nonlocal asked, refused
        while running:
            asked += 1
            try:
                await client.infer("count", extra={"echo": {"tokens": 20, "rate": RATE}})
            except ByenatosError:
                refused += 1

    asking = [asyncio.create_task(ask()) for _ in range(64)]
    for number in range(swaps):
        await client.swap("default", await _other(client), strategy=LIVE[number % len(LIVE)])
    running = False
    await asyncio.gather(*asking)
    return asked, refused


# ---- real models -----------------------------------------------------------------------------------------------


def _long(tokens: int) -> Sampling:
    return Sampling(temperature=0.0, max_tokens=tokens, logit_bias={2: -100.0})


async def _real_pause(client: AsyncClient, target: str) -> tuple[float, float]:
    """Swap under one long answer; return its longest pause beyond the usual gap, and that gap."""
    if (await client.slots())[0].model != "smollm2":
        await client.swap("default", "smollm2", until="retired")
    usual: list[float] = []
    longest = 0.0
    after = 0
    swap: asyncio.Task[Any] | None = None
    async with client.stream(PARAGRAPH * PARAGRAPHS, sampling=_long(1500)) as stream:
        await anext(stream)
        before = time.perf_counter()
        async for delta in stream:
            if not isinstance(delta, TextDelta):
                continue
            now = time.perf_counter()
            gap, before = now - before, now
            if swap is None:
                usual.append(gap)
            else:
                longest = max(longest, gap)
            if swap is not None and swap.done():
                after += 1
                if after > 20:
                    break
            if swap is None and len(usual) == 20:
                swap = asyncio.create_task(client.swap("default", target, strategy="immediate"))
    if swap is not None:
        await swap
    gap = statistics.median(usual)
    return max(longest - gap, 0.0), gap


async def _naive(client: AsyncClient, target: str) -> float:
    """Stop an answer, wait for the other model, ask it again with what was said; return the time without a token."""
    if (await client.slots())[0].model != "smollm2":
        await client.swap("default", "smollm2", until="retired")
    async with client.stream(PARAGRAPH * PARAGRAPHS, sampling=_long(1500)) as stream:
        for _ in range(20):
            await anext(stream)
        said = stream.text
    begun = time.perf_counter()
    await client.swap("default", target, until="retired")
    messages = (user(PARAGRAPH * PARAGRAPHS), assistant(said))
    async with client.stream(messages, sampling=_long(20)) as stream:
        await anext(stream)
    return time.perf_counter() - begun
