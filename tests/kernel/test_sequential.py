"""Sequential swaps, on scripted drivers: what waits is answered in order, whatever becomes of either model."""

import asyncio

import pytest
from kernel_rig import Rig, text_of

from byenatos_kernel.swap_policy import MemoryRules, QueueRules, SwapPolicy, SwapRules
from byenatos_sdk.protocol.control import LoadRequest, UnloadRequest
from byenatos_sdk.protocol.errors import Overloaded, Unavailable
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Moved,
    SwapRequest,
    SwapState,
    ToolCallDelta,
    user,
)

ROOM_FOR_ONE = {"a": 60, "b": 60, "c": 30}


def narrow(kernel, mib=100, most=256):
    kernel.policy = SwapPolicy(SwapRules(keep_old_s=0.0), MemoryRules(mib), QueueRules(most))


async def begun(kernel, strategy="graceful", model="b", **more):
    """A sequential swap that has begun, and what it says of itself."""
    steps = []
    swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", model, strategy, **more), steps.append))
    await kernel.settle()
    return swap, steps


def asked(driver):
    return sorted(driver.streams)


async def test_the_old_model_is_gone_before_the_new_one_is_there(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        swap, steps = await begun(kernel, until="retired")
        event = await swap
        assert event.mode == "sequential"
        assert event.state is SwapState.RETIRED
        assert [driver.model for driver in kernel.drivers_made] == ["a", "b"]
        assert not kernel.drivers_made[0].alive
        assert kernel.routes.slots["main"].model == "b"
        told = [(step.state, step.detail) for step in steps]
        leaves, gone = (SwapState.VALIDATED, "a leaves first"), (SwapState.VALIDATED, "a is gone; 0 requests wait")
        assert told.index(leaves) < told.index(gone) < told.index((SwapState.PREPARING, "a is gone; 0 requests wait"))
        assert event.detail == "0 requests waited"


async def test_with_room_for_both_nothing_waits(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel, mib=120)
        swap, _ = await begun(kernel)
        assert (await swap).mode == "overlap"


async def test_requests_wait_while_a_running_answer_ends_and_are_answered_in_order(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        first = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        swap, steps = await begun(kernel)
        waiting = [kernel.open("main", session=f"s{number}" if number % 3 == 0 else None) for number in range(12)]
        await kernel.settle()
        slot = kernel.routes.slots["main"].info
        assert (slot.state, slot.waiting, slot.model) == ("loading", 12, "a")
        assert slot.detail == "a leaves first; still running there: 1"
        assert old.alive
        assert len(old.streams) == 1
        kernel.obedient = False
        (here,) = old.streams
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert kernel.terminal(first) == Finish(model="a")
        assert not old.alive
        assert steps[-1].detail == "a is gone; 12 requests wait"
        new = await kernel.comes_up("b")
        assert (await swap).detail == "12 requests waited"
        await kernel.settle()
        assert kernel.routes.slots["main"].info.waiting == 0
        for there, number in zip(asked(new), waiting, strict=True):  # numbers rise in the order of placing
            new.say(there)
            new.finish(there)
            await kernel.settle(2)
            assert kernel.terminal(number) == Finish(model="b")
            assert [one for one in kernel.heard(number) if isinstance(one, Moved)] == []


async def test_immediate_stops_what_runs_and_it_goes_on_before_what_came_later(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        running = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        old.say(here)
        old.say(here)
        await kernel.settle()
        kernel.obedient = False
        swap, _ = await begun(kernel, "immediate")
        later = kernel.open("main")
        old.exit(0)
        await kernel.settle()
        new = await kernel.comes_up("b")
        event = await swap
        assert event.moved_streams == 1
        await kernel.settle()
        continued, fresh = asked(new)
        new.say(continued)
        new.say(fresh)
        new.finish(continued)
        new.finish(fresh)
        await kernel.settle()
        assert text_of(kernel.heard(running)) == "0 1 2 "
        assert [one for one in kernel.heard(running) if isinstance(one, Moved)] == [Moved("a", "b", "swap")]
        assert text_of(kernel.heard(later)) == "0 "
        assert kernel.terminal(running) == kernel.terminal(later) == Finish(model="b")


async def test_more_than_may_wait_are_refused_by_the_name_of_the_limit(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel, most=2)
        kernel.obedient = False
        kernel.driver("a").obedient = False
        running = kernel.open("main")
        await kernel.settle()
        await begun(kernel, "immediate")
        waiting = [kernel.open("main") for _ in range(3)]
        await kernel.settle()
        assert kernel.terminal(running) is None
        assert kernel.terminal(waiting[0]) is None, "what ran before does not count"
        for number in waiting[1:]:
            refused = kernel.terminal(number)
            assert refused.code == "overloaded"
            assert "[queue] most in swap.toml" in refused.message


async def test_a_deadline_that_passes_meanwhile_says_what_was_waited_for(rig, until):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.driver("a").obedient = False
        await begun(kernel)
        late = kernel.open("main", timeout_ms=1)
        silent = kernel.open("main", gap_timeout_ms=1)
        waits = kernel.open("main")
        await until(lambda: kernel.terminal(late) and kernel.terminal(silent))
        for number in (late, silent):
            failure = kernel.terminal(number)
            assert failure.code == "deadline_exceeded"
            assert "it waited for slot 'main' to be swapped to b" in failure.message
        assert kernel.terminal(waits) is None
        assert kernel.routes.slots["main"].info.waiting == 1


async def test_what_waits_may_be_cancelled(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.driver("a").obedient = False
        swap, _ = await begun(kernel)
        gone, stays = kernel.open("main"), kernel.open("main")
        kernel.switchboard.cancel(kernel.client, gone)
        await kernel.settle()
        assert kernel.terminal(gone).code == "cancelled"
        kernel.driver("a").exit(0)
        await swap
        await kernel.settle()
        (there,) = kernel.driver("b").streams
        kernel.driver("b").finish(there)
        await kernel.settle()
        assert kernel.terminal(stays) == Finish(model="b")


@pytest.mark.parametrize("way", ["load_fails", "exit", "down"])
async def test_if_the_target_does_not_come_the_old_model_returns_and_answers_what_waits(rig, way):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.obedient = False
        swap, _ = await begun(kernel)
        waiting = [kernel.open("main") for _ in range(3)]
        await kernel.settle()
        target = kernel.driver("b")
        if way == "down":
            target.loaded()
            await kernel.settle()
            target.feels("down")
            await kernel.settle()
            assert target.drained
            assert [driver.model for driver in kernel.alive] == ["b"], "the old one waits for the room"
            target.exit(0)
        else:
            getattr(target, way)()
        await kernel.settle()
        with pytest.raises(Unavailable):
            await swap
        assert [driver.model for driver in kernel.alive] == ["a"]
        slot = kernel.routes.slots["main"]
        assert (slot.model, slot.info.state, slot.info.waiting, slot.swap) == ("a", "loading", 3, None)
        again = kernel.driver("a")
        again.loaded()
        await kernel.settle()
        for there, number in zip(asked(again), waiting, strict=True):
            again.finish(there)
            await kernel.settle(2)
            assert kernel.terminal(number) == Finish(model="a")
        (event,) = await kernel.swaps.history()
        assert (event.state, event.mode) == (SwapState.FAILED, "sequential")


async def test_if_neither_comes_what_waits_is_refused_with_both_reasons(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.obedient = False
        swap, _ = await begun(kernel)
        waiting = [kernel.open("main") for _ in range(3)]
        kernel.registry.model("a").state = "refused"
        kernel.registry.model("a").reason = "its file is damaged"
        kernel.driver("b").load_fails()
        await kernel.settle()
        with pytest.raises(Unavailable, match="this model cannot be loaded"):
            await swap
        for number in waiting:
            failure = kernel.terminal(number)
            assert failure.code == "unavailable"
            assert "this model cannot be loaded" in failure.message
            assert "a cannot be loaded again either: a is refused: its file is damaged" in failure.message
        later = kernel.open("main")
        await kernel.settle()
        assert kernel.terminal(later).code == "unavailable"
        assert kernel.drivers.room.claims == []


async def test_an_old_model_that_returns_but_cannot_start_is_tried_again_and_then_given_up(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.obedient = False
        swap, _ = await begun(kernel)
        number = kernel.open("main")
        kernel.driver("b").load_fails()
        await kernel.settle()
        with pytest.raises(Unavailable):
            await swap
        unit = kernel.routes.slots["main"].unit
        for _ in range(5):
            kernel.driver("a").load_fails()
            await kernel.settle()
            if unit.restart is not None:
                unit.restart.cancel()
                kernel.drivers._restart(unit)
                await kernel.settle()
        assert unit.dead
        assert kernel.terminal(number).code in {"unavailable", "driver_crashed"}


async def test_a_crash_of_the_old_model_in_between_loses_no_answer(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        number = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        old.say(here)
        await kernel.settle()
        swap, _ = await begun(kernel)
        old.exit(9)
        await swap
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.say(there)
        new.finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 "
        assert kernel.terminal(number) == Finish(model="b")


async def test_a_model_that_another_slot_needs_cannot_leave_and_that_is_said_with_figures(rig):
    async with rig({"main": "a", "side": "a"}, memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        with pytest.raises(Overloaded) as refused:
            await kernel.swaps.swap(SwapRequest("main", "b"))
        assert "b takes 60 MiB of memory, and 40 MiB are left of the 100 MiB" in refused.value.message
        assert "a cannot leave first: slot side needs it as well" in refused.value.message
        assert kernel.routes.slots["main"].queue is None
        assert len(kernel.alive) == 1


async def test_a_model_that_an_operator_loaded_does_not_leave_for_a_swap(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.supply.load(LoadRequest("a"))
        narrow(kernel)
        with pytest.raises(Overloaded, match="a cannot leave first: an operator loaded it as well"):
            await kernel.swaps.swap(SwapRequest("main", "b"))


async def test_nothing_leaves_for_a_model_that_would_not_fit_even_then(rig):
    async with rig(memory_mib={"a": 60, "b": 101}) as kernel:
        await kernel.settle()
        narrow(kernel)
        with pytest.raises(Overloaded, match="even without a: b takes 101 MiB of memory, and 100 MiB are left"):
            await kernel.swaps.swap(SwapRequest("main", "b"))
        assert kernel.driver("a").alive


async def test_the_machines_free_memory_chooses_the_mode_as_well(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        kernel.free_bytes = 10 << 20
        swap = asyncio.create_task(
            kernel.swaps.swap(
                SwapRequest("main", "b"),
                lambda event: event.detail.startswith("a is gone") and setattr(kernel, "free_bytes", 70 << 20),
            )
        )
        assert (await swap).mode == "sequential"


async def test_the_room_that_was_made_is_for_the_target_and_nobody_else(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.driver("a").obedient = False
        swap, _ = await begun(kernel)
        other = asyncio.create_task(kernel.supply.load(LoadRequest("c")))
        await kernel.settle()
        kernel.driver("a").exit(0)
        await kernel.settle()
        assert (await swap).target == "b"
        assert (await other).model == "c", "30 MiB are left beside b"
        assert kernel.drivers.room.claims == []


async def test_the_old_model_serves_until_what_leaves_anyway_has_made_its_room(rig):
    async with rig(memory_mib={"a": 40, "b": 40, "c": 80}) as kernel:
        await kernel.supply.load(LoadRequest("b"))
        kernel.open("b")
        await kernel.settle()
        kernel.supply.unload(UnloadRequest("b"))
        narrow(kernel)
        swap, _ = await begun(kernel, model="c")
        number = kernel.open("main")
        await kernel.settle()
        (here,) = kernel.driver("a").streams
        kernel.driver("a").finish(here)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")
        (there,) = kernel.driver("b").streams
        kernel.driver("b").finish(there)
        assert (await swap).mode == "sequential"
        assert [driver.model for driver in kernel.alive] == ["c"]


async def test_the_old_model_may_be_loaded_anew_where_there_is_room_for_one(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        number = kernel.open("main")
        await kernel.settle()
        swap, _ = await begun(kernel, "immediate", model="a")
        assert (await swap).mode == "sequential"
        await kernel.settle()
        (there,) = kernel.driver("a").streams
        kernel.driver("a").finish(there)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")


async def test_nothing_else_is_bound_to_a_slot_while_its_requests_wait(rig):
    async with rig({"main": "a", "side": "c"}, memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        kernel.obedient = False
        swap, _ = await begun(kernel)
        slot = kernel.routes.slots["main"]
        await kernel.supply.judged(kernel.registry.model("a"))
        await kernel.settle()
        assert slot.queue is not None
        assert [driver.model for driver in kernel.alive] == ["c", "b"]
        await kernel.comes_up("b")
        assert (await swap).target == "b"


async def test_a_kernel_that_dies_in_between_serves_the_old_model_when_it_is_started_again(tmp_path):
    first = await Rig(tmp_path, {"main": "a"}, memory_mib=ROOM_FOR_ONE).start()
    await first.settle()
    narrow(first)
    first.obedient = False
    swap, _ = await begun(first)
    assert [driver.model for driver in first.alive] == ["b"]
    first.kill()
    swap.cancel()
    again = await Rig(tmp_path, {"main": "a"}, memory_mib=ROOM_FOR_ONE).start()
    await again.settle()
    assert again.routes.slots["main"].info.state == "ready"
    assert again.routes.slots["main"].model == "a"
    (event,) = await again.swaps.history()
    assert event.state is SwapState.FAILED
    assert event.detail == "the kernel stopped during this swap"
    again.kill()
    await asyncio.sleep(0)


async def test_a_tool_call_that_is_out_keeps_its_answer_on_the_old_model(rig):
    async with rig(memory_mib=ROOM_FOR_ONE) as kernel:
        await kernel.settle()
        narrow(kernel)
        number = kernel.open("main", body=encode(InferenceRequest((user("look"),))))
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        stream = next(iter(kernel.switchboard.live))
        old.tell(here, ToolCallDelta("1", "look", "{}"))
        await kernel.settle()
        assert stream.parts
        swap, _ = await begun(kernel, "immediate")
        assert old.alive
        assert not swap.done()
        old.finish(here)
        await swap
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")
        assert not [one for one in kernel.heard(number) if isinstance(one, Failure)]
