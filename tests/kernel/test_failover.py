"""Where streams go that their place has failed: in which order, how often, and what is told in the end."""

import pytest
from kernel_rig import text_of

from byenatos_kernel import failover, stand_ins
from byenatos_kernel.models import ModelEntry
from byenatos_kernel.swap_policy import SlotRules, SwapPolicy, SwapRules
from byenatos_sdk.protocol.control import LoadRequest, UnloadRequest
from byenatos_sdk.protocol.errors import error_codes
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    Moved,
    Reasoning,
    ReasoningDelta,
    SwapRequest,
    ToolCallDelta,
)

REQUESTS_FAULTS = sorted(failover.OF_THE_REQUEST | failover.OF_ITS_TIME)
PLACES_FAULTS = sorted(set(error_codes()) - set(REQUESTS_FAULTS))


def degrading(kernel, *models, slot="main"):
    """Have a slot degrade to ``models``."""
    kernel.policy = SwapPolicy(SwapRules(keep_old_s=0.0), slots={slot: SlotRules(degrade_to=models)})


async def asked(kernel, target="main", tokens=0, **options):
    """A stream that has said ``tokens``, with the driver that answers it and its number there."""
    number = kernel.open(target, **options)
    await kernel.settle()
    driver, there = place_of(kernel, number)
    for _ in range(tokens):
        driver.say(there)
    await kernel.settle()
    return number, driver, there


def place_of(kernel, number):
    stream = kernel.client.streams[number]
    return next(one for one in kernel.alive if one.pid == stream.instance.pid), stream.id


async def finished(kernel, number, tokens=1):
    """The whole text of a stream that says ``tokens`` more where it is, and ends."""
    driver, there = place_of(kernel, number)
    for _ in range(tokens):
        driver.say(there)
    driver.finish(there)
    await kernel.settle()
    return text_of(kernel.heard(number))


def slot(kernel, name="main"):
    return kernel.routes.slots[name].info


def loaded(kernel):
    return sorted(driver.model for driver in kernel.alive)


# ---- what a driver says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*PLACES_FAULTS, "a_code_of_tomorrow"])
@pytest.mark.parametrize("tokens", [0, 3])
async def test_what_the_place_is_at_fault_for_goes_on_elsewhere_with_the_text_so_far(rig, code, tokens):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=tokens)
        driver.fail(there, code)
        await kernel.settle()
        assert await finished(kernel, number, 2) == "".join(f"{n} " for n in range(tokens + 2))
        assert kernel.terminal(number) == Finish(model="c")
        assert Moved("a", "c", code) in kernel.heard(number)
        assert driver.alive, "it only failed a request"


@pytest.mark.parametrize("code", REQUESTS_FAULTS)
async def test_what_the_request_is_at_fault_for_ends_it(rig, code):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=1)
        driver.fail(there, code)
        await kernel.settle()
        assert kernel.terminal(number) == Failure(code, "the driver does not like this", partial=True)
        assert not kernel.driver("c").streams


async def test_with_nowhere_to_go_the_client_hears_when_to_come_back(rig):
    async with rig({"main": "a"}) as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel)
        driver.fail(there, "rate_limited", 1.5)
        await kernel.settle()
        assert kernel.terminal(number) == Failure("rate_limited", "the driver does not like this", 1.5)
        assert not driver.streams, "the request was sent again"


async def test_each_place_gets_a_stream_once_and_the_first_ones_word_is_told(rig):
    async with rig({"main": "a"}, fallback="b") as kernel:
        degrading(kernel, "b", "c")
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=1)
        driver.fail(there, "rate_limited", 7.0)
        for model in ("b", "c"):
            await kernel.settle()
            driver, there = place_of(kernel, number)
            assert driver.model == model
            driver.fail(there, "internal")
        await kernel.settle()
        end = kernel.terminal(number)
        assert (end.code, end.retry_after_s, end.partial) == ("rate_limited", 7.0, True)
        assert "then b: " in end.message
        assert "then c: " in end.message
        assert not any(driver.streams for driver in kernel.alive)


@pytest.mark.parametrize("code", sorted(failover.OF_THE_REQUEST))
async def test_what_a_smaller_model_cannot_do_is_not_the_requests_fault(rig, code):
    async with rig({"main": "a"}, fallback="b") as kernel:
        degrading(kernel, "c")
        await kernel.settle()
        able, driver, there = await asked(kernel)
        driver.fail(there, "rate_limited")
        await kernel.settle()
        driver, there = place_of(kernel, able)
        driver.fail(there, code)
        await kernel.settle()
        assert await finished(kernel, able) == "0 "
        assert kernel.terminal(able) == Finish(model="c")
        degrading(kernel)
        number, driver, there = await asked(kernel)
        driver.fail(there, "rate_limited")
        await kernel.settle()
        driver, there = place_of(kernel, number)
        driver.fail(there, code)
        await kernel.settle()
        assert kernel.terminal(number).code == "rate_limited"


