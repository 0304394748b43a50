"""Hot swaps under load: what streams, sessions and other swaps see of them."""

import asyncio
import os
import signal

import pytest
from kernel_process import counting, instance_of, numbers, slot_of, until, until_ready
from plugin_folder import write_plugin

from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.messages import Image, Message, SwapState, Text

STREAMS = 64
SWAPS = 20


async def swap_to_and_fro(client, strategy, times=SWAPS):
    for round_ in range(times):
        event = await client.swap("default", ("echo-two", "echo")[round_ % 2], strategy=strategy)
        assert event.state in {SwapState.SWITCHED, SwapState.DRAINING, SwapState.RETIRED}
        yield event


@pytest.mark.parametrize("strategy", ["graceful", "immediate"])
async def test_64_streams_lose_and_double_nothing_in_20_swaps(start_kernel, strategy):
    kernel = start_kernel()
    swapping = True
    answers = []

    async def ask_again_and_again(client):
        while swapping:
            response = await client.infer("count", extra=counting(200, 100))
            answers.append(response)

    async with kernel.client() as client, kernel.client() as swapper:
        await until_ready(client)
        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(ask_again_and_again(client))
            await until(swapper, lambda status: status.streams == STREAMS)
            moved = [event.moved_streams async for event in swap_to_and_fro(swapper, strategy)]
            swapping = False
        status = await until(client, lambda status: status.streams == 0 and len(status.instances) == 1)
    assert len(answers) >= STREAMS
    assert {answer.text for answer in answers} == {numbers(200)}
    told = sum(len(answer.moves) for answer in answers)
    if strategy == "graceful":
        assert told == sum(moved) == 0
    else:
        assert told == sum(moved) > STREAMS
        assert {move.reason for answer in answers for move in answer.moves} == {"swap"}
    assert status.slots[0].model == "echo"


async def test_a_running_stream_stays_on_the_old_model_in_a_graceful_swap(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(100, 50))
        await anext(stream)
        await client.swap("default", "echo-two")
        answer = await stream.response()
        assert (answer.text, answer.model, answer.moves) == (numbers(100), "echo", ())
        assert (await client.infer("count", extra=counting(3))).model == "echo-two"


async def test_a_running_stream_goes_on_at_the_new_model_in_an_immediate_swap(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(100, 50))
        await anext(stream)
        event = await client.swap("default", "echo-two", strategy="immediate")
        answer = await stream.response()
        assert (answer.text, answer.model, event.moved_streams) == (numbers(100), "echo-two", 1)
        [moved] = answer.moves
        assert (moved.source, moved.target, moved.reason) == ("echo", "echo-two", "swap")


