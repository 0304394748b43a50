"""Streamed answers: how many deltas go through in a second, and what one costs, here and in the naive kernel."""

import time
from collections import defaultdict
from typing import Literal

from tests.bench.figures import Figure, Section, Table
from tests.bench.load import LoadClient
from tests.bench.machine import TARGET, System, echo_request, real_kernel
from tests.bench.naive import naive_kernel

from byenatos_sdk.protocol.messages import Failure, Finish, TextDelta

__all__ = ["measure"]

STREAMS = (1, 16, 256)
ROUNDS = 8
TEXT = "token "
DELTAS = {("single", 1): 20_000, ("single", 16): 80_000, ("single", 256): 80_000}
DELTAS |= {("step", 1): 20_000, ("step", 16): 240_000, ("step", 256): 400_000}
NAIVE_DELTAS = 4_000
Batch = Literal["single", "step"]
BATCHES: tuple[Batch, ...] = ("single", "step")


class _Row:
    """The best of several rounds: what else runs on the machine makes every figure worse, never better."""

    def __init__(self) -> None:
        self.per_second = 0.0
        self.main_us = self.process_us = self.client_us = float("inf")

    def add(self, deltas: int, *, wall_s: float, main_s: float, process_s: float, client_s: float) -> None:
        """Take in one round."""
        self.per_second = max(self.per_second, deltas / wall_s)
        self.main_us = min(self.main_us, main_s / deltas * 1e6)
        self.process_us = min(self.process_us, process_s / deltas * 1e6)
        self.client_us = min(self.client_us, client_s / deltas * 1e6)

    def cells(self) -> tuple[float, ...]:
        """The table's columns."""
        return (self.per_second, self.main_us, self.process_us, self.client_us)


def measure(*, quick: bool) -> Section:
    """Flood through the kernel and through the naive one, in turns."""
    rounds = ROUNDS // (4 if quick else 1)
    kernel: dict[tuple[Batch, int], _Row] = defaultdict(_Row)
    naive: dict[tuple[Batch, int], _Row] = defaultdict(_Row)
    with real_kernel() as real, naive_kernel() as simple:
        for _ in range(rounds):
            for batch in BATCHES:
                for streams in STREAMS:
                    _flood(real, kernel[batch, streams], streams, DELTAS[batch, streams], batch)
                    _flood(simple, naive[batch, streams], streams, NAIVE_DELTAS, batch)
    rows: list[tuple[str | float, ...]] = []
    for name, results in (("kernel", kernel), ("naive", naive)):
        rows += [(name, *key, *row.cells()) for key, row in results.items()]
    ratios = {key: naive[key].main_us / row.main_us for key, row in kernel.items()}
    tables = [
        Table(
            f"Streams: deltas of {len(TEXT)} characters, alone (single) or one frame per step: best of {rounds}",
            ("", "driver", "streams", "deltas/s", "main µs/delta", "process µs/delta", "client µs/delta"),
            rows,
        ),
        Table(
            "Main thread CPU per delta: the naive kernel's in multiples of the kernel's",
            ("driver", "streams", "times"),
            [(*key, ratio) for key, ratio in ratios.items()],
        ),
    ]
    single = min(kernel["single", streams].per_second for streams in (16, 256))
    step = min(kernel["step", streams].per_second for streams in (16, 256))
    return Section(
        tables,
        [
            Figure("deltas per second, each sent alone, 16 streams and more", single, "/s", 400_000, at_most=False),
            Figure("deltas per second, one frame per step, 16 streams and more", step, "/s", 1_500_000, at_most=False),
            Figure("naive kernel's CPU per delta, the worst case", min(ratios.values()), "times", 15, at_most=False),
        ],
    )


def _flood(system: System, row: _Row, streams: int, deltas: int, batch: Batch) -> None:
    tokens = deltas // streams
    body = echo_request(tokens=tokens, text=TEXT, batch=batch)
    client = system.client()
    try:
        before, process = system.status(), system.cpu_s()
        own, start = time.thread_time(), time.perf_counter()
        characters = _read(client, streams, body)
        wall, own = time.perf_counter() - start, time.thread_time() - own
        after, process = system.status(), system.cpu_s() - process
    finally:
        client.close()
    count = tokens * streams
    if characters != count * len(TEXT) or after.deltas - before.deltas != count:
        raise AssertionError(
            f"expected {count} deltas, found {after.deltas - before.deltas} and {characters} characters"
        )
    row.add(count, wall_s=wall, main_s=after.cpu_s - before.cpu_s, process_s=process, client_s=own)


def _read(client: LoadClient, streams: int, body: bytes) -> int:
    for _ in range(streams):
        client.open(TARGET, body)
    client.flush()
    characters = running = 0
    running = streams
    while running:
        for _, event in client.receive():
            if type(event) is TextDelta:
                characters += len(event.text)
            elif type(event) is Finish:
                running -= 1
            elif type(event) is Failure:
                raise AssertionError(event.message)
    return characters
