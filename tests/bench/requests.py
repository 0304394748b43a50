"""Whole requests: client, kernel, echo driver and back.

Baselines: one ZeroMQ hop without any code, the same driver without a kernel, a relay that passes bytes on unread (the
floor of whatever stands between two processes), and the naive kernel.
"""

import statistics

from tests.bench.direct import direct_echo
from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.load import RoundTrips, round_trips
from tests.bench.lone_driver import lone_driver
from tests.bench.machine import TARGET, System, echo_request, real_kernel
from tests.bench.naive import naive_kernel
from tests.bench.relay import relay

__all__ = ["measure"]

IN_FLIGHT = (1, 16, 64)
ROUNDS = 12
COUNTS = {1: 500, 16: 5000, 64: 5000}
NAIVE_COUNTS = {1: 200, 16: 1000, 64: 1000}


class _Row:
    """The best of several rounds: what else runs on the machine makes every figure worse, never better.

    ``usual_p50`` is the median of the rounds' p50, microseconds. With one request in flight the best round is another
    matter than the usual one: where both processes of a single hop happen to share a processor, none wakes another.
    """

    def __init__(self) -> None:
        self._p50s: list[float] = []
        self.p99 = float("inf")
        self.main_us = self.process_us = self.client_us = float("inf")
        self.per_second = 0.0

    def add(self, done: RoundTrips, main_s: float, process_s: float) -> None:
        """Take in one round."""
        count = len(done.latencies)
        self._p50s.append(microseconds(percentile(done.latencies, 50)))
        self.p99 = min(self.p99, microseconds(percentile(done.latencies, 99)))
        self.per_second = max(self.per_second, count / done.wall_s)
        self.main_us = min(self.main_us, main_s / count * 1e6)
        self.process_us = min(self.process_us, process_s / count * 1e6)
        self.client_us = min(self.client_us, done.own_cpu_s / count * 1e6)

    @property
    def usual_p50(self) -> float:
        """The median of all rounds."""
        return statistics.median(self._p50s)

    def cells(self) -> tuple[float, ...]:
        """The table's columns."""
        return (
            min(self._p50s),
            self.usual_p50,
            self.p99,
            self.per_second,
            self.main_us,
            self.process_us,
            self.client_us,
        )


def measure(*, quick: bool) -> Section:
    """Measure all of them, in turns, so that what disturbs one disturbs the others."""
    rounds = ROUNDS // (4 if quick else 1)
    body = echo_request(reply="y" * 400)
    kernel = {number: _Row() for number in IN_FLIGHT}
    naive = {number: _Row() for number in IN_FLIGHT}
    direct = {number: _Row() for number in IN_FLIGHT}
    lone = {number: _Row() for number in IN_FLIGHT}
    unread = {number: _Row() for number in IN_FLIGHT}
    with (
        real_kernel() as real,
        naive_kernel() as simple,
        direct_echo() as floor,
        lone_driver() as alone,
        relay() as blind,
    ):
        for _ in range(rounds):
            for number in IN_FLIGHT:
                count = COUNTS[number]
                direct[number].add(floor.round_trips(body, in_flight=number, count=count), 0, 0)
                lone[number].add(alone.round_trips(body, in_flight=number, count=count), 0, 0)
                cpu = blind.cpu_s()
                done = blind.round_trips(body, in_flight=number, count=count)
                unread[number].add(done, blind.cpu_s() - cpu, blind.cpu_s() - cpu)
                _drive(real, kernel[number], body, number, count)
                _drive(simple, naive[number], body, number, NAIVE_COUNTS[number])
    rows: list[tuple[str | float, ...]] = []
    rows_of = (
        ("ZeroMQ echo", direct),
        ("driver alone", lone),
        ("blind relay", unread),
        ("kernel", kernel),
        ("naive", naive),
    )
    for name, results in rows_of:
        rows += [(name, number, *row.cells()) for number, row in results.items()]
    table = Table(
        f"Requests ({len(body)} bytes, answered by 400 characters): best of {rounds} rounds",
        (
            "",
            "in flight",
            "p50 µs",
            "usual p50 µs",
            "p99 µs",
            "req/s",
            "main µs/req",
            "process µs/req",
            "client µs/req",
        ),
        rows,
    )
    ratios = Table(
        "The kernel against the blind relay, which shows what this machine asks for two more processes to wake",
        ("in flight", "usual p50, times", "main thread CPU, µs more"),
        [
            (number, row.usual_p50 / unread[number].usual_p50, row.main_us - unread[number].main_us)
            for number, row in kernel.items()
        ],
    )
    return Section(
        [table, ratios],
        [
            Figure("round trips per second, 16 in flight", kernel[16].per_second, "/s", 30_000, at_most=False),
            Figure("kernel main thread per request, 16 in flight", kernel[16].main_us, "µs", 15),
            Figure(
                "one in flight, against the driver asked directly, usual p50",
                kernel[1].usual_p50 / lone[1].usual_p50,
                "times",
                3.2,
            ),
        ],
    )


def _drive(system: System, row: _Row, body: bytes, in_flight: int, count: int) -> None:
    client = system.client()
    try:
        round_trips(client, TARGET, body, in_flight=in_flight, count=count // 10)
        main, process = system.status().cpu_s, system.cpu_s()
        done = round_trips(client, TARGET, body, in_flight=in_flight, count=count)
        row.add(done, system.status().cpu_s - main, system.cpu_s() - process)
    finally:
        client.close()
