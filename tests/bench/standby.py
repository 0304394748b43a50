"""What a warm template saves: until a second instance of a real model is ready, and in memory; a cold start in turns.

The model is SmolLM2 with a context of 4,096 tokens. An instance is ready when it has said so: its process is made,
locked in, looked at from outside, has shaken hands and holds the model. Its memory is looked at after a short session.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.figures import Figure, Section, Table, percentile

from byenatos_kernel.link import DriverLink
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import PluginEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_sandbox import Grant, Templates, missing_layers
from byenatos_sdk.manifest import read_manifest
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.frames import DriverEvent, Load, Ready, Start, encode
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, Sampling, user

__all__ = ["measure"]

FOLDER = Path(__file__).parents[2] / "plugins" / "llamacpp"
CODE = {path.name: path.read_bytes() for path in FOLDER.glob("*.py")}
MANIFEST = read_manifest(FOLDER)
PRELOADED = ("byenatos_sdk.runtime",)
QUESTION = "Why is the sea salt? Explain it in a few sentences."
TOKENS = 40
STARTS = 12
CALM_S = 0.1
_MIB = 1 << 20


class ModelLink(DriverLink):
    """A link to a process that loads the model and answers, one request at a time."""

    def __init__(self, nurseries: Nurseries, file: ModelFile, scratch: str) -> None:
        grant = Grant(
            "bench/smollm2",
            plugin=str(FOLDER),
            files=(str(file.path),),
            memory_mib=4096,
            threads=os.cpu_count() or 1,
            writable_code=True,
            scratch_root=scratch,
        )
        super().__init__(PluginEntry("llamacpp", FOLDER, MANIFEST, stored=FOLDER), grant, nurseries)
        self._order = LoadOrder("smollm2", str(file.path), dict(MANIFEST.settings))
        self._file = file
        self._heard: asyncio.Future[None] = self._loop.create_future()

    async def start(self, *, warm: bool) -> int:
        """Start it; return the nanoseconds until it is ready."""
        began = time.perf_counter_ns()
        self.launch(CODE, file=self._file, order=self._order if warm else None)
        await self.welcomed()
        self.send(Load(), encode(self._order))
        await self._heard
        return time.perf_counter_ns() - began

    async def answer(self) -> None:
        """Have a short session."""
        self._heard = self._loop.create_future()
        sampling = Sampling(temperature=0.0, max_tokens=TOKENS)
        self.send(Start(1), encode(InferenceRequest((user(QUESTION),), sampling=sampling)))
        await self._heard

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        assert self.process is not None
        exited = self.process.exited
        self.fail("measured")
        await exited

    def _event(self, number: int, event: DriverEvent) -> None:
        if isinstance(event, Failure):
            self._heard.set_exception(RuntimeError(event.message))
        elif isinstance(event, Ready | Finish):
            self._heard.set_result(None)
        else:
            super()._event(number, event)


def measure(*, quick: bool) -> Section:
    """Measure both, where the machine and the model are there."""
    folder = os.environ.get("BYENATOS_TEST_MODELS", "")
    model = Path(folder, "smollm2.gguf")
    if not model.is_file():
        raise FileNotFoundError(f"expected the real model at {model}, found none; `make bench` pulls it")
    if lacking := [sentence for sentence in missing_layers() if "resources" not in sentence]:
        return Section([Table("Standby: no templates here", ("because",), [(one,) for one in lacking])], [])
    return asyncio.run(_measure(ModelFile(model), STARTS // (3 if quick else 1)))


async def _measure(file: ModelFile, count: int) -> Section:
    taken: dict[str, list[int]] = {"cold": [], "warm": []}
    memory: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    async with _nurseries() as (nurseries, scratch):
        keeper = ModelLink(nurseries, file, scratch)  # while it lives the template does, as a first instance's
        first = await keeper.start(warm=True)
        for _ in range(count):
            for name, times in taken.items():
                link = ModelLink(nurseries, file, scratch)
                await asyncio.sleep(CALM_S)
                times.append(await link.start(warm=name == "warm"))
                await link.answer()
                memory[name].append(_memory_of(link.pid))
                await link.end()
        template = next(iter(nurseries._kept)).memory_mib
        await keeper.end()
    rows: list[tuple[str | float, ...]] = []
    for name, times in taken.items():
        dirty, share = (_middle([one[key] for one in memory[name]]) for key in ("Private_Dirty", "Pss"))
        rows.append((name, percentile(times, 50) / 1e6, percentile(times, 90) / 1e6, min(times) / 1e6, dirty, share))
    cold, warm = rows
    ratios = ("cold / warm", *(float(one) / float(other) for one, other in zip(cold[1:], warm[1:], strict=True)))
    table = Table(
        f"Standby: from launch to ready, {count} times each; memory after an answer of {TOKENS} tokens "
        f"(the template itself: loaded in {first / 1e6:.0f} ms, {template} MB of its own)",
        ("start", "p50 ms", "p90 ms", "least ms", "private dirty MB", "PSS MB"),
        [cold, warm, ratios],
    )
    return Section(
        [table],
        [
            Figure("second instance of a loaded model, to ready, p50", float(warm[1]), "ms", 10),
            Figure("its private memory after a short session", float(warm[4]), "MB", 10),
        ],
    )


@asynccontextmanager
async def _nurseries() -> AsyncIterator[tuple[Nurseries, str]]:
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as scratch:
        nurseries = Nurseries(Templates(PRELOADED))
        nurseries.templates.start()
        try:
            yield nurseries, scratch
        finally:
            nurseries.close()


def _memory_of(pid: int) -> dict[str, float]:
    words = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:])
    return {line[0].rstrip(":"): int(line[1]) * 1024 / _MIB for line in words}


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
