"""Units: back-off and quarantine, and that nobody waits for one that will never come."""

import asyncio
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from byenatos_kernel.clients import ClientState
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.streams import Stream
from byenatos_kernel.units import (
    BACKOFF_FIRST_S,
    BACKOFF_MOST_S,
    CRASH_LIMIT,
    CRASH_WINDOW_S,
    WAITING_LIMIT,
    Unit,
)
from byenatos_sandbox import Grant
from byenatos_sdk.protocol.errors import DriverCrashed, Overloaded, Unavailable


def new_unit() -> Unit:
    plugin = PluginEntry("scripted", Path("/plugins/scripted"))
    return Unit(ModelEntry("a", "scripted"), plugin, Grant(name="scripted/a", plugin="/"), supervised=True)


@given(st.lists(st.floats(0, 4000), min_size=1, max_size=40).map(sorted))
def test_back_off_grows_within_its_bounds_and_the_fifth_crash_in_the_window_is_the_last(times):
    unit = new_unit()
    for number, now in enumerate(times):
        recent = sum(1 for earlier in times[: number + 1] if earlier >= now - CRASH_WINDOW_S)
        delay = unit.back_off(now)
        assert len(unit.crashes) == recent
        if recent >= CRASH_LIMIT:
            assert delay is None
            break
        assert delay is not None
        least = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** (recent - 1))
        assert least <= delay <= min(BACKOFF_MOST_S, 1.5 * least)


def test_the_first_crash_of_a_process_that_was_forked_is_made_good_at_once_and_no_other():
    unit = new_unit()
    assert unit.back_off(0.0, warm=True) == 0
    assert unit.back_off(1.0, warm=True) >= BACKOFF_FIRST_S
    assert unit.back_off(1.0 + CRASH_WINDOW_S + 1, warm=True) == 0


async def test_everybody_who_waits_hears_that_the_unit_died():
    unit = new_unit()
    waiters = [asyncio.create_task(unit.until_ready()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[1].cancel()
    await asyncio.sleep(0)
    unit.die(DriverCrashed("it is over"))
    with pytest.raises(asyncio.CancelledError):
        await waiters[1]
    for waiter in (waiters[0], waiters[2], asyncio.create_task(unit.until_ready())):
        with pytest.raises(DriverCrashed, match="it is over"):
            await waiter


async def test_those_who_wait_for_a_unit_in_back_off_hear_that_it_is_let_go(rig):
    async with rig({}) as kernel:
        unit = kernel.drivers.load(kernel.registry.model("b"), supervised=True)
        await kernel.settle()
        kernel.driver("b").exit()
        await kernel.settle()
        assert unit.restart is not None
        waiter = asyncio.create_task(unit.until_ready())
        number = kernel.open("b")
        await asyncio.sleep(0)
        kernel.drivers.release(unit)
        with pytest.raises(Unavailable, match="is being stopped"):
            await waiter
        await kernel.settle()
        assert kernel.terminal(number).code == "unavailable"
        assert unit.gone.is_set()
        assert not kernel.drivers.units


async def test_those_who_wait_for_a_unit_that_still_loads_hear_that_it_is_let_go(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        await kernel.settle()
        waiter = asyncio.create_task(unit.until_ready())
        number = kernel.open("b")
        await asyncio.sleep(0)
        kernel.drivers.release(unit)
        kernel.driver("b").exit(0)
        with pytest.raises(Unavailable):
            await waiter
        await kernel.settle()
        assert kernel.terminal(number).code in {"unavailable", "driver_crashed"}
        assert unit.gone.is_set()


def test_the_queue_is_bounded_and_what_left_it_makes_room():
    unit = new_unit()
    client = ClientState("uid:0", 0)
    streams = [Stream(client, number, "a") for number in range(WAITING_LIMIT)]
    for stream in streams:
        unit.wait(stream)
    with pytest.raises(Overloaded, match="already wait for a"):
        unit.wait(Stream(client, -1, "a"))
    unit.leave(streams[5])
    unit.leave(streams[5])
    unit.wait(streams[5])


async def test_a_request_that_is_cancelled_while_it_waits_frees_its_place(rig):
    async with rig({}) as kernel:
        kernel.obedient = False
        unit = kernel.drivers.load(kernel.registry.model("b"))
        for _ in range(WAITING_LIMIT + 10):
            number = kernel.open("b")
            kernel.switchboard.cancel(kernel.client, number)
            await asyncio.sleep(0)
            assert kernel.terminal(number).code == "cancelled"
        assert not unit.waiting
