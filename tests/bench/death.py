"""How soon a killed driver is noticed: from ``os.kill`` to the ``DriverFailed`` event in a client's hands.

That includes the death itself (the operating system frees a process's memory before it tells anybody; a process
descriptor of our own says when it did), the kernel's look at what the driver had still written, reaping, and the
event's way to the client.
"""

import os
import select
import signal
import time
from collections.abc import Callable

import msgspec
from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.load import LoadClient
from tests.bench.machine import real_kernel

from byenatos_sdk.protocol.control import DriverFailed, Event, InstanceChanged, InstanceInfo, LoadRequest
from byenatos_sdk.protocol.frames import Notice
from byenatos_sdk.protocol.messages import InstanceState

__all__ = ["measure"]

KERNELS = 3
KILLS = 2  # of each driver: a third would be waited for too long, because the back-off doubles
MODELS = ("echo", "echo-two")
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def measure(*, quick: bool) -> Section:
    """Kill idle drivers and wait for the news."""
    latencies: list[int] = []
    deaths: list[int] = []
    for _ in range(1 if quick else KERNELS):
        with real_kernel(other=True) as kernel:
            client = kernel.client()
            client.subscribe()
            pids = {
                model: msgspec.msgpack.decode(kernel.call("load", LoadRequest(model)), type=InstanceInfo).pid
                for model in MODELS
            }
            for _ in range(KILLS):
                for model in MODELS:
                    killed = time.perf_counter_ns()
                    _kill(pids[model])
                    deaths.append(time.perf_counter_ns() - killed)
                    _await(client, lambda event: isinstance(event, DriverFailed))
                    latencies.append(time.perf_counter_ns() - killed)
                    pids[model] = _restarted(client, model)
            client.close()
    p50 = microseconds(percentile(latencies, 50)) / 1000
    table = Table(
        f"SIGKILL of a driver to the event at a client, {len(latencies)} times",
        ("p50 ms", "least ms", "most ms", "of which dying, p50 ms"),
        [
            (
                p50,
                microseconds(min(latencies)) / 1000,
                microseconds(max(latencies)) / 1000,
                microseconds(percentile(deaths, 50)) / 1000,
            )
        ],
    )
    return Section([table], [Figure("SIGKILL of a driver seen at a client, p50", p50, "ms", 5)])


def _kill(pid: int) -> None:
    """Kill a process and wait until the operating system says that it is dead."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def _await(client: LoadClient, wanted: Callable[[Event], bool]) -> Event:
    while True:
        for _, message in client.receive():
            if isinstance(message, Notice) and wanted(event := _decoder.decode(message.body)):
                return event


def _restarted(client: LoadClient, model: str) -> int:
    def ready(event: Event) -> bool:
        return (
            isinstance(event, InstanceChanged)
            and event.instance.model == model
            and event.instance.state is InstanceState.READY
        )

    event = _await(client, ready)
    assert isinstance(event, InstanceChanged)
    return event.instance.pid
