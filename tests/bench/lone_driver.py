"""The same driver without a kernel: what is left when nobody stands between the client and the driver's runtime."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load import RoundTrips

from byenatos_sdk.protocol.frames import Start, decode_driver_events, join_driver_frame
from byenatos_sdk.protocol.messages import Finish
from byenatos_sdk.testing import DriverProcess

__all__ = ["LoneDriver", "lone_driver"]

ECHO = Path(__file__).parents[2] / "plugins" / "echo"


class LoneDriver:
    """Speaks the kernel's side of the channel to a driver process, and nothing more than is needed."""

    def __init__(self, driver: DriverProcess) -> None:
        self._socket = driver.socket
        self._next = 1

    def round_trips(self, body: bytes, *, in_flight: int, count: int) -> RoundTrips:
        """Make ``count`` requests, ``in_flight`` at any time."""
        clock, send, receive = time.perf_counter_ns, self._socket.send, self._socket.recv
        began: dict[int, int] = {}
        latencies: list[int] = []
        opened = 0
        cpu, start = time.thread_time(), clock()
        while len(latencies) < count:
            while opened < count and len(began) < in_flight:
                opened += 1
                number = self._next
                self._next += 1
                began[number] = clock()
                send(join_driver_frame(Start(number), body))
            for number, event in decode_driver_events(receive()):
                if type(event) is Finish:
                    latencies.append(clock() - began.pop(number))
        return RoundTrips(latencies, (clock() - start) / 1e9, time.thread_time() - cpu)


@contextmanager
def lone_driver() -> Iterator[LoneDriver]:
    """Run the echo driver and connect to it."""
    with DriverProcess(ECHO) as driver:
        driver.load()
        yield LoneDriver(driver)
