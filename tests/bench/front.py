"""The HTTP front: one worker, from a client's bytes to the echo driver and back, next to the same call without it.

The client is a selector and sockets, one request on each. CPU is what the worker and the kernel used, all threads.
"""

import re
import time

from tests.bench import front_vendor
from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.http_load import FrontUnderTest, chat_request, drive
from tests.bench.load import LoadClient, round_trips
from tests.bench.machine import TARGET, echo_request, memory_of, real_kernel

__all__ = ["measure"]

IN_FLIGHT = {1: 300, 16: 3000, 64: 3000}
ROUNDS = 6
TOKENS = 4000
STREAMS = (1, 16)
PACED, PACE_S, PACED_TOKENS = 32, 0.005, 400
IDLE, BUSY = 500, 50
IDLE_KIB = 24
IDLE_SLOWS = 1.25
MODELS = {
    "counting": {"tokens": TOKENS},
    "paced": {"tokens": PACED_TOKENS, "rate": 1 / PACE_S},
    "quiet": {"tokens": -1, "rate": 0.02},
}
_TEXT = "y" * 400
_TOKEN = re.compile(rb'"delta":\{"content":"([^"]*)"')


def _request(model: str, *, stream: bool = False) -> bytes:
    return chat_request(model, _TEXT, stream=stream)


def _requests(front: FrontUnderTest, client: LoadClient, rounds: int) -> tuple[Table, list[Figure]]:
    rows: list[tuple[str | float, ...]] = []
    body = echo_request(reply=_TEXT)
    for in_flight, count in IN_FLIGHT.items():
        best = [float("inf")] * 6
        most = direct_most = 0.0
        with front.connected(in_flight) as exchanges:
            for _ in range(rounds):
                direct = round_trips(client, TARGET, body, in_flight=in_flight, count=count)
                worker, kernel = front.costs()
                done = drive(exchanges, _request(TARGET), count)
                used = [now - before for now, before in zip(front.costs(), (worker, kernel), strict=True)]
                found = [
                    microseconds(percentile(done.latencies, 50)),
                    microseconds(percentile(done.latencies, 99)),
                    microseconds(percentile(direct.latencies, 50)),
                    *(one / count * 1e6 for one in used),
                    done.own_cpu_s / count * 1e6,
                ]
                best = [min(pair) for pair in zip(best, found, strict=True)]
                most, direct_most = max(most, count / done.wall_s), max(direct_most, count / direct.wall_s)
        rows.append((in_flight, best[0], best[1], best[2], most, direct_most, *best[3:]))
    columns = (
        "in flight",
        "p50 µs",
        "p99 µs",
        "direct p50",
        "req/s",
        "direct req/s",
        "worker µs",
        "kernel µs",
        "own µs",
    )
    one, full = rows[0], rows[-1]
    figures = [
        Figure("front: above a direct call, 1 in flight, p50", float(one[1]) - float(one[3]), "µs", 600),
        Figure("front: requests a second, 64 in flight", float(full[4]), "1/s", 15_000, at_most=False),
    ]
    return Table("Requests through one worker of the HTTP front, to the echo driver", columns, rows), figures


def _streams(front: FrontUnderTest, rounds: int) -> tuple[Table, list[Figure]]:
    rows: list[tuple[str | float, ...]] = []
    request = _request("counting", stream=True)
    for count in STREAMS:
        first = worker_us = kernel_us = float("inf")
        rate = 0.0
        with front.connected(count) as exchanges:
            for _ in range(rounds):
                before = front.costs()
                done = drive(exchanges, request, count)
                used = [now - then for now, then in zip(front.costs(), before, strict=True)]
                tokens = count * TOKENS
                first = min(first, microseconds(percentile([one.latencies[0] for one in exchanges], 50)))
                rate = max(rate, tokens / done.wall_s)
                worker_us, kernel_us = min(worker_us, used[0] / tokens * 1e6), min(kernel_us, used[1] / tokens * 1e6)
        rows.append((count, rate, first, worker_us, kernel_us))
    columns = ("streams", "tokens/s", "first piece µs", "worker µs/token", "kernel µs/token")
    dearest = max(float(row[3]) for row in rows)
    figures = [
        Figure("front: worker's CPU for a streamed token", dearest, "µs", 25),
        Figure("front: tokens a second, 16 streams", float(rows[-1][1]), "1/s", 60_000, at_most=False),
    ]
    return Table("Streams through the HTTP front, as fast as they come", columns, rows), figures