async def test_a_request_whose_time_is_over_is_over_everywhere(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel)
        driver.fail(there, "rate_limited")
        await kernel.settle()
        driver, there = place_of(kernel, number)
        driver.fail(there, "deadline_exceeded")
        await kernel.settle()
        assert kernel.terminal(number).code == "deadline_exceeded"


async def test_a_failed_stream_comes_to_what_its_slot_is_bound_to_by_now(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=2)
        await kernel.swaps.swap(SwapRequest("main", "b"))
        await kernel.settle()
        driver.fail(there, "upstream_failed")
        await kernel.settle()
        assert await finished(kernel, number) == "0 1 2 "
        assert kernel.terminal(number) == Finish(model="b")


async def test_a_failed_stream_with_a_tool_call_out_is_not_begun_again_elsewhere(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel)
        driver.tell(there, ToolCallDelta("1", "pay", "{}"))
        driver.fail(there, "unavailable")
        await kernel.settle()
        assert kernel.terminal(number) == Failure("unavailable", "the driver does not like this", partial=True)
        assert not kernel.driver("c").streams


async def test_of_a_thought_that_was_broken_off_nothing_is_kept_for_the_model_that_goes_on(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel, session="talk")
        driver.tell(there, ReasoningDelta("half a thou"))
        driver.fail(there, "stream_interrupted")
        await kernel.settle()
        driver, there = place_of(kernel, number)
        driver.tell(there, ReasoningDelta("a whole one", "signed"))
        await finished(kernel, number)
        turn = (await kernel.sessions.show("talk")).turns[-1]
        assert [part for part in turn.message.parts if isinstance(part, Reasoning)] == [
            Reasoning("a whole one", "signed")
        ]
        assert (turn.model, turn.moves) == ("c", 1)


