"""Swaps where two of their parts meet: what one of them keeps, waits for or moves, the other must not lose."""

import asyncio
from unittest import mock

import pytest
from kernel_rig import manifest, text_of

from byenatos_kernel.swap_policy import MemoryRules, SwapPolicy, SwapRules
from byenatos_sdk.protocol.control import DriverRequest, MoveOrder
from byenatos_sdk.protocol.errors import ByenatosError, Cancelled, Unavailable
from byenatos_sdk.protocol.messages import Finish, SwapRequest, SwapState

ROOM_FOR_ONE = {"a": 60, "b": 60, "c": 30}


def narrow(kernel, mib=100):
    kernel.policy = SwapPolicy(SwapRules(keep_old_s=0.0), MemoryRules(mib))


async def begun(kernel, model="b", strategy="graceful", **more):
    swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", model, strategy, **more)))
    await kernel.settle()
    return swap


async def test_a_conversation_with_a_home_of_its_own_does_not_wait_for_its_slots_model_to_be_exchanged(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel, 120)
        number = kernel.open("main", session="s")
        await kernel.settle()
        old = kernel.driver("a")
        old.finish(*old.streams)
        await kernel.settle()
        await kernel.session_homes.move(MoveOrder("s", "c"))
        kernel.open("main")  # it keeps the old model there
        await kernel.settle()
        swap = await begun(kernel)
        number = kernel.open("main", session="s")
        await kernel.settle()
        home = kernel.driver("c")
        assert len(home.streams) == 1
        home.finish(*home.streams)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="c")
        old.finish(*old.streams)
        await kernel.settle()
        assert (await swap).mode == "sequential"


