"""The floor of any kernel: a process between client and driver that passes bytes on unread.

Three processes and bare unix sockets, no ZeroMQ, no messages, no look at a single byte. What a request costs here is
what the machine asks for waking two more processes; no kernel that stands in the same place can cost less.
"""

import asyncio
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load import PATIENCE_MS, RoundTrips
from tests.bench.machine import cpu_of, started

__all__ = ["Relay", "relay"]

ANSWER = 420
READ_BYTES = 64 << 10


class Relay:
    """A client of the relay. Requests and answers have fixed sizes and come back in order."""

    def __init__(self, endpoint: Path, pid: int) -> None:
        self._pid = pid
        self._socket = _connected(endpoint)
        self._socket.settimeout(PATIENCE_MS / 1000)

    def cpu_s(self) -> float:
        """CPU time of the relaying process."""
        return cpu_of(self._pid)

    def round_trips(self, body: bytes, *, in_flight: int, count: int) -> RoundTrips:
        """Make ``count`` requests, ``in_flight`` at any time."""
        clock = time.perf_counter_ns
        body = len(body).to_bytes(4, "big") + body
        began: deque[int] = deque()
        latencies: list[int] = []
        opened = came = 0
        cpu, start = time.thread_time(), clock()
        while len(latencies) < count:
            more = min(count - opened, in_flight - len(began))
            if more:
                opened += more
                began.extend([clock()] * more)
                self._socket.sendall(body * more)
            whole, came = divmod(came + len(self._socket.recv(READ_BYTES)), ANSWER)
            now = clock()
            latencies += [now - began.popleft() for _ in range(whole)]
        return RoundTrips(latencies, (clock() - start) / 1e9, time.thread_time() - cpu)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextmanager
def relay() -> Iterator[Relay]:
    """Run the echo and the relay, and connect to it."""
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as folder:
        ends = [str(Path(folder, name)) for name in ("echo.sock", "relay.sock")]
        with started("tests.bench.relay", ends[0]), started("tests.bench.relay", *ends) as process:
            client = Relay(Path(ends[1]), process.pid)
            try:
                yield client
            finally:
                client.close()


def _connected(path: Path) -> socket.socket:
    end = time.monotonic() + PATIENCE_MS / 1000
    while True:
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect(str(path))
        except OSError:
            one.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return one


def _accepted(path: str) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        return listener.accept()[0]


def _echo(path: str) -> None:
    """Answer each request, a length and so many bytes, by :data:`ANSWER` bytes."""
    client = _accepted(path)
    held = 0
    size = 0
    while data := client.recv(READ_BYTES):
        if not size:
            size = 4 + int.from_bytes(data[:4], "big")  # all requests of a run are alike
        whole, held = divmod(held + len(data), size)
        client.sendall(bytes(ANSWER * whole))


async def _relay(driver: socket.socket, client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        data = source.recv(READ_BYTES)
        if data:
            target.sendall(data)
        else:
            over.set()

    loop.add_reader(client, pass_on, client, driver)
    loop.add_reader(driver, pass_on, driver, client)
    await over.wait()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _echo(sys.argv[1])
    else:
        asyncio.run(_relay(_connected(Path(sys.argv[1])), _accepted(sys.argv[2])))
