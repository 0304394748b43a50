"""A vendor's model through kernel, sandboxed driver and broker, against the same code that calls the vendor directly.

Both speak TLS with the vendor, keep their connections, and decode the same format by the same code; so what is added is
what the kernel, the sandbox and the broker cost. A short request is a stream too, as every request of a driver is.
"""

import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import trustme
from tests.bench.figures import Figure, Section, Table, microseconds, percentile
from tests.bench.load import LoadClient, round_trips
from tests.bench.machine import System, cpu_of, started, until_ready

from byenatos_sdk.egress.connection import Connection
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, TextDelta, user

__all__ = ["PROMPT", "Direct", "Parts", "Row", "direct_requests", "measure", "playing_vendor", "since", "whole_way"]

_ROOT = Path(__file__).parents[2]
IN_FLIGHT = {1: 250, 16: 1500, 64: 1500}
ROUNDS = 8
STREAMS = 16
TOKENS = {1: 8_000, 8: 40_000}
"""By how many tokens the vendor puts into one write: tokens of all streams together."""
PROMPT = "x" * 540

DRIVER = """
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.http import HTTPDriver

class Bench(HTTPDriver):
    format = openai_chat
"""
MANIFEST = """
[plugin]
id = "bench"
version = "1"
entry = "driver:Bench"
[settings]
base_url = "https://localhost:{port}/v1"
[[egress]]
host = "localhost"
port = {port}
paths = ["/v1/"]
key = {{secret = "bench", header = "authorization", prefix = "Bearer "}}
[[models]]
id = "bench"
"""
ACCESS = """
[plugins]
unsigned = true
[drivers.bench]
network = ["localhost:{port}"]
addresses = ["127.0.0.1/32", "::1/128"]
ca = "{ca}"
secrets = ["bench"]
[secrets.bench]
file = "{key}"
"""
PARTS = ("client", "kernel", "driver", "broker", "vendor")


class Row:
    """The best of several rounds: what else runs on the machine makes every figure worse, never better."""

    def __init__(self, parts: tuple[str, ...] = PARTS) -> None:
        self.p50 = self.p99 = float("inf")
        self.per_second = 0.0
        self.cpu_us = dict.fromkeys(parts, float("inf"))

    def add(self, count: int, wall_s: float, cpu_s: dict[str, float], latencies: list[int] | None = None) -> None:
        """Take in one round."""
        if latencies is not None:
            self.p50 = min(self.p50, microseconds(percentile(latencies, 50)))
            self.p99 = min(self.p99, microseconds(percentile(latencies, 99)))
        self.per_second = max(self.per_second, count / wall_s)
        for part, spent in cpu_s.items():
            self.cpu_us[part] = min(self.cpu_us[part], spent / count * 1e6)

    def shares(self) -> tuple[float | str, ...]:
        """CPU time per request or token, of each part and of all."""
        known = {part: spent for part, spent in self.cpu_us.items() if spent != float("inf")}
        return (*(known.get(part, "-") for part in self.cpu_us), sum(known.values()))


class Parts:
    """The processes of the whole way, to see what each spends."""

    def __init__(self, system: System, vendor: int) -> None:
        kernel = psutil.Process(system.pid)
        (driver,) = (one.pid for one in system.status().instances if one.driver == "bench")
        broker = next(one for one in kernel.children() if "byenatos_sandbox.broker" in one.cmdline())
        self._pids = {
            "kernel": [system.pid],
            "driver": [driver],
            "broker": [broker.pid, *(one.pid for one in broker.children())],
            "vendor": [vendor],
        }

    def spent(self) -> dict[str, float]:
        return {part: sum(map(cpu_of, pids)) for part, pids in self._pids.items()} | {"client": time.thread_time()}


def since(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: after[part] - spent for part, spent in before.items()}


# ---- directly --------------------------------------------------------------------------------------------------


