"""Probation in real kernels: what is kept, what leads back, and what a killed kernel comes back with."""

import asyncio
import math

import pytest
from kernel_process import (
    counting,
    instance_of,
    is_counted,
    numbers,
    signal_driver,
    slot_of,
    until,
    until_event,
    until_ready,
)
from plugin_folder import write_plugin

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.control import SwapAdvanced
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import SwapState

BREAKING = """
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        raise RuntimeError("the engine broke")
        yield ""
"""
DYING = """
import os
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        yield "a word "
        os._exit(3)
"""


@pytest.fixture
def keeping(home: Home) -> Home:
    """A home whose kernel keeps the old model for a long time."""
    home.policies.mkdir(parents=True)
    (home.policies / "swap.toml").write_text("[swap]\nkeep_old_s = 600\n[probation]\nleast_requests = 2\n")
    return home


def is_step(event, state):
    return isinstance(event, SwapAdvanced) and event.swap.state is state


@pytest.mark.parametrize("keep_old_s", [math.inf, math.nan, -1.0])
async def test_an_old_model_cannot_be_kept_for_ever(start_kernel, keep_old_s):
    async with start_kernel().client() as client:
        await until_ready(client)
        with pytest.raises(InvalidRequest, match="keep_old_s"):
            await client.swap("default", "echo-two", keep_old_s=keep_old_s)
        assert slot_of(await client.status()).model == "echo"


async def test_the_old_model_stays_warm_after_a_swap_and_the_slot_can_be_rolled_back(start_kernel, keeping):
    kernel = start_kernel()
    async with kernel.client() as client:
        before = (await until_ready(client)).instances[0].epoch
        event = await client.swap("default", "echo-two")
        assert event.detail == "echo is kept for 600 s"
        stream = client.stream("count", extra=counting(60, 100))
        await anext(stream)
        event = await client.swap_back("default")
        assert (event.state, event.moved_streams) == (SwapState.ROLLED_BACK, 1)
        answer = await stream.response()
        assert (answer.text, answer.model) == (numbers(60), "echo")
        status = await until(client, lambda status: len(status.instances) == 1)
        assert (status.instances[0].epoch, slot_of(status).model) == (before, "echo")
        with pytest.raises(InvalidRequest, match="found none"):
            await client.swap_back("default")


async def test_a_model_that_fails_its_requests_is_swapped_out_again_by_itself(start_kernel, keeping):
    write_plugin(keeping, "breaking", BREAKING)
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.swap("default", "breaking")
        for _ in range(2):
            answer = await client.infer("x", extra=counting(3))
            assert (answer.text, answer.model) == (numbers(3), "echo")
            assert [(move.source, move.target) for move in answer.moves] == [("breaking", "echo")]
        answer = await client.infer("x", extra=counting(3))
        assert (answer.model, answer.moves) == ("echo", ())
        [swap] = await client.swaps()
        assert (swap.state, swap.detail) == (SwapState.ROLLED_BACK, "breaking failed 2 of 2 requests")
        await until(client, lambda status: [one.model for one in status.instances] == ["echo"])


async def test_a_model_whose_process_dies_twice_is_swapped_out_again_and_running_answers_go_on(start_kernel, keeping):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        await client.swap("default", "echo-two")
        first = instance_of(await client.status(), "echo-two").epoch
        signal_driver(await client.status(), "echo-two")

        def again(status):
            one = instance_of(status, "echo-two")
            return one and one.epoch > first and one.state.value == "ready"

        status = await until(client, again)
        stream = client.stream("count", extra=counting(60, 100))
        await anext(stream)
        event = await until_event(
            other, lambda event: is_step(event, SwapState.ROLLED_BACK), lambda: signal_driver(status, "echo-two")
        )
        assert event.swap.detail == "echo-two died 2 times"
        answer = await stream.response()
        assert (answer.text, answer.model) == (numbers(60), "echo")


async def test_a_model_that_dies_of_every_request_costs_no_request_its_answer(start_kernel, keeping):
    write_plugin(keeping, "dying", DYING)
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.swap("default", "dying")
        while slot_of(await client.status()).model == "dying":
            answer = await client.infer("x", extra=counting(3))
            assert answer.model == "echo"
            assert answer.text.removeprefix("a word ") == numbers(3)
        [swap] = await client.swaps()
        assert (swap.state, swap.detail) == (SwapState.ROLLED_BACK, "dying died 2 times")


async def test_a_kernel_that_is_killed_while_it_keeps_the_old_model_serves_the_new_one(start_kernel, keeping):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.swap("default", "echo-two")
    assert kernel.kill() == []
    async with start_kernel().client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).model == "echo-two"
        assert [swap.state for swap in await client.swaps()] == [SwapState.RETIRED]


async def test_a_kernel_that_is_killed_after_a_rollback_serves_the_old_model(start_kernel, keeping):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.swap("default", "echo-two")
        await client.swap_back("default")
    assert kernel.kill() == []
    async with start_kernel().client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).model == "echo"
        assert [swap.state for swap in await client.swaps()] == [SwapState.ROLLED_BACK]


async def test_a_kernel_stops_in_good_order_while_it_keeps_a_model(start_kernel, keeping):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.swap("default", "echo-two")
        stream = client.stream("count", extra=counting(-1, 50))
        await anext(stream)
        assert await asyncio.to_thread(kernel.stop) == 0
        with pytest.raises(Unavailable):
            await stream.response()
        assert is_counted(stream.text)


async def test_a_model_that_cannot_answer_is_not_switched_to_if_its_driver_asks_for_a_self_test(start_kernel, home):
    write_plugin(home, "breaking", BREAKING, extra="self_test = true")
    write_plugin(home, "counting", extra="self_test = true")
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(Unavailable, match=r"breaking failed its self-test: .*the engine broke"):
            await client.swap("default", "breaking")
        assert (await client.infer("x", extra=counting(3))).model == "echo"
        await client.swap("default", "counting")
        assert (await client.infer("x")).text == numbers(10)
