"""The load generator for HTTP: sockets and an epoll, one request on each connection, and nothing between.

It runs in the process of the benchmark, as ``load`` does; its own CPU time is a column of the tables too.
"""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.load import RoundTrips
from tests.bench.machine import System, cpu_of

__all__ = ["Exchange", "FrontUnderTest", "chat_request", "drive"]

READY_S = 30.0
_ENDS = (b"\r\n0\r\n\r\n", b"data: [DONE]\n\n\r\n0\r\n\r\n")
_LONGEST_END = max(map(len, _ENDS))
_LENGTH = b"content-length: "


def chat_request(model: str, text: str, *, stream: bool = False) -> bytes:
    """Return a whole request for a chat."""
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Exchange:
    """One connection, with one request on it at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.arrivals: list[int] = []
        self.kept: list[bytes] | None = None
        """What came, where a list stands here."""
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
        if self.kept is not None:
            self.kept.append(data)
        if self._left < 0:
            data = self._tail + data
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._tail = data
                return False
            assert data.startswith(b"HTTP/1.1 200"), data
            at = data.find(_LENGTH, 0, end)
            self._left = int(data[at + len(_LENGTH) : data.find(b"\r", at)]) if at >= 0 else 1 << 62
            data, self._tail = data[end:], b""
        self._left -= len(data)
        if self._left <= 0:
            return True
        self._tail = (self._tail + data)[-_LONGEST_END:]
        return self._tail.endswith(_ENDS)


def drive(exchanges: list[Exchange], request: bytes, count: int) -> RoundTrips:
    """Ask ``count`` times, on all connections at once."""
    latencies: list[int] = []
    cpu, start = time.thread_time(), time.perf_counter()
    with select.epoll() as poller:
        by_number = {exchange.socket.fileno(): exchange for exchange in exchanges}
        for number, exchange in by_number.items():
            poller.register(number, select.EPOLLIN)
            exchange.ask(request)
        asked = len(exchanges)
        while len(latencies) < count:
            for number, _ in poller.poll():
                exchange = by_number[number]
                if exchange.receive():
                    latencies.append(exchange.latencies[-1])
                    if asked < count:
                        asked += 1
                        exchange.ask(request)
    return RoundTrips(latencies, time.perf_counter() - start, time.thread_time() - cpu)


class FrontUnderTest:
    """The front of a running kernel."""

    def __init__(self, system: System) -> None:
        end = time.monotonic() + READY_S
        while not (status := system.status()).fronts[0].ready:
            assert time.monotonic() < end, status.fronts
            time.sleep(0.02)
        self.system = system
        self.port = int(status.fronts[0].address.rpartition(":")[2])
        (self.pid,) = (one.pid for one in status.instances if one.driver == "http")

    @contextmanager
    def connected(self, count: int) -> Iterator[list[Exchange]]:
        """Open connections."""
        exchanges = [Exchange(self.port) for _ in range(count)]
        try:
            yield exchanges
        finally:
            for exchange in exchanges:
                exchange.socket.close()

    def costs(self) -> tuple[float, float]:
        """CPU seconds of the worker and of the kernel."""
        return cpu_of(self.pid), self.system.cpu_s()
