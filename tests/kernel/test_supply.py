"""What there was no room for is served as soon as there is: slots and the fallback alike."""

import asyncio

import pytest

from byenatos_kernel.swap_policy import MemoryRules, SwapPolicy, SwapRules
from byenatos_sdk.protocol.control import LoadRequest, UnloadRequest
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import Finish, SwapRequest

SIZES = {"a": 60, "b": 60, "c": 30}


def allow(kernel, mib):
    kernel.policy = SwapPolicy(SwapRules(keep_old_s=0.0), MemoryRules(mib))


def stands(kernel, slot):
    info = kernel.routes.slots[slot].info
    return info.model, info.state


async def test_a_slot_that_found_no_room_at_the_start_is_served_when_another_model_has_left(rig):
    async with rig({"main": "a", "side": "b", "third": "c"}, most_models=2) as kernel:
        await kernel.settle()
        assert stands(kernel, "third") == ("c", "unavailable")
        assert "max_concurrent_models" in kernel.routes.slots["third"].detail
        await kernel.swaps.swap(SwapRequest("main", "b"))
        await kernel.settle()
        assert stands(kernel, "third") == ("c", "ready")
        number = kernel.open("third")
        await kernel.settle()
        driver = kernel.driver("c")
        driver.finish(next(iter(driver.streams)))
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="c")


async def test_a_slot_whose_model_another_slot_is_swapped_to_is_served_by_that(rig):
    async with rig({"main": "a", "side": "b"}, most_models=1) as kernel:
        await kernel.settle()
        assert stands(kernel, "side") == ("b", "unavailable")
        await kernel.swaps.swap(SwapRequest("main", "b"))
        await kernel.settle()
        assert stands(kernel, "main") == stands(kernel, "side") == ("b", "ready")
        assert [driver.model for driver in kernel.drivers_made] == ["a", "b"]


async def test_a_slot_whose_old_and_new_model_found_no_room_is_served_once_there_is_some(rig):
    async with rig(memory_mib=SIZES) as kernel:
        await kernel.settle()
        allow(kernel, 100)
        await kernel.supply.load(LoadRequest("c"))
        kernel.obedient = False
        swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b", "graceful")))
        await kernel.settle()
        waiting = kernel.open("main")
        allow(kernel, 40)
        kernel.driver("b").load_fails()
        await kernel.settle()
        with pytest.raises(Unavailable):
            await swap
        assert "cannot be loaded again either" in kernel.terminal(waiting).message
        assert stands(kernel, "main") == ("a", "unavailable")
        allow(kernel, 60)
        kernel.obedient = True
        kernel.supply.unload(UnloadRequest("c"))
        await kernel.settle()
        assert stands(kernel, "main") == ("a", "ready")


async def test_a_fallback_that_found_no_room_is_loaded_once_there_is_some(rig):
    async with rig({"main": "a", "side": "b"}, fallback="c", most_models=2) as kernel:
        await kernel.settle()
        assert "fallback" in kernel.supply.warnings
        await kernel.swaps.swap(SwapRequest("main", "b"))
        await kernel.settle()
        assert kernel.supply.fallback().model.id == "c"
        assert not kernel.supply.warnings


async def test_what_failed_for_another_reason_is_not_tried_again_because_there_is_room(rig):
    async with rig({"main": "a", "side": "b"}, most_models=3) as kernel:
        await kernel.settle()
        await kernel.supply.load(LoadRequest("c"))
        kernel.obedient = False
        kernel.driver("b").exit()
        kernel.pass_back_offs()
        await kernel.settle()
        kernel.driver("b").load_fails("invalid_request")
        await kernel.settle()
        tried = len(kernel.drivers_made)
        kernel.supply.unload(UnloadRequest("c"))
        await kernel.settle()
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert len(kernel.drivers_made) == tried
