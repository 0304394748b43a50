"""The load generator: the client's core and a bare socket, without a loop, a poller or a thread.

It runs in the process of the benchmark, apart from everything that is measured. Its own CPU time is a column of the
tables, so that a figure that it limits is seen to be so.
"""

import time
from typing import Any

import zmq

from byenatos_sdk.client.core import Connection
from byenatos_sdk.protocol.control import Empty
from byenatos_sdk.protocol.frames import ClientEvent, Reply
from byenatos_sdk.protocol.messages import Failure, Finish

__all__ = ["LoadClient", "RoundTrips", "round_trips"]

PATIENCE_MS = 30_000
"""How long a frame may stay away before a measurement is given up."""


class LoadClient:
    """One connection, blocking."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        self._socket.setsockopt(zmq.SNDTIMEO, PATIENCE_MS)
        self._socket.connect(endpoint)
        self._connection = Connection()
        self._connection.hello("bench")
        self.flush()
        while self._connection.welcome is None:
            self.receive()
        self.open = self._connection.open
        self.cancel = self._connection.cancel

    def flush(self) -> None:
        """Send what was begun."""
        outgoing = self._connection.outgoing
        send = self._socket.send
        while outgoing:
            header, body = outgoing.popleft()
            send(header, zmq.SNDMORE)
            send(body)

    def receive(self) -> list[tuple[int, ClientEvent]]:
        """Wait for the next frame and return its events."""
        events = self._connection.receive(self._socket.recv())
        if self._connection.loss is not None:
            raise AssertionError(self._connection.loss)
        if self._connection.outgoing:
            self.flush()
        return events

    def subscribe(self) -> None:
        """Have the kernel's events come in as notices."""
        self._connection.call("events", Empty())
        self.flush()

    def call(self, method: str, parameters: Any = None) -> bytes:
        """Call a control method and wait for its reply; only for a client that runs no streams."""
        inbox = self._connection.call(method, parameters or Empty())
        self.flush()
        while not inbox.ended:
            self.receive()
        answer = inbox.events[-1]
        if not isinstance(answer, Reply):
            raise AssertionError(f"{method}: {answer}")  # noqa: TRY004 - the kernel failed, not a type
        return answer.body

    def close(self) -> None:
        """Say goodbye."""
        self._connection.close()
        self.flush()
        self._socket.close(linger=1000)
        self._context.term()


class RoundTrips:
    """What came of a number of requests: each one's time in nanoseconds, and what all took together."""

    __slots__ = ("latencies", "own_cpu_s", "wall_s")

    def __init__(self, latencies: list[int], wall_s: float, own_cpu_s: float) -> None:
        self.latencies = latencies
        self.wall_s = wall_s
        self.own_cpu_s = own_cpu_s


def round_trips(client: LoadClient, target: str, body: bytes, *, in_flight: int, count: int) -> RoundTrips:
    """Make ``count`` requests, ``in_flight`` at any time."""
    clock = time.perf_counter_ns
    began: dict[int, int] = {}
    latencies: list[int] = []
    opened = min(in_flight, count)
    cpu, start = time.thread_time(), clock()
    for _ in range(opened):
        began[client.open(target, body)] = clock()
    client.flush()
    while began:
        for number, event in client.receive():
            if type(event) is Finish:
                latencies.append(clock() - began.pop(number))
                if opened < count:
                    opened += 1
                    began[client.open(target, body)] = clock()
            elif type(event) is Failure:
                raise AssertionError(event.message)
        client.flush()
    return RoundTrips(latencies, (clock() - start) / 1e9, time.thread_time() - cpu)
