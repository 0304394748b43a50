"""The self-test: what must be said before a swap counts on an instance."""

import asyncio

import pytest

from byenatos_kernel import self_test
from byenatos_sdk.protocol.errors import Unavailable
from byenatos_sdk.protocol.messages import Failure, Finish, ReasoningDelta, SwapRequest, SwapState, Usage

TESTED = {"lifecycle": "self_test = true"}


async def begun(kernel):
    """A swap whose target is being tested: the swap, the target's driver and the number of the request."""
    await kernel.settle()
    swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
    await kernel.settle()
    driver = kernel.driver("b")
    (number,) = driver.streams
    return swap, driver, number


async def stays(kernel, swap, words):
    """The swap fails for what ``words`` say, and the old model serves as before."""
    with pytest.raises(Unavailable, match=words):
        await swap
    await kernel.settle()
    assert kernel.routes.slots["main"].model == "a"
    assert [driver.model for driver in kernel.alive] == ["a"]
    assert [event.state for event in await kernel.swaps.history()] == [SwapState.FAILED]


async def test_a_swap_waits_for_the_first_token_of_its_target(rig):
    async with rig(**TESTED) as kernel:
        swap, driver, number = await begun(kernel)
        assert kernel.routes.slots["main"].swap.state is SwapState.PREPARING
        driver.say(number)
        driver.finish(number)
        assert (await swap).target == "b"
        assert kernel.measurements.latest("main") is None  # it is nobody's request
        assert kernel.switchboard.admissions.requests == 0


@pytest.mark.parametrize("events", [[Finish(usage=Usage(3, 1))], [ReasoningDelta("hm"), Finish()],
                                    [Failure("unsupported", "it makes vectors")]],
                         ids=["counted", "thought", "no-text"])  # fmt: skip
async def test_a_token_without_text_counts_and_a_model_that_makes_none_is_not_asked_for_it(rig, events):
    async with rig(**TESTED) as kernel:
        swap, driver, number = await begun(kernel)
        driver.tell(number, *events)
        assert (await swap).target == "b"


async def test_a_target_that_says_nothing_is_not_switched_to(rig):
    async with rig(**TESTED) as kernel:
        swap, driver, number = await begun(kernel)
        driver.finish(number)
        await stays(kernel, swap, "b failed its self-test: its answer to a greeting was empty")


async def test_a_target_that_fails_the_request_is_not_switched_to(rig):
    async with rig(**TESTED) as kernel:
        swap, driver, number = await begun(kernel)
        driver.say(number)
        driver.break_down(number)
        await stays(kernel, swap, "b failed its self-test: the engine broke")


async def test_a_target_that_dies_of_the_request_is_not_switched_to(rig):
    async with rig(**TESTED) as kernel:
        swap, driver, _ = await begun(kernel)
        driver.exit()
        await stays(kernel, swap, "b failed its self-test: it .*(\n.*)*last words")


async def test_a_target_whose_first_token_does_not_come_in_time_is_not_switched_to(rig, monkeypatch):
    monkeypatch.setattr(self_test, "SELF_TEST_S", 0.01)
    async with rig(**TESTED) as kernel:
        swap, driver, number = await begun(kernel)
        await stays(kernel, swap, "its first token did not come within 0.01 s")
        assert number not in driver.streams


async def test_an_instance_is_tested_once(rig):
    async with rig({"main": "a", "side": "a"}, **TESTED) as kernel:
        swap, driver, number = await begun(kernel)
        driver.say(number)
        driver.finish(number)
        await swap
        await kernel.swaps.swap(SwapRequest("side", "b"))
        assert kernel.driver("b") is driver


async def test_a_model_without_a_file_is_not_tested_unless_its_manifest_says_so(rig):
    async with rig() as kernel:
        await kernel.settle()
        await kernel.swaps.swap(SwapRequest("main", "b"))
        assert not kernel.driver("b").streams
        assert not kernel.instance("b").tested
