"""The HTTP front: one worker, from a client's bytes to the echo driver and back, next to the same call without it.

The client is a selector and sockets, one request on each. CPU is what the worker and the kernel used, all threads.
"""

import json
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.load import LoadClient, RoundTrips, round_trips
from tests.bench.machine import TARGET, System, cpu_of, echo_request, memory_of, real_kernel

__all__ = ["measure"]

IN_FLIGHT = {1: 300, 16: 3000, 64: 3000}
ROUNDS = 6
TOKENS = 4000
STREAMS = (1, 16)
PACED, PACE_S, PACED_TOKENS = 32, 0.005, 400
IDLE, BUSY = 500, 50
MODELS = {
    "counting": {"tokens": TOKENS},
    "paced": {"tokens": PACED_TOKENS, "rate": 1 / PACE_S},
    "quiet": {"tokens": -1, "rate": 0.02},
}
_TEXT = "y" * 400
_END = (b"\r\n0\r\n\r\n", b"data: [DONE]\n\n\r\n0\r\n\r\n")


def _request(model: str, *, stream: bool = False) -> bytes:
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": _TEXT}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Exchange:
    """One connection, with one request on it at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.arrivals: list[int] = []
        self._began = 0
        self._tail = b""
        self._left = -1

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self.arrivals = []
        self._tail = b""
        self._left = -1
        self._began = time.perf_counter_ns()
        self.socket.sendall(request)

    @property
    def latencies(self) -> list[int]:
        """How long after the request each piece came, in nanoseconds."""
        return [arrival - self._began for arrival in self.arrivals]

    def receive(self) -> bool:
        """Read what is there; whether the answer is whole."""
        data = self.socket.recv(1 << 18)
        assert data, "the front closed the connection"
        self.arrivals.append(time.perf_counter_ns())
        if self._left < 0:
            self._tail += data
            head, end, rest = self._tail.partition(b"\r\n\r\n")
            if not end:
                return False
            assert head.startswith(b"HTTP/1.1 200"), self._tail
            length = head.partition(b"content-length: ")[2].split(b"\r\n")[0]
            self._left = int(length) if length else 1 << 62
            data, self._tail = rest, b""
        self._left -= len(data)
        self._tail = (self._tail + data)[-len(_END[1]) :]
        return self._left == 0 or self._tail.endswith(_END)


class _Front:
    """The front of a running kernel."""

    def __init__(self, system: System) -> None:
        end = time.monotonic() + 30
        while not (status := system.status()).fronts[0].ready:
            assert time.monotonic() < end, status.fronts
            time.sleep(0.02)
        self.system = system
        self.port = int(status.fronts[0].address.rpartition(":")[2])
        (self.pid,) = (one.pid for one in status.instances if one.driver == "http")

    @contextmanager
    def connected(self, count: int) -> Iterator[list[_Exchange]]:
        """Open connections."""
        exchanges = [_Exchange(self.port) for _ in range(count)]
        try:
            yield exchanges
        finally:
            for exchange in exchanges:
                exchange.socket.close()

    def costs(self) -> tuple[float, float]:
        """CPU seconds of the worker and of the kernel."""
        return cpu_of(self.pid), self.system.cpu_s()


def _drive(exchanges: list[_Exchange], request: bytes, count: int) -> RoundTrips:
    """Ask ``count`` times, on all connections at once."""
    latencies: list[int] = []
    cpu, start = time.thread_time(), time.perf_counter()
    with selectors.EpollSelector() as selector:
        for exchange in exchanges:
            selector.register(exchange.socket, selectors.EVENT_READ, exchange)
            exchange.ask(request)
        asked = len(exchanges)
        while len(latencies) < count:
            for key, _ in selector.select():
                exchange = key.data
                if exchange.receive():
                    latencies.append(exchange.latencies[-1])
                    if asked < count:
                        asked += 1
                        exchange.ask(request)
    return RoundTrips(latencies, time.perf_counter() - start, time.thread_time() - cpu)


def _requests(front: _Front, client: LoadClient, rounds: int) -> tuple[Table, list[Figure]]:
    rows: list[tuple[str | float, ...]] = []
    body = echo_request(reply=_TEXT)
    for in_flight, count in IN_FLIGHT.items():
        best = [float("inf")] * 6
        most = direct_most = 0.0
        with front.connected(in_flight) as exchanges:
            for _ in range(rounds):
                direct = round_trips(client, TARGET, body, in_flight=in_flight, count=count)
                worker, kernel = front.costs()
                done = _drive(exchanges, _request(TARGET), count)
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


def _streams(front: _Front, rounds: int) -> tuple[Table, list[Figure]]:
    rows: list[tuple[str | float, ...]] = []
    request = _request("counting", stream=True)
    for count in STREAMS:
        first = worker_us = kernel_us = float("inf")
        rate = 0.0
        with front.connected(count) as exchanges:
            for _ in range(rounds):
                before = front.costs()
                done = _drive(exchanges, request, count)
                used = [now - then for now, then in zip(front.costs(), before, strict=True)]
                tokens = count * TOKENS
                first = min(first, microseconds(percentile([one.latencies[0] for one in exchanges], 50)))
                rate = max(rate, tokens / done.wall_s)
                worker_us, kernel_us = min(worker_us, used[0] / tokens * 1e6), min(kernel_us, used[1] / tokens * 1e6)
        rows.append((count, rate, first, worker_us, kernel_us))
    columns = ("streams", "tokens/s", "first piece µs", "worker µs/token", "kernel µs/token")
    dearest = max(float(row[3]) for row in rows)
    figure = Figure("front: worker's CPU for a streamed token", dearest, "µs", 25)
    return Table("Streams through the HTTP front, as fast as they come", columns, rows), [figure]


def _paced(front: _Front) -> Table:
    before = front.costs()
    with front.connected(PACED) as exchanges:
        _drive(exchanges, _request("paced", stream=True), PACED)
        used = [now - then for now, then in zip(front.costs(), before, strict=True)]
        gaps = [
            later - earlier for one in exchanges for earlier, later in zip(one.arrivals, one.arrivals[1:], strict=False)
        ]
    tokens = PACED * PACED_TOKENS
    row = (*(percentile(gaps, at) / 1e6 for at in (50, 99)), *(one / tokens * 1e6 for one in used))
    columns = ("gap p50 ms", "gap p99 ms", "worker µs/token", "kernel µs/token")
    return Table(f"{PACED} streams with a token every {PACE_S * 1000:.0f} ms", columns, [row])


def _crowd(front: _Front, rounds: int) -> Table:
    rows: list[tuple[str | float, ...]] = []
    for idle in (0, IDLE):
        with front.connected(idle) as quiet, front.connected(BUSY) as busy:
            for exchange in quiet:
                exchange.ask(_request("quiet", stream=True))
            for exchange in quiet:  # its first piece: it runs
                exchange.receive()
            done = [_drive(busy, _request(TARGET), BUSY * 40) for _ in range(rounds)]
            p99 = min(microseconds(percentile(one.latencies, 99)) for one in done)
            most = max(BUSY * 40 / one.wall_s for one in done)
            rows.append((idle, most, p99, memory_of(front.pid, "VmRSS") / 2**20))
    columns = ("idle streams", "req/s", "p99 µs", "worker MiB")
    return Table(f"{BUSY} requests in flight beside streams that say nothing", columns, rows)


def measure(*, quick: bool) -> Section:
    """Measure all of it in one kernel."""
    rounds = ROUNDS // (3 if quick else 1)
    started = time.perf_counter()
    with real_kernel(models=MODELS, fronts={"http": {"listen": "127.0.0.1:0", "workers": 1}}) as system:
        front = _Front(system)
        up_s = time.perf_counter() - started
        client = system.client()
        requests, figures = _requests(front, client, rounds)
        client.close()
        streams, more = _streams(front, rounds)
        tables = [requests, streams, _paced(front), _crowd(front, rounds)]
    start = Table("From the kernel's start until its front serves", ("s",), [(up_s,)])
    return Section([*tables, start], [*figures, *more])
