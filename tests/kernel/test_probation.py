"""Probation: the old unit is kept after a switch, and the slot goes back to it when the new one fails."""

import asyncio
from collections import deque

import pytest
from kernel_rig import Rig, text_of

from byenatos_kernel.measurements import Outcome
from byenatos_kernel.swap_policy import ProbationRules, SlotRules, SwapPolicy, SwapRules
from byenatos_sdk.protocol.control import UnloadRequest
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import Finish, Moved, SwapRequest, SwapState

KEEP = SwapPolicy(SwapRules(keep_old_s=600.0), probation=ProbationRules(error_rate=0.5, least_requests=2))


async def kept(kernel, target="b", **options):
    """A kernel whose slot was swapped from a to ``target``, with a kept."""
    kernel.policy = KEEP
    await kernel.settle()
    event = await kernel.swaps.swap(SwapRequest("main", target, **options))
    await kernel.settle()
    return event


async def answer(kernel, how="finish", model="b"):
    """Ask the slot and have the driver of ``model`` end the answer."""
    number = kernel.open("main")
    await kernel.settle()
    driver = kernel.driver(model)
    getattr(driver, how)(max(driver.streams))
    await kernel.settle()
    return kernel.terminal(number)


async def states(kernel):
    return [(event.state, event.source, event.target) for event in await kernel.swaps.history()]


def models(kernel):
    return sorted(driver.model for driver in kernel.alive)


def outcome(kernel, model, first_s):
    """What a request left that ``model`` has answered after ``first_s`` seconds."""
    epoch = kernel.instance(model).epoch
    return Outcome(0.0, epoch, model, "", failed=False, first_s=first_s, took_s=first_s, characters=1, moves=0)


# ---- kept ------------------------------------------------------------------------------------------------------


async def test_while_the_old_model_is_kept_it_is_told_how_conversations_moved(rig):
    async with rig() as kernel:
        kernel.policy = KEEP
        await kernel.settle()
        kernel.open("main")
        await kernel.settle()
        kernel.driver("a").say(max(kernel.driver("a").streams))
        await kernel.settle()
        await kernel.swaps.swap(SwapRequest("main", "b", "immediate"))
        await kernel.settle()
        [before, *_] = await kernel.swaps.history()
        assert (before.state, before.sessions) == (SwapState.DRAINING, ())
        kernel.driver("b").say(max(kernel.driver("b").streams))
        await kernel.settle()
        [after, *_] = await kernel.swaps.history()
        assert (after.state, [move.level for move in after.sessions]) == (SwapState.DRAINING, ["text"])
        assert kernel.events[-1].swap == after


async def test_the_old_model_is_kept_after_the_switch_and_the_event_says_so(rig):
    async with rig() as kernel:
        event = await kept(kernel)
        assert (event.state, event.detail) == (SwapState.DRAINING, "a is kept for 600 s")
        assert models(kernel) == ["a", "b"]
        assert await answer(kernel) == Finish(model="b")


async def test_the_old_model_retires_once_its_time_has_passed(rig):
    async with rig() as kernel:
        await kernel.settle()
        event = await kernel.swaps.swap(SwapRequest("main", "b", until="retired", keep_old_s=0.01))
        assert (event.state, event.detail) == (SwapState.RETIRED, "")
        await kernel.settle()
        assert models(kernel) == ["b"]


async def test_a_slot_may_keep_its_old_model_for_a_time_of_its_own(rig):
    async with rig() as kernel:
        kernel.policy = SwapPolicy(SwapRules(keep_old_s=600.0), slots={"main": SlotRules(keep_old_s=0.0)})
        await kernel.settle()
        event = await kernel.swaps.swap(SwapRequest("main", "b", until="retired"))
        assert event.state is SwapState.RETIRED


async def test_a_kept_model_does_not_count_among_those_that_may_be_loaded(rig):
    async with rig(most_models=1) as kernel:
        await kept(kernel)
        await kernel.swaps.swap(SwapRequest("main", "c"))
        await kernel.settle()
        assert models(kernel) == ["b", "c"]


async def test_the_next_swap_of_the_slot_ends_the_probation_of_the_last(rig):
    async with rig() as kernel:
        await kept(kernel)
        await kernel.swaps.swap(SwapRequest("main", "c"))
        await kernel.settle()
        assert models(kernel) == ["b", "c"]
        assert await states(kernel) == [(SwapState.DRAINING, "b", "c"), (SwapState.RETIRED, "a", "b")]


async def test_a_swap_to_the_model_that_is_kept_needs_no_new_process(rig):
    async with rig() as kernel:
        await kept(kernel)
        old = kernel.driver("a")
        await kernel.swaps.swap(SwapRequest("main", "a"))
        await kernel.settle()
        assert kernel.driver("a") is old
        assert models(kernel) == ["a", "b"]
        assert kernel.routes.slots["main"].model == "a"


