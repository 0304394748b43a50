"""The longest way: HTTP, front, kernel, a sandboxed driver, the broker, TLS, a vendor; next to calls of that vendor.

The driver is what the driver ``openai`` is, with another address; the vendor is ``chat_vendor``. Called directly, it is
asked by the driver's own code for HTTP, TLS and the format.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.http_load import FrontUnderTest, chat_request, drive
from tests.bench.machine import cpu_of
from tests.bench.vendors import PROMPT, Direct, Parts, Row, direct_requests, playing_vendor, since, whole_way

__all__ = ["measure"]

IN_FLIGHT = {1: 250, 16: 1500, 64: 1500}
STREAMS = {1: 8_000, 16: 32_000}
"""Tokens of all streams together, each a write of the vendor's."""
ROUNDS = 6
PARTS = ("front", "kernel", "driver", "broker", "vendor", "client")
TARGET = "default"


class _Streams:
    """The best of several rounds."""

    def __init__(self) -> None:
        self.first = float("inf")
        self.per_second = 0.0

    def add(self, tokens: int, wall_s: float, firsts: list[int]) -> None:
        self.first = min(self.first, microseconds(percentile(firsts, 50)))
        self.per_second = max(self.per_second, tokens / wall_s)


class _Chain:
    """What every process of the chain has spent."""

    def __init__(self, front: FrontUnderTest, vendor: int) -> None:
        self._front = front.pid
        self._parts = Parts(front.system, vendor)

    def spent(self) -> dict[str, float]:
        return {"front": cpu_of(self._front)} | self._parts.spent()


async def _direct_streams(direct: Direct, count: int, tokens: int) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*(direct.ask(f"1 {tokens // count}") for _ in range(count)))
    return time.perf_counter() - begun


def measure(*, quick: bool) -> Section:
    """Measure both ways in turns."""
    rounds = ROUNDS // (3 if quick else 1)
    ways = ("direct", "whole chain")
    requests = {(way, number): Row(PARTS) for number in IN_FLIGHT for way in ways}
    streams = {(way, number): _Streams() for number in STREAMS for way in ways}
    listen = {"http": {"listen": "127.0.0.1:0", "workers": 1}}
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as name:
        folder = Path(name)
        with (
            playing_vendor(folder) as (port, played, ca),
            whole_way(folder, port, ca, listen) as system,
            asyncio.Runner() as runner,
        ):
            front = FrontUnderTest(system)
            chain = _Chain(front, played.pid)
            direct = Direct(port, ca)
            runner.run(direct.connect(max(IN_FLIGHT)))
            asked = chat_request(TARGET, PROMPT)
            with front.connected(max(IN_FLIGHT)) as exchanges:
                drive(exchanges, asked, 200)  # every connection is there
                for _ in range(rounds):
                    for number, count in IN_FLIGHT.items():
                        before = {"client": time.thread_time(), "vendor": cpu_of(played.pid)}
                        latencies, wall_s = runner.run(direct_requests(direct, number, count))
                        spent = since(before, {"client": time.thread_time(), "vendor": cpu_of(played.pid)})
                        requests["direct", number].add(count, wall_s, spent, latencies)
                        before = chain.spent()
                        done = drive(exchanges[:number], asked, count)
                        spent = since(before, chain.spent())
                        requests["whole chain", number].add(count, done.wall_s, spent, done.latencies)
                    for number, tokens in STREAMS.items():
                        direct.firsts.clear()
                        wall_s = runner.run(_direct_streams(direct, number, tokens))
                        streams["direct", number].add(tokens, wall_s, direct.firsts)
                        order = chat_request(TARGET, f"1 {tokens // number}", stream=True)
                        done = drive(exchanges[:number], order, number)
                        firsts = [exchange.latencies[0] for exchange in exchanges[:number]]
                        streams["whole chain", number].add(tokens, done.wall_s, firsts)
    return _section(requests, streams, rounds)


def _section(requests: dict[tuple[str, int], Row], streams: dict[tuple[str, int], _Streams], rounds: int) -> Section:
    tables = [
        Table(
            f"A vendor's model over HTTP, requests: CPU time for each, best of {rounds} rounds",
            ("way", "in flight", "p50 µs", "p99 µs", "req/s", *(f"{part} µs" for part in (*PARTS, "all"))),
            [(*key, row.p50, row.p99, row.per_second, *row.shares()) for key, row in requests.items()],
        ),
        Table(
            "A vendor's model over HTTP, streams with a token in each of the vendor's writes",
            ("way", "streams", "first token p50 µs", "tokens/s"),
            [(*key, row.first, row.per_second) for key, row in streams.items()],
        ),
    ]
    added = requests["whole chain", 1].p50 - requests["direct", 1].p50
    most = max(requests["whole chain", number].per_second for number in IN_FLIGHT)
    return Section(
        tables,
        [
            Figure("front: the whole chain over a direct call, 1 in flight, p50", added / 1000, "ms", 0.6),
            Figure("front: the whole chain, requests a second", most, "1/s", 3_000, at_most=False),
        ],
    )