def _paced(front: FrontUnderTest) -> tuple[Table, list[Figure]]:
    before = front.costs()
    with front.connected(PACED) as exchanges:
        for exchange in exchanges:
            exchange.kept = []
        done = drive(exchanges, _request("paced", stream=True), PACED)
        used = [now - then for now, then in zip(front.costs(), before, strict=True)]
        gaps = [
            later - earlier for one in exchanges for earlier, later in zip(one.arrivals, one.arrivals[1:], strict=False)
        ]
    tokens = PACED * PACED_TOKENS
    worker_us, kernel_us = (one / tokens * 1e6 for one in used)
    text = b"".join(b"%d " % number for number in range(PACED_TOKENS))  # a late token comes together with the next
    cut = sum(b"".join(_TOKEN.findall(b"".join(one.kept or []))) != text for one in exchanges)
    row = (tokens / done.wall_s, *(percentile(gaps, at) / 1e6 for at in (50, 99)), worker_us, kernel_us)
    columns = ("tokens/s", "gap p50 ms", "gap p99 ms", "worker µs/token", "kernel µs/token")
    figures = [
        Figure("front: worker's CPU for a paced token", worker_us, "µs", 25),
        Figure("front: paced streams that lack something", cut, "", 0),
    ]
    return Table(f"{PACED} streams with a token every {PACE_S * 1000:.0f} ms", columns, [row]), figures


def _crowd(front: FrontUnderTest, rounds: int) -> tuple[Table, list[Figure]]:
    rows: list[tuple[str | float, ...]] = []
    with front.connected(BUSY) as busy:
        drive(busy, _request(TARGET), BUSY * 40)
        for idle in (0, IDLE):
            before = memory_of(front.pid, "VmRSS")
            with front.connected(idle) as quiet:
                for exchange in quiet:
                    exchange.ask(_request("quiet", stream=True))
                for exchange in quiet:  # its first piece: it runs
                    exchange.receive()
                held = memory_of(front.pid, "VmRSS")
                done, spent = [], []
                for _ in range(rounds):
                    earlier, _ = front.costs()
                    done.append(drive(busy, _request(TARGET), BUSY * 40))
                    spent.append((front.costs()[0] - earlier) / (BUSY * 40) * 1e6)
                p50, p99 = (min(microseconds(percentile(one.latencies, at)) for one in done) for at in (50, 99))
                most = max(BUSY * 40 / one.wall_s for one in done)
            each = (held - before) / idle / 1024 if idle else 0.0
            rows.append((idle, most, p50, p99, min(spent), held / 2**20, each))
    columns = ("idle streams", "req/s", "p50 µs", "p99 µs", "worker µs", "worker MiB", "KiB for each idle one")
    alone, beside = (float(row[4]) for row in rows)
    return Table(f"{BUSY} requests in flight beside streams that say nothing", columns, rows), [
        Figure("front: memory of an idle stream, in the worker", float(rows[-1][-1]), "KiB", IDLE_KIB),
        Figure(f"front: CPU for a request beside {IDLE} idle streams, over alone", beside / alone, "", IDLE_SLOWS),
    ]


def measure(*, quick: bool) -> Section:
    """Measure all of it in one kernel."""
    rounds = ROUNDS // (3 if quick else 1)
    started = time.perf_counter()
    with real_kernel(models=MODELS, fronts={"http": {"listen": "127.0.0.1:0", "workers": 1}}) as system:
        front = FrontUnderTest(system)
        up_s = time.perf_counter() - started
        client = system.client()
        parts = [_requests(front, client, rounds), _streams(front, rounds), _paced(front), _crowd(front, rounds)]
        client.close()
    start = Table("From the kernel's start until its front serves", ("s",), [(up_s,)])
    chain = front_vendor.measure(quick=quick)
    return Section(
        [*(table for table, _ in parts), start, *chain.tables],
        [*(figure for _, figures in parts for figure in figures), *chain.figures],
    )