async def test_a_background_swap_that_waits_for_the_old_model_to_leave_first_makes_way_as_well(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.open("main")
        await kernel.settle()
        waiting = await begun(kernel, "b", "background")
        swap = await begun(kernel, "c", "immediate")
        with pytest.raises(Cancelled, match="superseded"):
            await waiting
        await swap
        new = kernel.driver("c")
        new.say(*new.streams)
        await kernel.settle()
        assert [driver.model for driver in kernel.alive] == ["c"]


async def test_a_reload_that_takes_the_place_of_a_background_swap_keeps_no_process_of_before(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await kernel.settle()
        kernel.open("main")
        await kernel.settle()
        waiting = await begun(kernel, "b", "background")
        before = kernel.driver("b")
        await kernel.swaps.swap(SwapRequest("main", "b"), avoid=[kernel.drivers.find("b")])
        with pytest.raises(Cancelled, match="superseded"):
            await waiting
        await kernel.swaps.swap(SwapRequest("side", "c"))
        await kernel.settle()
        assert not before.alive


async def test_a_target_that_dies_while_answers_still_follow_it_fails_no_request_that_the_old_model_can_serve(rig):
    async with rig() as kernel:
        kernel.policy = SwapPolicy(SwapRules(keep_old_s=600.0))
        await kernel.settle()
        followed = asyncio.Event()

        async def behind(*_):
            await followed.wait()

        with mock.patch.object(kernel.swaps._steps.transfers, "behind", behind):
            swap = await begun(kernel)
            assert kernel.routes.slots["main"].swap.state is SwapState.SWITCHED
            number = kernel.open("main")
            await kernel.settle()
            kernel.driver("b").exit()
            await kernel.settle()
            followed.set()
            await swap
        old = kernel.driver("a")
        assert len(old.streams) == 1
        old.finish(*old.streams)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")


async def test_a_sequential_swap_that_is_given_up_before_the_old_model_leaves_leaves_it_there(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        old = kernel.driver("a")
        validated = asyncio.Event()
        swap = asyncio.create_task(
            kernel.swaps.swap(
                SwapRequest("main", "b"), lambda event: event.state is SwapState.VALIDATED and validated.set()
            )
        )
        await validated.wait()
        await kernel.swaps.cancel("main")
        with pytest.raises(Cancelled):
            await swap
        await kernel.settle()
        assert old.alive
        assert kernel.drivers_made == [old]


async def test_a_sequential_swap_that_is_given_up_while_the_old_model_leaves_does_not_load_the_target(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        running = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        swap = await begun(kernel)
        later = kernel.open("main")
        giving_up = asyncio.create_task(kernel.swaps.cancel("main"))
        await kernel.settle()
        old.finish(*old.streams)
        await kernel.settle()
        await giving_up
        with pytest.raises(Cancelled):
            await swap
        new = kernel.driver("a")
        new.finish(*new.streams)
        await kernel.settle()
        assert kernel.terminal(running) == kernel.terminal(later) == Finish(model="a")
        assert [driver.model for driver in kernel.drivers_made] == ["a", "a"]


async def test_an_upgrade_that_fails_where_there_is_room_for_one_goes_back_to_what_ran(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        folder = kernel.shelf.folders[0] / "scripted"
        text = manifest(ROOM_FOR_ONE, {}).replace('version = "1"', 'version = "2"')
        (folder / "plugin.toml").write_text(text)
        kernel.shelf.scan()
        await kernel.shelf.verified()
        narrow(kernel)
        old = kernel.driver("a")
        old.obedient = True
        kernel.obedient = False
        loaded = []
        start = kernel.drivers._start

        def started(unit):
            loaded.append(unit.plugin.verdict.version)
            start(unit)

        with mock.patch.object(kernel.drivers, "_start", started):
            upgrade = asyncio.create_task(kernel.renewals.upgrade(DriverRequest("scripted")))
            await kernel.settle()
            kernel.obedient = True
            kernel.driver("a").load_fails()
            await kernel.settle()
            with pytest.raises(Unavailable, match="is refused"):
                await upgrade
        await kernel.settle()
        assert loaded == ["2", "1"]
        assert kernel.routes.slots["main"].unit.plugin.verdict.version == "1"


async def test_what_waits_in_a_slots_queue_goes_back_to_nowhere(rig):
    async with rig(memory_mib={"a": 30, "b": 60, "c": 60}) as kernel:
        await kernel.settle()
        narrow(kernel)
        number = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        old.say(*old.streams)
        await kernel.settle()
        await begun(kernel, "b", "immediate")
        (stream,) = kernel.switchboard.live
        trial = stream.trial
        assert trial is not None  # b has not said a word yet
        kernel.driver("b").obedient = False
        swap = await begun(kernel, "c", "immediate")
        assert stream in kernel.routes.slots["main"].queue
        assert trial.over.done()
        assert stream.trial is None
        kernel.driver("b").exit(0)
        await kernel.settle()
        new = kernel.driver("c")
        new.say(*new.streams)
        new.finish(*new.streams)
        await kernel.settle()
        assert (await swap).mode == "sequential"
        assert text_of(kernel.heard(number)) == "0 1 "
        assert kernel.terminal(number) == Finish(model="c")


async def test_a_bug_in_a_swap_leaves_its_slot_and_its_target_to_the_next_one(rig):
    async with rig() as kernel:
        await kernel.settle()
        with (
            mock.patch.object(kernel.swaps._steps.transfers, "ahead", side_effect=RuntimeError("a bug")),
            pytest.raises(ByenatosError, match="the kernel failed during the swap"),
        ):
            await kernel.swaps.swap(SwapRequest("main", "b"))
        await kernel.settle()
        assert kernel.routes.slots["main"].swap is None
        assert [driver.model for driver in kernel.alive] == ["a"]
        await kernel.swaps.swap(SwapRequest("main", "b"))
        assert kernel.routes.slots["main"].model == "b"


async def test_what_runs_for_another_slot_of_the_old_model_does_not_count_as_draining(rig):
    async with rig({"main": "a", "side": "a"}) as kernel:
        await kernel.settle()
        for target in ("main", "side", "side"):
            kernel.open(target)
        await kernel.settle()
        event = await kernel.swaps.swap(SwapRequest("main", "b"))
        assert (event.state, event.draining_streams) == (SwapState.DRAINING, 1)


async def test_what_a_slot_is_swapped_to_while_it_goes_back_keeps_its_answers(rig):
    async with rig() as kernel:
        kernel.policy = SwapPolicy(SwapRules(keep_old_s=600.0))
        await kernel.settle()
        await kernel.swaps.swap(SwapRequest("main", "b"))
        await kernel.settle()
        looked = asyncio.Event()
        ahead = kernel.swaps._steps.transfers.ahead

        async def slowly(swap, source, target, *more):
            if target.model.id == "a":
                await looked.wait()
            return await ahead(swap, source, target, *more)

        with mock.patch.object(kernel.swaps._steps.transfers, "ahead", slowly):
            going_back = asyncio.create_task(kernel.swaps.back("main"))
            await kernel.settle()
            assert kernel.routes.slots["main"].model == "a"
            await kernel.swaps.swap(SwapRequest("main", "b"))
            number = kernel.open("main")
            await kernel.settle()
            looked.set()
            await going_back
        new = kernel.driver("b")
        assert len(new.streams) == 1
        new.finish(*new.streams)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="b")
        assert kernel.heard(number) == [Finish(model="b")]