class Direct:
    """Calls the vendor with the driver's own code for HTTP and the format, in one process, by TLS of its own."""

    def __init__(self, port: int, ca: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self._idle: list[Connection] = []
        self.firsts: list[int] = []
        """How long each answer took to begin, in nanoseconds."""

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            await loop.create_connection(
                self._made, "127.0.0.1", self._port, ssl=self._context, server_hostname="localhost"
            )

    def _made(self) -> Connection:
        connection = Connection(self._idle.append, lambda _: None)
        self._idle.append(connection)
        return connection

    async def ask(self, prompt: str) -> int:
        """Make one request; return how many characters came."""
        request = InferenceRequest((user(prompt),), model="bench")
        wire = openai_chat.encode_request(request, stream=True).wire
        head = f"POST /v1{wire.path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(wire.body)}\r\n\r\n"
        connection = self._idle.pop()
        due = asyncio.get_running_loop().time() + 60
        begun, began = time.perf_counter_ns(), False
        connection.send(head.encode() + wire.body)
        await connection.head(due)
        decoder = openai_chat.stream_decoder()
        characters = 0
        while data := await connection.read(due):
            if not began:
                began = True
                self.firsts.append(time.perf_counter_ns() - begun)
            characters += sum(len(delta.text) for delta in decoder.feed(data) if type(delta) is TextDelta)
        connection.leave()
        return characters


async def direct_requests(direct: Direct, in_flight: int, count: int) -> tuple[list[int], float]:
    latencies: list[int] = []
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            begun = time.perf_counter_ns()
            await direct.ask(PROMPT)
            latencies.append(time.perf_counter_ns() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return latencies, time.perf_counter() - begun


async def direct_streams(direct: Direct, burst: int, tokens: int) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*(direct.ask(f"{burst} {tokens // STREAMS}") for _ in range(STREAMS)))
    return time.perf_counter() - begun


# ---- through all of it -----------------------------------------------------------------------------------------


@contextmanager
def whole_way(
    folder: Path, port: int, ca: Path, fronts: dict[str, dict[str, object]] | None = None
) -> Iterator[System]:
    home = Home(folder / "home")
    plugin = home.plugins / "bench"
    plugin.mkdir(parents=True)
    (plugin / "driver.py").write_text(DRIVER, "utf-8")
    (plugin / "plugin.toml").write_text(MANIFEST.format(port=port), "utf-8")
    key = folder / "key"
    key.touch(0o600)
    key.write_text("sk-benchmark-0123456789abcdef0123456789abcdef", "utf-8")
    home.policies.mkdir()
    home.access.write_text(ACCESS.format(port=port, ca=ca, key=key), "utf-8")
    configured = {"llm_driver_config": {"default_model": "bench"}, "fronts": fronts or {}}
    home.config.write_text(json.dumps(configured), "utf-8")
    with started("byenatos_kernel.daemon", "--home", str(home.path)) as process:
        system = System(home.endpoint, process)
        try:
            until_ready(system)
            yield system
        finally:
            system.close()


def _flood(client: LoadClient, burst: int, tokens: int) -> float:
    """Read ``STREAMS`` streams; return the seconds that it took."""
    each = tokens // STREAMS
    body = encode(InferenceRequest((user(f"{burst} {each}"),)))
    begun = time.perf_counter()
    for _ in range(STREAMS):
        client.open("default", body)
    client.flush()
    running, characters = STREAMS, 0
    while running:
        for _, event in client.receive():
            if type(event) is TextDelta:
                characters += len(event.text)
            elif type(event) is Finish:
                running -= 1
            elif type(event) is Failure:
                raise AssertionError(event.message)
    if characters != each * STREAMS * len("token "):
        raise AssertionError(f"expected {each * STREAMS} tokens, found {characters} characters")
    return time.perf_counter() - begun


def _cancels(client: LoadClient, told: IO[bytes], count: int, order: str) -> list[int]:
    """Leave answers that have begun, or not; return how long it took until the vendor heard of each, in nanoseconds."""
    body = encode(InferenceRequest((user(order),)))
    late = []
    for _ in range(count):
        number = client.open("default", body)
        client.flush()
        if order == "hang":
            told.readline()
        else:
            while not any(type(event) is TextDelta for _, event in client.receive()):
                pass
        begun = time.perf_counter_ns()
        client.cancel(number)
        client.flush()
        while not any(type(event) is Failure for _, event in client.receive()):
            pass
        late.append(int(told.readline()) - begun)
    return late


# ---- both ------------------------------------------------------------------------------------------------------


@contextmanager
def playing_vendor(folder: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]", Path]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "vendor.pem")
    command = [sys.executable, "-m", "tests.bench.chat_vendor", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process, folder / "ca.pem"
        finally:
            process.terminate()


def measure(*, quick: bool) -> Section:
    """Measure both ways in turns."""
    rounds = ROUNDS // (4 if quick else 1)
    ways = ("direct", "whole way")
    requests = {(way, number): Row() for way in ways for number in IN_FLIGHT}
    streams = {(way, burst): Row() for way in ways for burst in TOKENS}
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as name:
        folder = Path(name)
        with (
            playing_vendor(folder) as (port, played, ca),
            whole_way(folder, port, ca) as system,
            asyncio.Runner() as runner,
        ):
            vendor = played.pid
            direct = Direct(port, ca)
            runner.run(direct.connect(max(IN_FLIGHT)))
            client = system.client()
            body = encode(InferenceRequest((user(PROMPT),)))
            round_trips(client, "default", body, in_flight=max(IN_FLIGHT), count=200)  # every connection is there
            parts = Parts(system, vendor)
            for _ in range(rounds):
                for number, count in IN_FLIGHT.items():
                    before = {"client": time.thread_time(), "vendor": cpu_of(vendor)}
                    latencies, wall_s = runner.run(direct_requests(direct, number, count))
                    spent = since(before, {"client": time.thread_time(), "vendor": cpu_of(vendor)})
                    requests["direct", number].add(count, wall_s, spent, latencies)
                    before = parts.spent()
                    done = round_trips(client, "default", body, in_flight=number, count=count)
                    requests["whole way", number].add(count, done.wall_s, since(before, parts.spent()), done.latencies)
                for burst, tokens in TOKENS.items():
                    before = {"client": time.thread_time(), "vendor": cpu_of(vendor)}
                    wall_s = runner.run(direct_streams(direct, burst, tokens))
                    spent = since(before, {"client": time.thread_time(), "vendor": cpu_of(vendor)})
                    streams["direct", burst].add(tokens, wall_s, spent)
                    before = parts.spent()
                    wall_s = _flood(client, burst, tokens)
                    streams["whole way", burst].add(tokens, wall_s, since(before, parts.spent()))
            assert played.stdout is not None
            late = {order: _cancels(client, played.stdout, 10 * rounds, order) for order in ("stall", "hang")}
            client.close()
    return _section(requests, streams, late, rounds)


def _section(
    requests: dict[tuple[str, int], Row], streams: dict[tuple[str, int], Row], late: dict[str, list[int]], rounds: int
) -> Section:
    shares = tuple(f"{part} µs" for part in (*PARTS, "all"))
    tables = [
        Table(
            f"A vendor's model, requests (answered by 400 characters): CPU time for each, best of {rounds} rounds",
            ("way", "in flight", "p50 µs", "p99 µs", "req/s", *shares),
            [(*key, row.p50, row.p99, row.per_second, *row.shares()) for key, row in requests.items()],
        ),
        Table(
            f"A vendor's model, {STREAMS} streams as fast as they go: CPU time for each token",
            ("way", "tokens in a write", "tokens/s", *shares),
            [(*key, row.per_second, *row.shares()) for key, row in streams.items()],
        ),
    ]
    added = requests["whole way", 1].p50 - requests["direct", 1].p50
    slowest = requests["whole way", 1].p99 - requests["direct", 1].p99
    most = max(requests["whole way", number].per_second for number in IN_FLIGHT)
    tokens = max(streams["whole way", burst].per_second for burst in TOKENS)
    return Section(
        tables,
        [
            Figure("a vendor's request, added to a direct one, p50", added / 1000, "ms", 1.0),
            Figure("a vendor's request, added to a direct one, p99", slowest / 1000, "ms", 3.0),
            Figure("requests to a vendor per second", most, "/s", 3_000, at_most=False),
            *(
                Figure(
                    f"{what} that is left, until its vendor hears of it, p99",
                    percentile(late[order], 99) / 1e6,
                    "ms",
                    100,
                )
                for order, what in (("stall", "an answer"), ("hang", "a request"))
            ),
            Figure("tokens of a vendor per second, 16 streams", tokens, "/s", 60_000, at_most=False),
        ],
    )