async def test_what_a_model_failed_counts_against_it_although_the_answer_came(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, there = await asked(kernel)
        driver.fail(there, "internal")
        await kernel.settle()
        await finished(kernel, number)
        outcomes = kernel.measurements.since("main", 0.0)
        assert [(one.model, one.code, one.failed) for one in outcomes] == [("a", "internal", True), ("c", "", False)]


async def test_the_transcript_says_which_model_ended_each_turn_and_how_often_it_moved(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, driver, _ = await asked(kernel, tokens=2, session="talk")
        driver.exit()
        await kernel.settle()
        assert await finished(kernel, number) == "0 1 2 "
        number, _, _ = await asked(kernel, session="talk")  # while a is away
        await finished(kernel, number)
        number, driver, _ = await asked(kernel, tokens=1, session="talk")
        kernel.switchboard.cancel(kernel.client, number)
        await kernel.settle()
        turns = (await kernel.sessions.show("talk")).turns
        assert [(turn.message.text, turn.state, turn.model, turn.moves) for turn in turns[1::2]] == [
            ("0 1 2 ", "complete", "c", 1),
            ("0 ", "complete", "c", 0),
            ("0 ", "partial", "c", 0),
        ]


# ---- degrade_to ------------------------------------------------------------------------------------------------


async def test_a_smaller_model_is_loaded_while_the_stream_waits_for_it(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        number, driver, _ = await asked(kernel, tokens=2)
        kernel.obedient = False
        driver.exit()
        await kernel.settle()
        assert not any(isinstance(event, Moved) for event in kernel.heard(number)), "it is not there yet"
        kernel.driver("b").loaded()
        await kernel.settle()
        assert await finished(kernel, number) == "0 1 2 "
        assert [event for event in kernel.heard(number) if isinstance(event, Moved)] == [
            Moved("a", "b", "driver_crashed")
        ]
        assert kernel.terminal(number) == Finish(model="b")


async def test_of_the_chain_the_first_that_works_serves(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "unknown", "b", "c")
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=2)
        kernel.obedient = False
        driver.fail(there, "quota_exceeded")
        await kernel.settle()
        kernel.driver("b").load_fails()
        await kernel.settle()
        kernel.driver("c").loaded()
        await kernel.settle()
        assert await finished(kernel, number) == "0 1 2 "
        assert [event for event in kernel.heard(number) if isinstance(event, Moved)] == [
            Moved("a", "c", "quota_exceeded")
        ]


async def test_where_there_is_no_room_for_one_the_next_serves(rig):
    async with rig({"main": "a", "other": "c"}, most_models=2) as kernel:
        degrading(kernel, "b", "c")
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=1)
        driver.fail(there, "unauthenticated")
        await kernel.settle()
        assert await finished(kernel, number) == "0 1 "
        assert kernel.terminal(number) == Finish(model="c")
        assert loaded(kernel) == ["a", "c"]


async def test_a_chain_of_which_nothing_works_ends_honestly_and_is_not_tried_for_every_request(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        number, driver, there = await asked(kernel, tokens=1)
        kernel.obedient = False
        driver.fail(there, "overloaded", 3.0)
        await kernel.settle()
        kernel.driver("b").load_fails()
        await kernel.settle()
        end = kernel.terminal(number)
        assert (end.code, end.retry_after_s, end.partial) == ("overloaded", 3.0, True)
        assert "then b: " in end.message
        made = len(kernel.drivers_made)
        again, driver, there = await asked(kernel)
        driver.fail(there, "overloaded")
        await kernel.settle()
        assert kernel.terminal(again).code == "overloaded"
        assert len(kernel.drivers_made) == made


async def test_a_stream_that_waits_for_a_smaller_model_has_its_deadline(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        number, driver, there = await asked(kernel, timeout_ms=5000)
        kernel.obedient = False
        driver.fail(there, "unavailable")
        await kernel.settle()
        kernel.client.streams[number].deadline = 0.0
        kernel.switchboard._sweep_timer.cancel()
        kernel.switchboard._sweep()
        await kernel.settle()
        assert kernel.terminal(number).code == "deadline_exceeded"
        kernel.driver("b").loaded()
        await kernel.settle()
        assert not kernel.driver("b").streams


async def lost_for_good(kernel, model="a"):
    """Have the model of a slot crash until it is quarantined."""
    unit = kernel.drivers.find(model)
    while not unit.dead:
        kernel.driver(model).exit()
        await kernel.settle()
        if unit.restart is not None:
            unit.restart.cancel()
            kernel.drivers._restart(unit)
            await kernel.settle()


async def test_new_requests_go_to_the_smaller_model_and_back_once_the_slots_own_is_there_again(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        await lost_for_good(kernel)
        assert slot(kernel).state == "unavailable"
        number, _, _ = await asked(kernel)
        assert await finished(kernel, number) == "0 "
        assert kernel.terminal(number) == Finish(model="b")
        info = slot(kernel)
        assert (info.model, info.state) == ("a", "degraded")
        assert "quarantined" in info.detail
        assert info.detail.endswith("; degraded to b")
        await kernel.supply.load(LoadRequest("a"))
        again, _, _ = await asked(kernel)
        await finished(kernel, again)
        assert kernel.terminal(again) == Finish(model="a")
        assert slot(kernel).state == "ready"
        assert not slot(kernel).detail


@pytest.mark.parametrize(("fallback", "serves"), [("b", "b"), (None, "c")])
async def test_a_slot_whose_model_nobody_knows_is_served_by_what_there_is(rig, fallback, serves):
    async with rig({"main": "lost"}, fallback=fallback) as kernel:
        degrading(kernel, "c")
        await kernel.settle()
        number, _, _ = await asked(kernel)
        assert await finished(kernel, number) == "0 "
        assert kernel.terminal(number) == Finish(model=serves)
        talk, _, _ = await asked(kernel, session="talk")
        await finished(kernel, talk)
        assert kernel.terminal(talk) == Finish(model=serves)
        info = slot(kernel)
        assert (info.model, info.state) == ("lost", "degraded")
        assert info.detail == f"no model 'lost' is known yet; degraded to {serves}"


async def test_an_empty_slot_and_one_whose_model_is_still_checked_are_not_served_by_another(rig):
    async with rig({"main": "lost", "default": ""}, fallback="b") as kernel:
        degrading(kernel, "c")
        await kernel.settle()
        empty = kernel.open("default")
        kernel.registry.models["lost"] = ModelEntry("lost", "scripted", state="checking")
        checked = kernel.open("main")
        await kernel.settle()
        assert kernel.terminal(empty).code == kernel.terminal(checked).code == "unavailable"


async def test_a_stand_in_stays_while_the_slot_needs_it_and_goes_afterwards(rig, monkeypatch):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        await lost_for_good(kernel)
        monkeypatch.setattr(stand_ins, "KEPT_S", 0.0)
        number, _, _ = await asked(kernel)
        await finished(kernel, number)
        assert loaded(kernel) == ["b"]
        await kernel.supply.load(LoadRequest("a"))
        await kernel.settle()
        assert loaded(kernel) == ["a"]


async def test_while_a_models_process_restarts_no_smaller_model_is_loaded_for_those_who_can_wait(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        kernel.driver("a").exit()
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        assert kernel.terminal(number) is None
        assert loaded(kernel) == []


async def test_a_slots_own_model_is_loaded_again_in_place_of_its_stand_in(rig):
    async with rig({"main": "a"}, most_models=1) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        await lost_for_good(kernel)
        number, _, _ = await asked(kernel)
        await finished(kernel, number)
        assert loaded(kernel) == ["b"]
        await kernel.supply.load(LoadRequest("a"))
        await kernel.settle()
        assert loaded(kernel) == ["a"]
        assert slot(kernel).state == "ready"


async def test_a_stand_in_that_is_unloaded_goes(rig):
    async with rig({"main": "a"}) as kernel:
        degrading(kernel, "b")
        await kernel.settle()
        await lost_for_good(kernel)
        number, _, _ = await asked(kernel)
        await finished(kernel, number)
        kernel.supply.unload(UnloadRequest("b"))
        await kernel.settle()
        assert loaded(kernel) == []
