"""Round trips over the floor (``direct_echo``): what ZeroMQ alone costs, for the same request and the same answer."""

import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
from tests.bench.load import PATIENCE_MS, RoundTrips
from tests.bench.machine import TARGET, started

from byenatos_sdk.protocol.frames import Open, encode

__all__ = ["DirectClient", "direct_echo"]


class DirectClient:
    """A DEALER without a protocol."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        self._socket.connect(endpoint)

    def round_trips(self, body: bytes, *, in_flight: int, count: int) -> RoundTrips:
        """Make ``count`` requests, ``in_flight`` at any time; answers come in the order of the requests."""
        clock, send, receive = time.perf_counter_ns, self._socket.send, self._socket.recv
        header = encode(Open(1, TARGET))
        began: deque[int] = deque()
        latencies: list[int] = []
        opened = 0
        cpu, start = time.thread_time(), clock()
        while len(latencies) < count:
            while opened < count and len(began) < in_flight:
                opened += 1
                began.append(clock())
                send(header, zmq.SNDMORE)
                send(body)
            receive()
            latencies.append(clock() - began.popleft())
        return RoundTrips(latencies, (clock() - start) / 1e9, time.thread_time() - cpu)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)
        self._context.term()


@contextmanager
def direct_echo() -> Iterator[DirectClient]:
    """Run the echo and connect to it."""
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as folder:
        endpoint = f"ipc://{Path(folder, 'echo.sock')}"
        with started("tests.bench.direct_echo", endpoint):
            client = DirectClient(endpoint)
            try:
                yield client
            finally:
                client.close()
