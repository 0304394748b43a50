"""When a silent stream is taken to hang: by its own limit, by its model's, and not while there is work to be seen."""

import pytest
from kernel_rig import text_of

from byenatos_kernel import gaps
from byenatos_kernel.config import Config, ModelConfig
from byenatos_sdk.protocol.messages import Finish, Moved

SLOW_TO_ANSWER = Config(models=[ModelConfig("a", "scripted", gap_timeout=10.0)])


async def asked(kernel, tokens=0, **options):
    """A stream that has said ``tokens``, with the number that it has at the driver of a."""
    number = kernel.open("main", **options)
    await kernel.settle()
    there = kernel.client.streams[number].id
    for _ in range(tokens):
        kernel.driver("a").say(there)
    await kernel.settle()
    return number, there


async def pass_time(kernel, seconds):
    """Make every running stream older, and look for late ones."""
    for stream in kernel.switchboard.live:
        stream.progress -= seconds
    kernel.switchboard._sweep_timer.cancel()
    kernel.switchboard._sweep()
    await kernel.settle()


def moved(kernel, number):
    return [event for event in kernel.heard(number) if isinstance(event, Moved)]


@pytest.mark.parametrize("limits", [{"gap_timeout_ms": 10_000}, {}], ids=["the request's", "the model's"])
async def test_a_stream_that_falls_silent_goes_on_elsewhere_and_its_driver_is_told_to_stop(rig, limits):
    async with rig({"main": "a"}, fallback="c", config=SLOW_TO_ANSWER) as kernel:
        await kernel.settle()
        number, _ = await asked(kernel, tokens=2, **limits)
        await pass_time(kernel, 9)
        assert not moved(kernel, number)
        await pass_time(kernel, 2)
        assert moved(kernel, number) == [Moved("a", "c", "deadline_exceeded")]
        driver = kernel.driver("a")
        assert driver.alive
        assert not driver.streams
        (there,) = kernel.driver("c").streams
        kernel.driver("c").say(there)
        kernel.driver("c").finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert kernel.terminal(number) == Finish(model="c")


async def test_with_nowhere_to_go_it_ends_and_the_model_is_named(rig):
    async with rig({"main": "a"}, config=SLOW_TO_ANSWER) as kernel:
        await kernel.settle()
        number, _ = await asked(kernel, tokens=1)
        await pass_time(kernel, 11)
        end = kernel.terminal(number)
        assert (end.code, end.partial) == ("deadline_exceeded", True)
        assert "a said nothing for 10 s" in end.message


async def test_a_long_prompt_is_not_taken_for_a_hang_before_five_times_as_long(rig):
    async with rig({"main": "a"}, fallback="c", config=SLOW_TO_ANSWER) as kernel:
        await kernel.settle()
        number, _ = await asked(kernel)
        await pass_time(kernel, 49)
        assert not moved(kernel, number)
        await pass_time(kernel, 2)
        assert moved(kernel, number)


async def test_who_waits_behind_others_that_are_answered_is_not_forgotten(rig):
    async with rig({"main": "a"}, fallback="c", config=SLOW_TO_ANSWER) as kernel:
        await kernel.settle()
        number, _ = await asked(kernel)
        neighbour, there = await asked(kernel)
        await pass_time(kernel, 49)
        kernel.driver("a").say(there)
        await kernel.settle()
        await pass_time(kernel, 9)
        assert not moved(kernel, number)
        kernel.switchboard.cancel(kernel.client, neighbour)
        await pass_time(kernel, 1)
        assert moved(kernel, number)


async def test_new_requests_that_are_not_answered_either_do_not_hide_a_hang(rig):
    async with rig({"main": "a"}, fallback="c", config=SLOW_TO_ANSWER) as kernel:
        await kernel.settle()
        number, _ = await asked(kernel)
        await pass_time(kernel, 49)
        await asked(kernel)
        await pass_time(kernel, 2)
        assert moved(kernel, number)


async def test_at_its_next_place_a_stream_has_its_time_anew(rig):
    config = Config(models=[ModelConfig(model, "scripted", gap_timeout=10.0) for model in "ac"])
    async with rig({"main": "a"}, fallback="c", config=config) as kernel:
        await kernel.settle()
        number, _ = await asked(kernel, tokens=2)
        await pass_time(kernel, 11)
        await pass_time(kernel, 49)
        assert kernel.terminal(number) is None
        await pass_time(kernel, 2)
        assert kernel.terminal(number).code == "deadline_exceeded"


@pytest.mark.parametrize(
    ("gap_timeout", "in_a_file", "most"), [(None, True, gaps.GAP_S), (None, False, 0), (0, True, 0)]
)
async def test_models_in_files_have_a_limit_and_vendors_have_their_own(rig, tmp_path, gap_timeout, in_a_file, most):
    async with rig({"main": "a"}) as kernel:
        await kernel.settle()
        entry = kernel.registry.model("a")
        entry.gap_timeout_s = gap_timeout
        entry.path = tmp_path if in_a_file else None
        number, _ = await asked(kernel, tokens=1)
        await pass_time(kernel, gaps.GAP_S - 1)
        assert kernel.terminal(number) is None
        await pass_time(kernel, 2)
        assert (kernel.terminal(number) is not None) == bool(most)
        entry.path = None
