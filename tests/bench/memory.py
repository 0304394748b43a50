"""What the kernel's memory is: when nobody asks anything of it, and for each delta that it keeps.

The journal is weighed in the running kernel: endless streams are read as they come, and the resident memory that two
looks find is divided by the deltas between them. Everything that grows with a delta counts, whatever it is called. The
streams' deltas are sent alone; a flooded kernel joins some on their way, which does not change what the journal keeps.
"""

import time

from tests.bench.figures import Figure, Section, Table
from tests.bench.load import LoadClient
from tests.bench.machine import TARGET, System, echo_request, memory_of, real_kernel

__all__ = ["measure"]

STREAMS = 16
TEXT = "token "
WARM_UP = 200_000
DELTAS = 2_000_000


def measure(*, quick: bool) -> Section:
    """Weigh the idle kernel, then its journal."""
    with real_kernel() as kernel:
        idle = kernel.resident_bytes() / 1e6
        driver = memory_of(kernel.status().instances[0].pid, "VmRSS") / 1e6
        per_delta, deltas = _journal(kernel, DELTAS // (4 if quick else 1))
    return Section(
        [
            Table(
                f"Memory: idle, the echo driver loaded, no client but the observer; the journal over {deltas:,} deltas",
                ("kernel MB", "driver MB", "journal bytes/delta", "of these text"),
                [(idle, driver, per_delta, len(TEXT))],
            )
        ],
        [
            Figure("idle kernel, resident", idle, "MB", 30),
            Figure(f"journal per delta of {len(TEXT)} characters", per_delta, "bytes", 10),
        ],
    )


def _journal(kernel: System, wanted: int) -> tuple[float, int]:
    client = kernel.client()
    try:
        for _ in range(STREAMS):
            client.open(TARGET, echo_request(tokens=-1, text=TEXT, batch="single"))
        client.flush()
        start = _read_until(client, kernel, WARM_UP)
        end = _read_until(client, kernel, start[1] + wanted)
    finally:
        client.close()
    deltas = end[1] - start[1]
    return (end[0] - start[0]) / deltas, deltas


def _read_until(client: LoadClient, kernel: System, deltas: int) -> tuple[int, int]:
    """Read until the kernel has had so many deltas; return its resident bytes and the exact number."""
    while True:
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            client.receive()
        status = kernel.status()
        if status.deltas >= deltas:
            return status.rss_bytes, status.deltas