async def test_a_swap_tells_its_steps_in_order_and_ends_with_the_old_process_gone(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        old = (await until_ready(client)).instances[0].pid
        steps = []
        await client.swap("default", "echo-two", on_event=lambda event: steps.append(event.state.value))
        assert steps[:5] == ["requested", "validated", "preparing", "prepared", "switched"]
        await until(client, lambda status: old not in {one.pid for one in status.instances})
        [last] = await client.swaps()
        assert last.state in {SwapState.DRAINING, SwapState.RETIRED}


async def test_a_swap_to_the_same_model_loads_it_anew(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        before = (await until_ready(client)).instances[0].epoch
        stream = client.stream("count", extra=counting(100, 100))
        await anext(stream)
        await client.swap("default", "echo", strategy="immediate")
        assert (await stream.response()).text == numbers(100)
        status = await until(client, lambda status: len(status.instances) == 1)
        assert status.instances[0].epoch > before
        assert slot_of(status).model == "echo"


async def test_of_two_swaps_at_once_the_second_is_refused_with_what_to_wait_for(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        outcomes = await asyncio.gather(
            client.swap("default", "echo-two"), client.swap("default", "echo-two"), return_exceptions=True
        )
        assert isinstance(outcomes[1], InvalidRequest)
        assert "echo-two" in outcomes[1].message
        assert outcomes[0].state is not SwapState.FAILED
        await client.swap("default", "echo")
        assert (await client.infer("count", extra=counting(3))).model == "echo"


async def test_a_swap_begun_while_the_last_one_drains_succeeds(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(150, 50))
        await anext(stream)
        await client.swap("default", "echo-two")
        await client.swap("default", "echo")
        await client.swap("default", "echo-two")
        answer = await stream.response()
        assert (answer.text, answer.model) == (numbers(150), "echo")
        await until(client, lambda status: [one.model for one in status.instances] == ["echo-two"])


async def test_one_model_that_serves_two_slots_stays_when_one_of_them_is_swapped_away(start_kernel):
    kernel = start_kernel(slots={"other": "echo"})
    async with kernel.client() as client:
        await until_ready(client, "default", "other")
        await client.swap("default", "echo-two")
        assert (await client.infer("x", model="other", extra=counting(3))).model == "echo"
        await client.swap("other", "echo-two")
        status = await until(client, lambda status: len(status.instances) == 1)
        assert {slot.epochs for slot in status.slots} == {(status.instances[0].epoch,)}


async def test_two_slots_are_swapped_at_the_same_time_to_the_same_model(start_kernel):
    kernel = start_kernel(slots={"other": "echo"})
    async with kernel.client() as client:
        await until_ready(client, "default", "other")
        await asyncio.gather(client.swap("default", "echo-two"), client.swap("other", "echo-two"))
        await until(client, lambda status: {one.model for one in status.instances} == {"echo-two"})
        for slot in ("default", "other"):
            assert (await client.infer("x", model=slot, extra=counting(3))).model == "echo-two"


async def test_a_model_that_an_operator_loaded_stays_loaded_after_its_slot_is_swapped(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.load("echo")
        await client.swap("default", "echo-two")
        answer = await client.infer("x", model="echo", extra=counting(3))
        assert answer.text == numbers(3)
        await client.unload("echo")
        await until(client, lambda status: [one.model for one in status.instances] == ["echo-two"])


# ---- swaps that fail -------------------------------------------------------------------------------------------


async def fails_and_harms_nothing(client, model, error, *, words="."):
    """The swap is refused; the binding, its process and its running stream are as they were."""
    before = await until_ready(client)
    stream = client.stream("count", extra=counting(60, 100))
    await anext(stream)
    for strategy in ("graceful", "immediate"):
        with pytest.raises(error, match=words):
            await client.swap("default", model, strategy=strategy)
    answer = await stream.response()
    assert (answer.text, answer.model, answer.moves) == (numbers(60), "echo", ())
    assert (await client.infer("count", extra=counting(3))).model == "echo"
    after = await until(client, lambda status: len(status.instances) == 1)
    assert slot_of(after).epochs == slot_of(before).epochs
    assert slot_of(after).swap is None


async def test_a_swap_to_an_unknown_model_says_where_the_known_ones_are_listed(start_kernel):
    async with start_kernel().client() as client:
        await fails_and_harms_nothing(client, "nothing", NotFound, words="byenatos models list")


async def test_a_swap_to_a_refused_file_tells_why_it_is_refused(start_kernel, home):
    home.create()
    (home.models / "broken.gguf").write_bytes(b"GGUF and then nothing of the kind")
    async with start_kernel().client() as client:
        await fails_and_harms_nothing(client, "broken", Unavailable)


@pytest.mark.parametrize("fault", ["crash", "raise"])
async def test_a_swap_to_a_model_that_dies_while_it_loads_fails(start_kernel, fault):
    async with start_kernel(models={"bad": {"start_fault": fault}}).client() as client:
        await fails_and_harms_nothing(client, "bad", ByenatosError)


async def test_a_swap_to_a_model_that_never_finishes_loading_fails_at_its_deadline(start_kernel, home):
    hanging = "import threading\nfrom byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n"
    hanging += (
        "    async def start(self, model):\n        print('loading', flush=True)\n        threading.Event().wait()\n"
    )
    hanging += "    async def infer(self, request):\n        yield ''\n"
    write_plugin(home, "hanging", hanging, start_timeout_s=0.5)
    async with start_kernel().client() as client:
        await fails_and_harms_nothing(client, "hanging", Unavailable, words="loading")


async def test_a_swap_to_a_model_that_says_it_is_down_fails(start_kernel, home):
    ill = "from byenatos_sdk.driver import Driver\nfrom byenatos_sdk.protocol.messages import ModelHealthStatus\n"
    ill += "class Plugin(Driver):\n    async def infer(self, request):\n        yield 'x'\n"
    ill += "    async def health(self):\n        return ModelHealthStatus('down', 'no engine')\n"
    write_plugin(home, "ill", ill)
    async with start_kernel().client() as client:
        await fails_and_harms_nothing(client, "ill", Unavailable, words="no engine")


async def test_a_swap_to_a_model_that_cannot_take_over_a_conversation_is_refused_unless_it_is_forced(
    start_kernel, home
):
    blind = '[[models]]\nid = "blind"\nfeatures = ["chat_template"]\ncontext_length = 100'
    write_plugin(home, "blind", models=False, extra=blind)
    async with start_kernel().client() as client:
        await until_ready(client)
        await client.session("looking").infer([Message("user", (Text("what is this?"), Image(data=b"\x89PNG")))])
        await client.session("long").infer("word " * 120)
        words = (
            r"session 'long' has 240 tokens, and blind takes 100; session 'looking' has images, and blind takes none"
        )
        await fails_and_harms_nothing(client, "blind", InvalidRequest, words=words)
        event = await client.swap("default", "blind", force=True)
        assert event.detail.startswith("forced, cutting off: session 'long'")
        assert (await client.infer("count")).model == "blind"


async def test_a_swap_of_a_slot_that_does_not_exist_is_refused(start_kernel):
    async with start_kernel().client() as client:
        await until_ready(client)
        with pytest.raises(NotFound):
            await client.swap("nothing", "echo-two")


async def test_a_swap_needs_room_for_one_model_more_than_the_limit_and_gets_it(start_kernel):
    async with start_kernel(max_concurrent_models=1).client() as client:
        await until_ready(client)
        await client.swap("default", "echo-two")
        assert (await client.infer("x", extra=counting(3))).model == "echo-two"
        await until(client, lambda status: len(status.instances) == 1)


async def test_the_driver_that_a_swap_prepares_may_be_killed_without_harm(start_kernel, home):
    slow = "import threading\nfrom byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n"
    slow += "    async def start(self, model):\n        threading.Event().wait()\n"
    slow += "    async def infer(self, request):\n        yield ''\n"
    write_plugin(home, "slow", slow)
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        swap = asyncio.create_task(client.swap("default", "slow", strategy="immediate"))
        status = await until(other, lambda status: (one := instance_of(status, "slow")) and one.pid)
        os.kill(instance_of(status, "slow").pid, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await swap
        assert (await client.infer("x", extra=counting(3))).model == "echo"


async def test_a_model_that_is_swapped_in_in_the_background_is_loaded_with_low_priority_and_answers_as_any(
    start_kernel, home
):
    told = "import asyncio, os\nfrom byenatos_sdk.driver import Driver\ndef priority():\n"
    told += "    return os.getpriority(os.PRIO_PROCESS, 0)\nclass Plugin(Driver):\n"
    told += "    async def start(self, model):\n        self.loaded = await asyncio.to_thread(priority)\n"
    told += "    async def infer(self, request):\n"
    told += "        yield f'{self.loaded} {priority()} {await asyncio.to_thread(priority)}'\n"
    write_plugin(home, "told", told)
    async with start_kernel().client() as client:
        await until_ready(client)
        await client.swap("default", "told", strategy="background")
        loaded, main, thread = map(int, (await client.infer("x")).text.split())
        assert loaded == 19
        assert main == thread == os.getpriority(os.PRIO_PROCESS, 0)


# ---- swaps and what waits --------------------------------------------------------------------------------------


async def test_a_request_that_waits_for_a_loading_model_is_answered_by_the_one_swapped_in(start_kernel, home):
    slow = "import asyncio\nfrom byenatos_sdk.driver import Driver\nclass Plugin(Driver):\n"
    slow += "    async def start(self, model):\n        await asyncio.Event().wait()\n"
    slow += "    async def infer(self, request):\n        yield ''\n"
    write_plugin(home, "slow", slow)
    kernel = start_kernel(default="slow")
    async with kernel.client() as client:
        await until(client, lambda status: slot_of(status).state == "loading")
        answer = asyncio.create_task(client.infer("x", extra=counting(3)))
        await until(client, lambda status: status.streams == 1)
        await client.swap("default", "echo")
        assert (await answer).text == numbers(3)
        await until(client, lambda status: [one.model for one in status.instances] == ["echo"])


async def test_a_restarted_kernel_serves_what_was_switched_to(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.swap("default", "echo-two")
    kernel.stop()
    async with start_kernel().client() as client:
        await until_ready(client)
        answer = await client.infer("x", extra=counting(3))
        assert answer.model == "echo-two"
        assert [swap.state for swap in await client.swaps()] == [SwapState.RETIRED]
