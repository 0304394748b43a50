"""What a worker counts, and how Prometheus reads it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from byenatos_sdk.protocol.control import KernelStatus, SlotInfo
from http_front.clients import Client
from http_front.exchange import Request, Response, Stream
from http_front.meter import BOUNDS_S, Meter, Tally
from http_front.metrics import written
from http_front.traffic import Traffic

STATUS = KernelStatus("1.2", 1, "", "", 5.0, 10, 1.5, 2, 3, 4, 5, slots=(SlotInfo('a "slot"\n', "m", "degraded"),))


async def pieces() -> AsyncIterator[bytes]:
    yield b"x"


async def scripted(request: Request) -> Response | Stream:
    request.client = Client("editor", "")
    if request.path == "/broken":
        raise ZeroDivisionError
    request.route = "" if request.path == "/404" else "/route"
    return (
        Stream(pieces(), "text/event-stream") if request.path == "/stream" else Response(status=int(request.path[1:4]))
    )


def scraped(meter: Meter, worker: int, accept: str = "") -> dict[tuple[str, ...], float]:
    body, _ = written(STATUS, meter, str(worker), accept)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_answers_are_counted_by_route_method_and_status_and_a_handler_that_breaks_leaves_nothing_behind() -> None:
    async def answered() -> Meter:
        meter = Meter(scripted)
        for method, target in (("GET", "/200"), ("GET", "/200?key=x"), ("POST", "/404"), ("POST", "/stream")):
            await meter(Request(method, target, {}))
        with pytest.raises(ZeroDivisionError):
            await meter(Request("GET", "/broken", {}))
        return meter

    meter = asyncio.run(answered())
    found = scraped(meter, 2)
    assert found["byenatos_http_answers_total", "GET", "/route", "200", "2"] == 2
    assert found["byenatos_http_answers_total", "none", "none", "404", "2"] == 1
    assert found["byenatos_http_answers_total", "POST", "/route", "200", "2"] == 1
    assert found["byenatos_http_answer_seconds_count", "/route", "2"] == 3
    assert found["byenatos_http_client_requests_total", "editor", "2"] == 4
    assert found["byenatos_http_waiting", "2"] == 0
    assert found["byenatos_slot_ready", "m", 'a "slot"\n'] == 1
    assert found["byenatos_kernel_deltas_total",] == 5


@given(st.lists(st.floats(0, 100), max_size=50))
def test_every_duration_is_in_the_class_that_it_belongs_to(seconds: list[float]) -> None:
    tally = Tally()
    for one in seconds:
        tally.add(one)
    assert sum(tally.classes) == len(seconds)
    assert tally.total_s == pytest.approx(sum(seconds))
    for at, bound in enumerate(BOUNDS_S):
        assert sum(tally.classes[: at + 1]) == sum(one <= bound for one in seconds)


def test_traffic_is_what_models_answered_in_the_last_minute_and_not_what_the_kernel_s_own_api_did() -> None:
    async def seen() -> list[Traffic]:
        async def answer(request: Request) -> Response:
            request.route = request.path
            return Response()

        meter = Meter(answer)
        none = Traffic.of(meter, 3)
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/byenatos/v1/x")):
            await meter(Request(method, path, {}))
        (one,) = meter.recent
        now = asyncio.get_running_loop().time()
        meter.recent.extend((now - age, seconds) for age, seconds in ((61.0, 9.0), (1.0, 0.5), (2.0, 0.25)))
        meter.waiting = 4
        assert one[1] < 0.25
        return [none, Traffic.of(meter, 3)]

    assert asyncio.run(seen()) == [Traffic(3, 0), Traffic(3, 3, 0.25, 0.5, 4)]