async def test_what_is_kept_is_given_up_when_its_room_is_needed_the_oldest_first(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await kept(kernel, "c")
        await kernel.swaps.swap(SwapRequest("side", "c"))
        assert kernel.swaps.give_up_kept()
        await kernel.settle()
        assert models(kernel) == ["b", "c"]
        assert kernel.swaps.give_up_kept()
        assert not kernel.swaps.give_up_kept()
        await kernel.settle()
        assert models(kernel) == ["c"]
        assert {state for state, _, _ in await states(kernel)} == {SwapState.RETIRED}


async def test_a_model_that_is_kept_is_unloaded_on_an_operators_word(rig):
    async with rig() as kernel:
        await kept(kernel)
        kernel.supply.unload(UnloadRequest("a"))
        await kernel.settle()
        assert models(kernel) == ["b"]


async def test_requests_for_a_model_by_its_name_go_to_the_new_process_and_not_to_the_kept_one(rig):
    async with rig() as kernel:
        await kept(kernel, "a")
        old, new = kernel.alive
        kernel.open("a")
        await kernel.settle()
        assert (len(old.streams), len(new.streams)) == (0, 1)


async def test_a_stopping_kernel_keeps_nothing_and_goes_back_to_nothing(rig):
    async with rig() as kernel:
        await kept(kernel)
        kernel.swaps.close()
        kernel.driver("b").exit()
        await kernel.settle()
        assert kernel.routes.slots["main"].model == "b"
        assert await states(kernel) == [(SwapState.RETIRED, "a", "b")]


# ---- back ------------------------------------------------------------------------------------------------------


async def test_a_new_model_that_fails_its_requests_is_swapped_out_again_and_the_event_says_why(rig):
    async with rig() as kernel:
        await kept(kernel)
        for _ in range(2):
            assert await answer(kernel, "break_down") is None
        assert await states(kernel) == [(SwapState.ROLLED_BACK, "a", "b")]
        [event] = await kernel.swaps.history()
        assert event.detail == "b failed 2 of 2 requests"
        assert [one.swap.state for one in kernel.events if hasattr(one, "swap")][-1] is SwapState.ROLLED_BACK
        assert models(kernel) == ["a"]
        assert await answer(kernel, model="a") == Finish(model="a")
        assert len(kernel.driver("a").streams) == 2  # what b has failed goes on here


async def test_failures_below_the_rate_or_of_too_few_requests_or_that_are_not_the_models_change_nothing(rig):
    async with rig() as kernel:
        await kept(kernel)
        for _ in range(2):
            await answer(kernel, "finish")
        await answer(kernel, "break_down")
        for _ in range(3):
            await answer(kernel, "fail")  # the content is what it did not like
        assert kernel.routes.slots["main"].model == "b"


async def test_what_the_old_model_fails_after_the_switch_does_not_count(rig):
    async with rig() as kernel:
        kernel.policy = KEEP
        await kernel.settle()
        numbers = [kernel.open("main") for _ in range(3)]
        await kernel.settle()
        await kernel.swaps.swap(SwapRequest("main", "b"))
        old = kernel.driver("a")
        for number in list(old.streams):
            old.break_down(number)
        await kernel.settle()
        new = kernel.driver("b")
        for number in list(new.streams):
            new.finish(number)
        await kernel.settle()
        assert [kernel.terminal(number) for number in numbers] == [Finish(model="b")] * 3
        assert kernel.routes.slots["main"].model == "b"


async def test_running_answers_go_on_at_the_old_model_without_a_gap(rig):
    async with rig() as kernel:
        await kept(kernel)
        number = kernel.open("main")
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.say(there)
        new.say(there)
        await kernel.settle()
        event = await kernel.swaps.back("main")
        assert (event.state, event.moved_streams) == (SwapState.ROLLED_BACK, 1)
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert [one for one in kernel.heard(number) if isinstance(one, Moved)] == [Moved("b", "a", "swap")]
        assert kernel.terminal(number) == Finish(model="a")
        assert models(kernel) == ["a"]


async def test_one_death_is_made_good_by_a_restart_and_the_second_leads_back(rig):
    async with rig() as kernel:
        await kept(kernel)
        unit = kernel.routes.slots["main"].unit
        kernel.driver("b").exit()
        await kernel.settle()
        assert kernel.routes.slots["main"].unit is unit
        unit.restart.cancel()
        kernel.drivers._restart(unit)
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        kernel.driver("b").exit()
        await kernel.settle()
        assert kernel.routes.slots["main"].model == "a"
        assert (await kernel.swaps.history())[0].detail == "b died 2 times"
        old = kernel.driver("a")
        (here,) = old.streams
        old.finish(here)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")
        assert models(kernel) == ["a"]


async def test_a_death_for_good_leads_back_at_once_with_what_waited_for_the_new_model(rig):
    async with rig() as kernel:
        await kept(kernel)
        unit = kernel.routes.slots["main"].unit
        unit.supervised = False
        number = kernel.open("main")
        await kernel.settle()
        kernel.driver("b").exit()
        assert kernel.routes.slots["main"].model == "a"
        await kernel.settle()
        assert kernel.driver("a").streams
        assert kernel.terminal(number) is None
        assert "died and does not return" in (await kernel.swaps.history())[0].detail


async def test_a_first_token_that_takes_many_times_longer_leads_back(rig):
    async with rig() as kernel:
        await kernel.settle()
        kernel.measurements._outcomes["main"] = deque([outcome(kernel, "a", 0.1) for _ in range(3)])
        await kept(kernel)
        probation = kernel.swaps.probations._by_slot["main"]
        probation.first_s += (2.0, 2.0)
        await answer(kernel)
        assert (await kernel.swaps.history())[0].detail == (
            "the first token of b takes 2000 ms (the median of 2 requests), that of a took 100 ms"
        )
        assert kernel.routes.slots["main"].model == "a"


@pytest.mark.parametrize(("old_s", "new_s"), [(0.1, 0.4), (0.001, 0.2)], ids=["within-the-factor", "quick-enough"])
async def test_a_first_token_that_takes_a_little_longer_changes_nothing(rig, old_s, new_s):
    async with rig() as kernel:
        await kernel.settle()
        kernel.measurements._outcomes["main"] = deque([outcome(kernel, "a", old_s) for _ in range(3)])
        await kept(kernel)
        kernel.swaps.probations._by_slot["main"].first_s += (new_s, new_s)
        await answer(kernel)
        assert kernel.routes.slots["main"].model == "b"


async def test_whoever_waits_for_the_old_model_to_retire_is_told_that_the_swap_was_rolled_back(rig):
    async with rig() as kernel:
        kernel.policy = KEEP
        await kernel.settle()
        swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b", until="retired")))
        await kernel.settle()
        await kernel.swaps.back("main")
        with pytest.raises(Unavailable, match="was rolled back: as asked for"):
            await swap


async def test_there_is_no_way_back_when_nothing_is_kept(rig):
    async with rig() as kernel:
        await kernel.settle()
        await kernel.swaps.swap(SwapRequest("main", "b"))
        with pytest.raises(InvalidRequest, match="expected an old model that is kept, found none"):
            await kernel.swaps.back("main")


async def test_there_is_no_way_back_to_a_model_that_is_not_there(rig):
    async with rig() as kernel:
        await kept(kernel)
        kernel.driver("a").exit()
        await kernel.settle()
        for _ in range(3):
            await answer(kernel, "break_down")
        with pytest.raises(Unavailable, match="cannot go back"):
            await kernel.swaps.back("main")
        assert kernel.routes.slots["main"].model == "b"


async def test_only_the_slot_that_was_swapped_goes_back(rig):
    async with rig({"main": "a", "side": "b"}) as kernel:
        await kept(kernel)
        await kernel.swaps.back("main")
        await kernel.settle()
        assert {slot.name: slot.model for slot in kernel.routes.slots.values() if slot.model} == {
            "main": "a", "side": "b",
        }  # fmt: skip
        assert models(kernel) == ["a", "b"]


async def test_a_disk_that_is_full_does_not_stop_a_rollback(rig):
    async with rig() as kernel:
        await kept(kernel)
        kernel.database.failing = True
        event = await kernel.swaps.back("main")
        assert event.state is SwapState.ROLLED_BACK
        assert kernel.routes.slots["main"].model == "a"


# ---- a kernel that is killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "model", "state"),
    [
        (SwapState.REQUESTED, "a", SwapState.FAILED),
        (SwapState.VALIDATED, "a", SwapState.FAILED),
        (SwapState.PREPARING, "a", SwapState.FAILED),
        (SwapState.PREPARED, "a", SwapState.FAILED),
        (SwapState.SWITCHED, "b", SwapState.RETIRED),
        (SwapState.DRAINING, "b", SwapState.RETIRED),
        (SwapState.ROLLED_BACK, "a", SwapState.ROLLED_BACK),
    ],
)
async def test_a_kernel_killed_after_a_step_was_journaled_finishes_or_undoes_the_swap(tmp_path, last, model, state):
    kernel = Rig(tmp_path, {"main": "a"})
    kernel.policy = KEEP
    await kernel.start()
    await kernel.settle()
    record = kernel.swaps._steps.journal.record
    killed = asyncio.get_running_loop().create_future()

    async def record_and_die(swap):
        step = swap.event.state
        await record(swap)
        if step is last:
            killed.set_result(None)
            await asyncio.Event().wait()

    kernel.swaps._steps.journal.record = record_and_die
    swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
    if last is SwapState.ROLLED_BACK:
        await swap
        kernel.swaps.probations.roll_back("main", "as asked for")
    await killed
    kernel.kill()
    swap.cancel()
    await asyncio.gather(swap, return_exceptions=True)
    again = Rig(tmp_path, {"main": "a"})
    try:
        await again.start()
        await again.settle()
        assert again.routes.slots["main"].model == model
        assert models(again) == [model]
        assert await states(again) == [(state, "a", "b")]
    finally:
        again.kill()
        await asyncio.sleep(0)
