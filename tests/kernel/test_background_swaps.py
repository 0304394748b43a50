"""Swaps in the background: they wait until their slot is idle, and until then they can be given up."""

import asyncio

import pytest

from byenatos_sdk.protocol.errors import Cancelled, InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import SwapRequest, SwapState

BACKGROUND = SwapRequest("main", "b", "background")


async def under_an_answer(kernel, request=BACKGROUND):
    """Begin a swap while something runs; return it once it waits."""
    await kernel.settle()
    kernel.open("main")
    await kernel.settle()
    swap = asyncio.create_task(kernel.swaps.swap(request))
    await kernel.settle()
    return swap


async def test_it_switches_once_nothing_of_the_slot_runs(rig):
    async with rig() as kernel:
        swap = await under_an_answer(kernel)
        old = kernel.driver("a")
        kernel.open("main")
        await kernel.settle()
        assert kernel.routes.slots["main"].swap.state is SwapState.PREPARED
        assert len(old.streams) == 2
        for left in (True, False):
            old.finish(min(old.streams))
            await kernel.settle()
            assert (kernel.routes.slots["main"].model == "a") is left
        assert (await swap).target == "b"
        assert not old.alive


async def test_what_runs_on_other_slots_does_not_hold_it_up(rig):
    async with rig({"main": "a", "side": "a"}) as kernel:
        await kernel.settle()
        kernel.open("side")
        await kernel.settle()
        await kernel.swaps.swap(BACKGROUND)
        assert kernel.routes.slots["main"].model == "b"


async def test_it_loads_with_low_priority_and_restarts_as_any_other(rig):
    async with rig() as kernel:
        await kernel.settle()
        kernel.obedient = False
        swap = asyncio.create_task(kernel.swaps.swap(BACKGROUND))
        await kernel.settle()
        unit = kernel.drivers.find("b")
        assert unit.background
        assert unit.instance._order.background
        kernel.driver("b").loaded()
        await kernel.settle()
        assert not unit.background
        kernel.driver("b").feels("ok")
        await swap


@pytest.mark.parametrize("strategy", ["graceful", "immediate", "background"])
@pytest.mark.parametrize("model", ["b", "c"])
async def test_another_swap_of_the_slot_takes_its_place(rig, strategy, model):
    async with rig() as kernel:
        waiting = await under_an_answer(kernel)
        prepared = kernel.drivers.find("b")
        other = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", model, strategy)))
        with pytest.raises(Cancelled, match=f"superseded by swap 2 to {model}"):
            await waiting
        await kernel.settle()
        for driver in kernel.alive:
            for number in list(driver.streams):
                driver.finish(number)
        await other
        slot = kernel.routes.slots["main"]
        assert slot.model == model
        assert (slot.unit is prepared) == (model == "b")
        await kernel.settle()
        assert [event.state for event in await kernel.swaps.history()][1] is SwapState.FAILED
        assert [driver.model for driver in kernel.alive] == [model]
        assert slot.swap is None


async def test_a_swap_that_is_refused_leaves_nothing_of_the_one_whose_place_it_took(rig):
    async with rig() as kernel:
        waiting = await under_an_answer(kernel)
        with pytest.raises(NotFound):
            await kernel.swaps.swap(SwapRequest("main", "unknown"))
        with pytest.raises(Cancelled):
            await waiting
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]


async def test_no_other_swap_waits_for_its_place_to_be_taken(rig):
    async with rig() as kernel:
        await kernel.settle()
        kernel.obedient = False
        first = asyncio.create_task(kernel.swaps.swap(BACKGROUND))
        await kernel.settle()
        with pytest.raises(InvalidRequest, match="is being swapped to b"):
            await kernel.swaps.swap(SwapRequest("main", "c"))
        await kernel.comes_up("b")
        await first


@pytest.mark.parametrize("loaded", [True, False])
async def test_it_can_be_given_up_until_it_has_switched(rig, loaded):
    async with rig() as kernel:
        await kernel.settle()
        kernel.obedient = loaded
        swap = await under_an_answer(kernel)
        event = await kernel.swaps.cancel("main")
        assert (event.state, event.detail) == (SwapState.FAILED, "given up by the operator")
        with pytest.raises(Cancelled):
            await swap
        await kernel.settle()
        slot = kernel.routes.slots["main"]
        assert (slot.model, slot.swap) == ("a", None)
        for driver in kernel.alive:
            if driver.drained:
                driver.exit(0)
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]
        with pytest.raises(NotFound, match="could still be given up"):
            await kernel.swaps.cancel("main")


async def test_a_target_that_dies_while_it_waits_is_waited_for(rig):
    async with rig() as kernel:
        swap = await under_an_answer(kernel)
        kernel.driver("b").exit()
        await kernel.settle()
        old = kernel.driver("a")
        old.finish(min(old.streams))
        await kernel.settle()
        assert not swap.done()
        unit = kernel.drivers.find("b")
        unit.restart.cancel()
        kernel.drivers._restart(unit)
        assert (await swap).target == "b"
