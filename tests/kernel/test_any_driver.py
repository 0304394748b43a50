"""Whatever a driver says, in whatever order, it harms its own answers at most.

Events are drawn from all kinds that the wire has, with the values that are most likely to trip somebody: numbers at the
ends of their types, no numbers, texts without end or without anything, ids of others. What only the event loop would
have seen is a failure of the test (``conftest.py``).
"""

import asyncio
import json
import math

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from byenatos_kernel.deliveries import STREAM_LIMIT
from byenatos_sdk.protocol.frames import Beat, DriverHello, Imported, Ready, Reply, encode
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    Logprobs,
    ModelSpecification,
    ReasoningDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

NUMBERS = some.sampled_from([0, 1, -1, 1 << 31, -(1 << 31), 1 << 53, -(1 << 63), (1 << 64) - 1])
WAITS = some.sampled_from([None, 0.0, -1.0, 7.0, 1e300, math.inf, -math.inf, math.nan])
TEXTS = some.sampled_from(["", "x", "\0", "\n2026 INFO", "\x1b[2J", "\u202e", "é" * 300, "x" * 40_000, "\U0010ffff"])
PLAIN = some.sampled_from([b"", b"\xc0", b"\xc1", b"\x80", b"\x81\x81\xa1a\xa1b\xa1c", b"\xd4\x05x", b"\x91" * 2000])
SPECIFICATIONS = some.one_of(
    PLAIN,
    some.builds(
        lambda name, number, extra: encode(
            ModelSpecification(
                name, name=name, size_bytes=number, memory_bytes=number, context_length=number, settings={"x": extra}
            )
        ),
        TEXTS,
        NUMBERS,
        some.sampled_from([1, b"x", msgspec.msgpack.Ext(9, b"x"), math.nan, {"a": [None]}]),
    ),
)
EVENTS = some.one_of(
    TEXTS,
    some.builds(ReasoningDelta, TEXTS, some.none() | TEXTS, TEXTS, some.booleans()),
    some.builds(ToolCallDelta, TEXTS, TEXTS, TEXTS, some.none() | TEXTS),
    some.builds(Logprobs, some.tuples(some.builds(TokenLogprob, TEXTS, some.sampled_from([0.0, math.nan, -math.inf])))),
    some.builds(
        Finish,
        some.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
        some.builds(Usage, some.none() | NUMBERS, some.none() | NUMBERS, NUMBERS, NUMBERS, NUMBERS),
        TEXTS,
        TEXTS,
        some.none() | TEXTS,
        some.lists(TEXTS, max_size=3).map(tuple),
    ),
    some.builds(
        Failure, some.sampled_from(["internal", "rate_limited", "invalid_request", "no such code", ""]), TEXTS, WAITS
    ),
    some.builds(Reply, SPECIFICATIONS, some.booleans()),
    some.builds(DriverHello, TEXTS, some.just((1,)), some.just(()), TEXTS, TEXTS, NUMBERS),
    some.just(Imported()),
    some.builds(Ready, SPECIFICATIONS),
    some.builds(Beat, NUMBERS, NUMBERS),
)
SAID = some.lists(some.tuples(some.sampled_from(["stream", "instance", "call", "nobody", "most"]), EVENTS), max_size=12)


@pytest.mark.filterwarnings("error")
@given(SAID)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_driver_says_its_neighbour_answers_and_all_can_be_shown(rig, run, said):
    async def scenario() -> None:
        async with rig({"main": "a", "other": "b"}) as kernel:
            await kernel.settle()
            mine, innocent = kernel.open("main"), kernel.open("other")
            await kernel.settle()
            driver, neighbour = kernel.driver("a"), kernel.driver("b")
            instance = kernel.instance("a")
            driver.obedient = False
            call = asyncio.create_task(instance.call("health", timeout_s=None))
            await kernel.settle()
            (stream,), (others,) = driver.streams, neighbour.streams
            numbers = {"stream": stream, "instance": 0, "call": driver.calls[-1][0] if driver.calls else -1}
            numbers |= {"nobody": others + 1000, "most": (1 << 64) - 1}
            for who, event in said:
                if driver.alive:
                    driver.send_raw(encode([(numbers[who], event)]))
                    await kernel.settle(2)
            await kernel.settle()
            json.dumps(msgspec.to_builtins(instance.info), allow_nan=False)
            for unit in kernel.drivers.units:
                json.dumps(msgspec.to_builtins(unit.model.info(1, ())), allow_nan=False)
            heard = kernel.heard(mine)
            assert sum(isinstance(event, Finish | Failure) for event in heard) <= 1
            assert len(encode([(1, event) for event in heard])) < 2 * STREAM_LIMIT
            neighbour.tell(others, "as ever", Finish())
            await kernel.settle()
            assert kernel.terminal(innocent) == Finish(model="b")
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    run(scenario())
