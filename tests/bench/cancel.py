"""How long a cancelled stream goes on: from the client's word to the terminal in its hands."""

import time

from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.machine import TARGET, echo_request, real_kernel

from byenatos_sdk.protocol.messages import Failure, TextDelta

__all__ = ["measure"]

BACKGROUND = 16
RATE = 50.0
CANCELS = 200


def measure(*, quick: bool) -> Section:
    """Cancel streams one after another, at a token, while others go on.

    Nothing may follow a terminal: the client's core ends the connection at an event of an exchange that has ended, and
    the measurement with it.
    """
    latencies: list[int] = []
    late = 0
    body = echo_request(tokens=-1, rate=RATE)
    with real_kernel() as kernel:
        client = kernel.client()
        for _ in range(BACKGROUND):
            client.open(TARGET, body)
        for _ in range(CANCELS // (4 if quick else 1)):
            number = client.open(TARGET, body)
            client.flush()
            while number not in {one for one, event in client.receive() if type(event) is TextDelta}:
                pass
            client.cancel(number)
            client.flush()
            cancelled = time.perf_counter_ns()
            ended = False
            while not ended:
                for one, event in client.receive():
                    if one == number:
                        ended = type(event) is Failure
                        late += not ended
            latencies.append(time.perf_counter_ns() - cancelled)
        client.close()
    p50 = microseconds(percentile(latencies, 50))
    table = Table(
        f"Cancel: from the message to the terminal, {len(latencies)} times beside {BACKGROUND} streams",
        ("p50 µs", "p99 µs", "most µs", "deltas on the way before the terminal"),
        [(p50, microseconds(percentile(latencies, 99)), microseconds(max(latencies)), late)],
    )
    return Section([table], [Figure("cancel to terminal, p50", p50 / 1000, "ms", 0.5)])
