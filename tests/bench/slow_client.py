"""A client that stops reading: what it costs the kernel, and the others.

Two driver processes serve here, so that the others' driver is not the flooded one. One client opens 64 endless streams
and reads nothing; another keeps reading 16 streams of 50 tokens a second, each token carrying the time at which it was
made. Its latency is taken before, during the flood (which eats every core of a small machine, whoever reads), while the
first client stalls with its window full and its streams ended, and after it has read on and left. The target compares
the stall with the times around it.

Below the limits nothing may be lost: 64 answers of 20,000 tokens are waited for without reading, then read, whole.
"""

import time
from statistics import mean

from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.load import LoadClient
from tests.bench.machine import OTHER, TARGET, System, echo_request, real_kernel

from byenatos_sdk.protocol.messages import Failure, Finish, TextDelta

__all__ = ["measure"]

FLOODS = 64
STREAMS = 16
RATE = 50.0
TEXT = "token "
TOKENS = 20_000
SECONDS = 3.0
PATIENCE_S = 60.0


class _Bystander:
    """The client that goes on reading."""

    def __init__(self, kernel: System) -> None:
        self._client = kernel.client()
        for _ in range(STREAMS):
            self._client.open(OTHER, echo_request(tokens=-1, stamp=True, rate=RATE))
        self._client.flush()
        self.latencies(0.5)

    def latencies(self, seconds: float) -> list[int]:
        """Read for a while and return how old each token was."""
        found: list[int] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            events = self._client.receive()
            now = time.perf_counter_ns()
            found += [now - int(event.text.split()[-1]) for _, event in events if type(event) is TextDelta]
        return found

    def close(self) -> None:
        self._client.close()


def measure(*, quick: bool) -> Section:
    """Stall a client under floods, then below the limits."""
    seconds = SECONDS / (3 if quick else 1)
    with real_kernel(other=True) as kernel:
        bystander = _Bystander(kernel)
        rows: list[tuple[str | float, ...]] = []

        def look(when: str, latencies: list[int]) -> float:
            p50, p99 = (microseconds(percentile(latencies, percent)) for percent in (50, 99))
            rows.append((when, len(latencies), p50, p99))
            return p50

        before = look("before", bystander.latencies(seconds))
        kernel.forget_peak()
        base = kernel.resident_bytes()
        flooded = _open(kernel, tokens=-1)
        during: list[int] = []
        end = time.monotonic() + PATIENCE_S
        while kernel.status().streams > STREAMS:
            during += bystander.latencies(0.1)
            if time.monotonic() > end:
                raise AssertionError("the floods of a client that does not read did not end")
        look("floods running", during)
        stalled = look("stalled, floods ended", bystander.latencies(seconds))
        growth = (kernel.peak_bytes() - base) / 1e6
        codes, _ = _read_on(flooded)
        after = look("it has read on and left", bystander.latencies(seconds))
        bystander.close()
        growth_below, complete = _below_the_limits(kernel, base)
    others = stalled / mean((before, after))
    tables = [
        Table(
            f"A client that does not read, {FLOODS} endless streams: age of the others' tokens",
            ("", "tokens", "p50 µs", "p99 µs"),
            rows,
        ),
        Table(
            "Its streams, and the kernel's memory",
            ("", "streams", "as they should", "kernel grew by MB"),
            [
                ("endless: client_too_slow", FLOODS, codes.count("client_too_slow"), growth),
                (f"{TOKENS:,} tokens: complete", FLOODS, complete, growth_below),
            ],
        ),
    ]
    return Section(
        tables,
        [
            Figure("slow client: the kernel grows by", growth, "MB", 32),
            Figure("slow client: others' p50, stalled against not", others, "times", 1.1),
            Figure(
                "slow client: endless streams ended as client_too_slow",
                codes.count("client_too_slow"),
                f"of {FLOODS}",
                FLOODS,
                at_most=False,
            ),
            Figure("slow client: answers below the limits complete", complete, f"of {FLOODS}", FLOODS, at_most=False),
        ],
    )


def _open(kernel: System, *, tokens: int) -> LoadClient:
    client = kernel.client()
    for _ in range(FLOODS):
        client.open(TARGET, echo_request(tokens=tokens, text=TEXT))
    client.flush()
    return client


def _read_on(client: LoadClient) -> tuple[list[str], list[int]]:
    """Read to the end of all streams; return how each ended, and how many characters each had."""
    codes: list[str] = []
    characters: dict[int, int] = {}
    while len(codes) < FLOODS:
        for number, event in client.receive():
            if type(event) is TextDelta:
                characters[number] = characters.get(number, 0) + len(event.text)
            elif type(event) is Failure:
                codes.append(event.code)
            elif type(event) is Finish:
                codes.append("")
    client.close()
    return codes, list(characters.values())


def _below_the_limits(kernel: System, base: int) -> tuple[float, int]:
    kernel.forget_peak()
    before = kernel.status().deltas
    client = _open(kernel, tokens=TOKENS)
    end = time.monotonic() + PATIENCE_S
    while kernel.status().deltas - before < FLOODS * TOKENS:
        time.sleep(0.05)
        if time.monotonic() > end:
            raise AssertionError("the driver did not send all tokens")
    growth = (kernel.peak_bytes() - base) / 1e6
    codes, characters = _read_on(client)
    whole = [count for count in characters if count == TOKENS * len(TEXT)]
    return growth, len(whole) if codes == [""] * FLOODS else 0
