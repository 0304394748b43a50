"""``/metrics`` for Prometheus, and whether this server lives and is ready.

The workers of a front share one port, and a scrape reaches one of them: it reports the kernel's figures, which are the
same from all, and its own, which carry its number (``worker``). So every series is true at any time, and those of a
worker go on whenever it is asked again.
"""

import asyncio
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, get_args

from byenatos_sdk.client import AsyncClient
from byenatos_sdk.formats import openai_chat
from byenatos_sdk.protocol.control import KernelStatus, SlotInfo
from byenatos_sdk.protocol.messages import SessionLevel, SwapState
from http_front.exchange import Request, Response
from http_front.meter import BOUNDS_S, Meter
from http_front.routes import Routes

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["Metrics", "is_ready", "written"]

_PLAIN = "text/plain; charset=utf-8"
_OUTCOMES = tuple(state.value for state in (SwapState.RETIRED, SwapState.FAILED, SwapState.ROLLED_BACK))


class Metrics:
    """The handlers."""

    def __init__(self, kernel: AsyncClient, meter: Meter, worker: int) -> None:
        self._kernel = kernel
        self._meter = meter
        self._worker = str(worker)

    def enter(self, routes: Routes) -> None:
        """Enter its paths."""
        routes.add("GET", "/metrics", self._scrape, openai_chat)
        routes.add("GET", "/healthz", self._alive, openai_chat, "open")
        routes.add("GET", "/readyz", self._ready, openai_chat, "open")

    async def _alive(self, _: Request) -> Response:
        return Response(b"ok\n", content_type=_PLAIN)

    async def _ready(self, _: Request) -> Response:
        slots = await self._kernel.slots()
        if any(is_ready(slot) for slot in slots):
            return Response(b"ok\n", content_type=_PLAIN)
        said = ", ".join(f"{slot.name} is {slot.state}" for slot in slots) or "there are no slots"
        return Response(f"no slot is ready: {said}\n".encode(), 503, _PLAIN)

    async def _scrape(self, request: Request) -> Response:
        status = await self._kernel.status()
        # With its library come http.server and ssl: some megabytes, which a worker that nobody scrapes goes without. In
        # a thread, for the import takes a while and answers must not wait for it.
        accept = request.headers.get("accept", "")
        body, kind = await asyncio.to_thread(written, status, self._meter, self._worker, accept)
        return Response(body, content_type=kind)


def is_ready(slot: SlotInfo) -> bool:
    """Whether a slot answers: one whose model is degraded does."""
    return slot.state in {"ready", "degraded"}


def written(status: KernelStatus, meter: Meter, worker: str, accept: str) -> tuple[bytes, str]:
    """Return the figures in the form that ``accept`` asks for, and what form that is."""
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector, CollectorRegistry

    class Collected(Collector):
        def collect(self) -> Iterable["Metric"]:
            yield from _of_kernel(status)
            yield from _of_worker(meter, worker)

    registry = CollectorRegistry()
    registry.register(Collected())
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _of_kernel(status: KernelStatus) -> Iterable["Metric"]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    yield InfoMetricFamily("byenatos_kernel", "The kernel.", {"version": status.version})
    yield GaugeMetricFamily("byenatos_kernel_uptime_seconds", "Since the kernel started.", status.uptime_s)
    yield GaugeMetricFamily("byenatos_kernel_resident_bytes", "The kernel's own memory.", status.rss_bytes)
    yield CounterMetricFamily("byenatos_kernel_cpu_seconds", "CPU time of the kernel's main thread.", status.cpu_s)
    yield GaugeMetricFamily("byenatos_kernel_clients", "Connections to the kernel.", status.clients)
    yield GaugeMetricFamily("byenatos_kernel_streams", "Answers that are under way.", status.streams)
    yield CounterMetricFamily("byenatos_kernel_requests", "Requests since the kernel started.", status.requests)
    yield CounterMetricFamily("byenatos_kernel_deltas", "Pieces of answers since the kernel started.", status.deltas)
    ready = GaugeMetricFamily("byenatos_slot_ready", "Whether a slot answers.", labels=("slot", "model"))
    streams = GaugeMetricFamily("byenatos_slot_streams", "Answers under way by slot.", labels=("slot", "model"))
    waiting = GaugeMetricFamily(
        "byenatos_slot_waiting", "Requests that wait until a slot is served.", labels=("slot", "model")
    )
    for slot in status.slots:
        ready.add_metric((slot.name, slot.model), float(is_ready(slot)))
        streams.add_metric((slot.name, slot.model), slot.streams)
        waiting.add_metric((slot.name, slot.model), slot.waiting)
    yield ready
    yield streams
    yield waiting
    swaps = CounterMetricFamily("byenatos_swaps", "Swaps that ended, by how.", labels=("outcome",))
    for outcome in _OUTCOMES:
        swaps.add_metric((outcome,), status.swaps.get(outcome, 0))
    yield swaps
    moves = CounterMetricFamily(
        "byenatos_swap_moves", "Conversations and requests that swaps moved, by level.", labels=("level",)
    )
    for level in get_args(SessionLevel):
        moves.add_metric((level,), status.moves.get(level, 0))
    yield moves
    counts: dict[tuple[str, str, str], int] = {}
    restarts: dict[tuple[str, str], int] = {}
    for one in status.instances:
        state = (one.driver, one.model, one.state.value)
        counts[state] = counts.get(state, 0) + 1
        model = (one.driver, one.model)
        restarts[model] = max(restarts.get(model, 0), one.restarts)
    instances = GaugeMetricFamily(
        "byenatos_instances", "Driver processes by state.", labels=("driver", "model", "state")
    )
    for state, count in counts.items():
        instances.add_metric(state, count)
    yield instances
    again = GaugeMetricFamily(
        "byenatos_instance_restarts", "Starts after a crash, of what runs now.", labels=("driver", "model")
    )
    for model, count in restarts.items():
        again.add_metric(model, count)
    yield again
    workers = GaugeMetricFamily("byenatos_front_workers_ready", "Workers that serve.", labels=("front",))
    for front in status.fronts:
        workers.add_metric((front.id,), front.ready)
    yield workers


def _of_worker(meter: Meter, worker: str) -> Iterable["Metric"]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    answered = CounterMetricFamily(
        "byenatos_http_answers", "Answers of this worker.", labels=("worker", "route", "method", "status")
    )
    for (route, method, status), count in meter.answered.items():
        answered.add_metric((worker, route, method, str(status)), count)
    yield answered
    durations = HistogramMetricFamily(
        "byenatos_http_answer_seconds",
        "Until a whole answer was there, or a stream had begun, by this worker.",
        labels=("worker", "route"),
    )
    bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
    for route, tally in meter.durations.items():
        below = list(zip(bounds, accumulate(tally.classes), strict=True))
        durations.add_metric((worker, route), below, tally.total_s)
    yield durations
    clients = CounterMetricFamily(
        "byenatos_http_client_requests", "Requests to this worker by key.", labels=("worker", "client")
    )
    for name, count in meter.clients.items():
        clients.add_metric((worker, name), count)
    yield clients
    waiting = GaugeMetricFamily(
        "byenatos_http_waiting", "Requests at this worker that wait for their answer to begin.", labels=("worker",)
    )
    waiting.add_metric((worker,), meter.waiting)
    yield waiting
