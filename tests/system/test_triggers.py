"""Triggers in a real kernel: they really swap, under requests, and say so."""

import asyncio
import time

import msgspec
import pytest
from kernel_process import CEILING_S, counting, slot_of, until, until_ready

from byenatos_sdk.protocol.control import Event, SwapAdvanced, TriggerFired
from byenatos_sdk.protocol.frames import Call, Hello, Notice
from byenatos_sdk.protocol.messages import SwapState

decode = msgspec.msgpack.Decoder(Event).decode
SLOW = """
[[triggers]]
name = "slow"
kind = "performance"
measure = "p95_latency_s"
above = 0.2
least_requests = 2
hold_s = 0
model = "echo-two"
strategy = "immediate"
"""
CROWDED = """
[[triggers]]
name = "crowded"
kind = "resource"
measure = "memory_available_mib"
above = 0
hold_s = 0
model = "echo-two"
"""
NEVER = CROWDED.replace("above = 0", "below = 0").replace("crowded", "never")


@pytest.fixture
def triggered(start_kernel, home):
    """Start a kernel with such triggers."""

    def start(text, *, on=True, **config):
        home.policies.mkdir(parents=True, exist_ok=True)
        (home.policies / "swap.toml").write_text(text)
        return start_kernel(auto_optimization=on, **config)

    return start


async def test_a_performance_trigger_swaps_to_the_quicker_model_while_answers_run(triggered):
    kernel = triggered(SLOW)
    async with kernel.client() as client, kernel.client() as watcher:
        await until_ready(client)
        [before] = await client.triggers()
        assert (before.state, before.would) == ("armed", "swap default to echo-two (immediate)")
        events = watcher.events()
        await watcher.status()
        async with asyncio.timeout(CEILING_S), asyncio.TaskGroup() as group:
            long = group.create_task(client.infer("count", extra=counting(400, 100)))
            for _ in range(3):
                group.create_task(client.infer("count", extra=counting(30, 100)))
            async for event in events:
                if isinstance(event, TriggerFired):
                    break
            assert (event.trigger, event.slot, event.model, event.problem) == ("slow", "default", "echo-two", "")
            assert event.reading > event.bound == 0.2
            await until(client, lambda status: slot_of(status).model == "echo-two")
        assert long.result().model == "echo-two"
        assert [move.reason for move in long.result().moves] == ["swap"]
        [swap] = await client.swaps()
        assert (swap.cause, swap.source, swap.target) == ("slow", "echo", "echo-two")
        [after] = await client.triggers()
        assert after.state in {"fired", "cooling"}
        assert before.fired_at == 0 < after.fired_at < after.next_at


async def test_a_resource_trigger_swaps_when_it_is_written_into_the_file(triggered, home):
    kernel = triggered(NEVER)
    async with kernel.client() as client:
        await until_ready(client)
        (home.policies / "swap.toml").write_text(NEVER + CROWDED)
        await until(client, lambda status: slot_of(status).model == "echo-two")
        assert (await client.infer("count", extra=counting(3))).model == "echo-two"
        never, crowded = await client.triggers()
        assert (never.state, crowded.state) == ("armed", "fired")
        assert crowded.reading > 0


async def test_without_auto_optimization_triggers_are_off(triggered):
    kernel = triggered(CROWDED, on=False)
    async with kernel.client() as client:
        await until_ready(client)
        [one] = await client.triggers()
        assert one.state == "off"
        assert await client.swaps() == []


async def test_a_trigger_that_cannot_swap_says_why(triggered):
    kernel = triggered(CROWDED.replace("echo-two", "broken"), models={"broken": {"start_fault": "raise"}})
    async with kernel.client() as client, kernel.client() as watcher:
        async with asyncio.timeout(CEILING_S):
            async for event in watcher.events():
                if isinstance(event, TriggerFired) and event.problem:
                    break
        await until_ready(client)
        assert slot_of(await client.status()).model == "echo"
        [one] = await client.triggers()
        assert one.problem == event.problem
        assert any(event.problem in warning for warning in (await client.status()).warnings)


async def test_a_client_that_does_not_know_triggers_hears_of_the_swap_only(triggered, raw, home):
    kernel = triggered(NEVER)
    old = raw()
    old.send(Hello((1,), ("moved", "pause")))
    old.read(lambda: bool(old.handshakes))
    old.send(Call(1, "events"))
    heard = []

    def listen():
        while not any(isinstance(event, SwapAdvanced) and event.swap.state is SwapState.RETIRED for event in heard):
            heard.extend(decode(event.body) for _, event in old.take() if isinstance(event, Notice))

    async with kernel.client() as client:
        await until_ready(client)
        (home.policies / "swap.toml").write_text(CROWDED)
        await asyncio.to_thread(listen)
    assert not any(isinstance(event, TriggerFired) for event in heard)


async def test_a_kernel_that_is_killed_remembers_that_its_trigger_had_fired(triggered, start_kernel):
    kernel = triggered(CROWDED)
    async with kernel.client() as client:
        await until(client, lambda status: slot_of(status).model == "echo-two")
        [before] = await client.triggers()
    kernel.kill()
    kernel = start_kernel(configured=False)
    async with kernel.client() as client:
        [after] = await client.triggers()
        assert (after.state, after.name) == ("fired", "crowded")
        assert after.fired_at == pytest.approx(before.fired_at, abs=5)
        assert after.next_at > time.time()
