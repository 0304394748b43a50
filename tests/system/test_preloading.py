"""Preloaded models in a real kernel: a swap to one only switches, and one that goes leaves its conversations asleep."""

import time
from pathlib import Path

import pytest
from kernel_process import counting, instance_of, slot_of, until, until_ready
from plugin_folder import write_plugin

from byenatos_sdk.protocol.errors import NotFound

ABACUS = (Path(__file__).parent / "harness" / "abacus.py").read_text()


async def test_a_swap_to_a_preloaded_model_takes_its_process(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        info = await client.preload("echo-two")
        swap = await client.swap("default", "echo-two")
        status = await client.status()
        assert slot_of(status).epochs == (info.epoch,)
        assert swap.state.value in {"switched", "draining", "retired"}
        assert (await client.infer("count", extra=counting(3))).model == "echo-two"
        with pytest.raises(NotFound):
            await client.preload("none")


async def test_the_history_counts_requests_over_restarts(start_kernel):
    if time.localtime().tm_min >= 48:
        pytest.skip("the history is asked for the hour that begins in minutes")
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        for _ in range(3):
            await client.infer("count", extra=counting(1))
        [echo] = (await client.usage()).models
        assert (echo.model, echo.requests, echo.share, echo.loaded) == ("echo", 3, 1.0, True)
    kernel.stop()
    async with start_kernel(configured=False).client() as client:
        await until_ready(client)
        await client.infer("count", extra=counting(1))
        assert sum(model.requests for model in (await client.usage()).models) in {1, 4}  # 1: the hour has changed


async def test_the_conversations_of_a_preloaded_model_that_makes_room_are_hibernated_and_wake(start_kernel, home):
    write_plugin(home, "abacus", ABACUS, entry="plugin:Abacus", permissions="arena_mib = 1")
    async with start_kernel(default="abacus", max_concurrent_models=2).client() as client:
        await until_ready(client)
        session = client.session("beads")
        assert (await session.infer("count")).model == "abacus"
        await client.preload("abacus")
        await client.swap("default", "echo", until="retired")
        assert instance_of(await client.status(), "abacus") is not None
        await client.load("echo-two")
        await until(client, lambda status: instance_of(status, "abacus") is None)
        assert len(list(home.warm.glob("*.warm"))) == 1
        await client.unload("echo-two")
        await client.swap("default", "abacus")
        assert (await session.infer("count on")).model == "abacus"
        assert list(home.warm.glob("*.warm")) == []
