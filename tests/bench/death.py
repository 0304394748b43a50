"""How soon a killed driver is noticed: from ``os.kill`` to the ``DriverFailed`` event in a client's hands.

That includes the death itself, the kernel's look at what the driver had still written, reaping, and the event's way to
the client; the kernel knew about 0.2 ms earlier.
"""

import os
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
_decode_event = msgspec.msgpack.Decoder(Event).decode


def measure(*, quick: bool) -> Section:
    """Kill idle drivers and wait for the news."""
    latencies: list[int] = []
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
                    os.kill(pids[model], signal.SIGKILL)
                    _await(client, lambda event: isinstance(event, DriverFailed))
                    latencies.append(time.perf_counter_ns() - killed)
                    pids[model] = _restarted(client, model)
            client.close()
    p50 = microseconds(percentile(latencies, 50)) / 1000
    table = Table(
        f"SIGKILL of a driver to the event at a client, {len(latencies)} times",
        ("p50 ms", "most ms"),
        [(p50, microseconds(max(latencies)) / 1000)],
    )
    return Section([table], [Figure("SIGKILL of a driver seen at a client, p50", p50, "ms", 5)])


def _await(client: LoadClient, wanted: Callable[[Event], bool]) -> Event:
    while True:
        for _, message in client.receive():
            if isinstance(message, Notice) and wanted(event := _decode_event(message.body)):
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
