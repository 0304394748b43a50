"""What the egress broker costs: the same httpx code, direct with TLS and in a sandbox through the broker, in turns.

One request and its answer on a warm connection; the events of a stream, each with the time it was sent in it; a stream
as fast as it goes; and a new connection to the broker in each of the two ways that a driver has.
"""

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme
from tests.bench.figures import Figure, Section, Table, percentile

from byenatos_kernel.access import Access, DriverRules, SecretSource
from byenatos_kernel.egress import Egress
from byenatos_sandbox import Grant, launch
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import Egress as Asked
from byenatos_sdk.manifest import EgressKey, Manifest, Plugin

__all__ = ["measure"]

ROUNDS = 8
REQUESTS = 250
EVENTS, GAP_S = 150, 0.003
BURST = 4000
OPENED = 30
_ROOT = Path(__file__).parents[2]


class _Client:
    """One of the two, whichever way it goes."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel

    async def do(self, count: int, gap_s: float | None, opens: str = "") -> list[int]:
        loop = asyncio.get_running_loop()
        order = {"count": count, "gap_s": gap_s, "opens": opens}
        await loop.sock_sendall(self._channel, json.dumps(order).encode())
        data = b""
        while not data.endswith(b"\n"):
            piece = await loop.sock_recv(self._channel, 1 << 20)
            if not piece:
                raise ConnectionError("the client under test ended")
            data += piece
        return list(map(int, json.loads(data)))


@asynccontextmanager
async def _direct(url: str, ca: Path) -> AsyncIterator[_Client]:
    ours, its = socket.socketpair()
    command = [sys.executable, "-m", "tests.bench.egress_client", str(its.fileno()), url, str(ca)]
    with ours, its, subprocess.Popen(command, pass_fds=[its.fileno()], cwd=_ROOT) as process:
        its.close()
        try:
            yield _Client(ours)
        finally:
            ours.close()
            process.wait()


@asynccontextmanager
async def _sandboxed(url: str, port: int, ca: Path, folder: Path) -> AsyncIterator[_Client]:
    key = folder / "key"
    key.touch(0o600)
    key.write_text("sk-benchmark-0123456789abcdef0123456789abcdef")
    granted = DriverRules(
        network=(f"localhost:{port}",), addresses=("127.0.0.1/32", "::1/128"), ca=str(ca), secrets=("bench",)
    )
    access = Access(drivers={"bench": granted}, secrets={"bench": SecretSource(file=str(key))})
    asked = Asked("localhost", port=port, key=EgressKey("bench", header="authorization", prefix="Bearer "))
    egress = Egress(Home(folder / "home"), access)
    process = None
    try:
        opened = egress.open(Manifest(Plugin("bench", "1", "x:X"), egress=[asked]))
        assert opened is not None
        grant = Grant("bench", plugin=str(_ROOT / "tests" / "bench"), threads=2, egress_socket=True)
        entry = "egress_client:sandboxed"
        process = launch(grant, entry=entry, config=url.encode(), egress=opened.driver_end, dial=opened.dial)
        opened.launched()
        try:
            yield _Client(process.channel)
        except ConnectionError as error:
            raise ConnectionError("\n".join(process.output())) from error
    finally:
        if process is not None:
            process.kill()
            await process.exited
            process.close()
        await egress.close()


def measure(*, quick: bool) -> Section:
    """Measure both ways in turns."""
    return asyncio.run(_measure(ROUNDS // 2 if quick else ROUNDS))


async def _measure(rounds: int) -> Section:
    ways = ("direct", "broker")
    requests: dict[str, list[int]] = {way: [] for way in ways}
    lags: dict[str, list[int]] = {way: [] for way in ways}
    bursts: dict[str, list[float]] = {way: [] for way in ways}
    opened: dict[str, list[int]] = {"port": [], "socket": []}
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as name:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "vendor.pem")
        command = [sys.executable, "-m", "tests.bench.tls_vendor", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT) as vendor:
            assert vendor.stdout is not None
            try:
                port = int(vendor.stdout.readline())
                url = f"https://localhost:{port}/v1/chat"
                ca = folder / "ca.pem"
                async with _direct(url, ca) as direct, _sandboxed(url, port, ca, folder) as broker:
                    for _ in range(rounds):
                        for way, client in zip(ways, (direct, broker), strict=True):
                            requests[way] += await client.do(REQUESTS, None)
                            lags[way] += (await client.do(EVENTS, GAP_S))[:-1]
                            bursts[way].append(BURST / (await client.do(BURST, 0))[-1] * 1e9)
                        for way in opened:
                            opened[way] += await broker.do(OPENED, None, way)
            finally:
                vendor.terminate()
    return _section(requests, lags, bursts, opened)


def _section(
    requests: dict[str, list[int]],
    lags: dict[str, list[int]],
    bursts: dict[str, list[float]],
    opened: dict[str, list[int]],
) -> Section:
    def ms(values: list[int], percent: float) -> float:
        return percentile(values, percent) / 1e6

    rows: list[tuple[str | float, ...]] = []
    for way, taken in requests.items():
        best = max(bursts[way])
        rows.append((way, *(ms(taken, one) for one in (50, 90, 99)), *(ms(lags[way], one) for one in (50, 99)), best))
    ratio = [second / first for first, second in zip(rows[0][1:], rows[1][1:], strict=True)]  # type: ignore[operator]
    rows.append(("broker / direct", *ratio))
    table = Table(
        f"A vendor over TLS, direct and through the broker: {len(requests['direct'])} requests, "
        f"{len(lags['direct'])} events {GAP_S * 1000:g} ms apart",
        ("way", "p50 ms", "p90 ms", "p99 ms", "event p50 ms", "event p99 ms", "events/s"),
        rows,
    )
    figures = [
        Figure(
            f"broker: added to a request, p{one}", ms(requests["broker"], one) - ms(requests["direct"], one), "ms", most
        )
        for one, most in ((50, 0.25), (99, 0.7))
    ]
    lag = ms(lags["broker"], 99) / ms(lags["direct"], 99)
    figures.append(Figure("broker: lag of an event, p99, over direct", lag, "", 1.0))
    ways = {"port": "the inherited port, one byte", "socket": "the egress socket, socket() and connect()"}
    opening = Table(
        f"A new connection to the broker: {len(opened['port'])} of each",
        ("by", "p50 ms", "p99 ms"),
        [(ways[way], ms(taken, 50), ms(taken, 99)) for way, taken in opened.items()],
    )
    return Section([table, opening], figures)
