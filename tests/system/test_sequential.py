"""Sequential swaps with real processes: a memory budget that fits one model, and many who wait meanwhile."""

import asyncio
from pathlib import Path

import pytest
from kernel_process import counting, numbers, slot_of, until, until_models, until_ready
from plugin_folder import write_plugin

from byenatos_kernel.shipped import shipped
from byenatos_sdk.protocol.control import InstanceChanged
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded
from byenatos_sdk.protocol.messages import InstanceState, SwapState

WAITING = 32
MODELS = """
[[models]]
id = "heavy"
features = ["continue"]
memory_mib = 60

[[models]]
id = "heavy-two"
features = ["continue"]
memory_mib = 60

[[models]]
id = "heavy-bad"
memory_mib = 60
settings = {start_fault = "crash"}

[[models]]
id = "heavy-slow"
memory_mib = 60
settings = {start_fault = "hang"}
"""


@pytest.fixture
def narrow(home, start_kernel):
    """Start a kernel with models of which its memory budget fits one."""

    def start(most=256, **more):
        if not (home.plugins / "heavy").exists():
            code = (shipped("plugins") / "echo" / "driver.py").read_text()
            write_plugin(home, "heavy", code, entry="plugin:Echo", models=False, extra=MODELS)
        home.policies.mkdir(parents=True, exist_ok=True)
        policy = f"[swap]\nkeep_old_s = 0\n[memory]\nbudget_mib = 100\n[queue]\nmost = {most}\n"
        (home.policies / "swap.toml").write_text(policy)
        return start_kernel(default="heavy", **more)

    return start


async def swap_under_waiting(client, model, requests, strategy="graceful", extra=None):
    """Begin a swap under a running answer, have so many requests wait, and let the answer end; what became of all."""
    running = client.stream("count", extra=counting(200, 100))
    await anext(running)
    swap = asyncio.create_task(client.swap("default", model, strategy=strategy, until="retired"))
    await until(client, lambda status: slot_of(status).state == "loading")
    asked = [
        asyncio.create_task(client.infer("count", extra=extra or counting(5), timeout_s=30.0)) for _ in range(requests)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    outcome = (await asyncio.gather(swap, return_exceptions=True))[0]
    return await running.response(), answers, outcome


async def test_32_requests_that_wait_for_the_one_model_that_fits_are_answered_in_order(narrow):
    kernel = narrow()
    async with kernel.client() as client:
        await until_ready(client)
        stamped = counting(1, stamp=True)
        running, answers, event = await swap_under_waiting(client, "heavy-two", WAITING, extra=stamped)
        assert (running.text, running.model) == (numbers(200), "heavy")
        assert (event.state, event.mode) == (SwapState.RETIRED, "sequential")
        assert event.detail == f"{WAITING} requests waited"
        assert {answer.model for answer in answers} == {"heavy-two"}
        assert {answer.moves for answer in answers} == {()}
        said = [int(answer.text) for answer in answers]
        assert said == sorted(said)


async def test_the_new_model_is_not_begun_before_the_old_process_is_gone_and_the_client_sees_who_waits(narrow):
    kernel = narrow()
    async with kernel.client() as client, kernel.client() as watcher:
        await until_ready(client)
        seen = {}

        async def watch(events):
            async for event in events:
                if isinstance(event, InstanceChanged):
                    seen[event.instance.model, event.instance.state] = len(seen)

        async with watcher.events() as events:
            watching = asyncio.create_task(watch(events))
            stream = client.stream("count", extra=counting(150, 100))
            await anext(stream)
            swap = asyncio.create_task(client.swap("default", "heavy-two", until="retired"))
            await until(client, lambda status: slot_of(status).state == "loading")
            waiting = [asyncio.create_task(client.infer("count", extra=counting(3))) for _ in range(12)]
            status = await until(client, lambda status: slot_of(status).waiting == 12)
            slot = slot_of(status)
            assert (slot.model, slot.state) == ("heavy", "loading")
            assert slot.detail == "heavy leaves first; still running there: 1"
            assert (await client.count_tokens("two words")).input_tokens == 2
            await swap
            assert {(await answer).model for answer in waiting} == {"heavy-two"}
            assert (await stream.response()).model == "heavy"
            watching.cancel()
        assert seen["heavy", InstanceState.RETIRED] < seen["heavy-two", InstanceState.STARTING]


async def test_a_running_answer_stops_waits_and_goes_on_at_the_new_model_in_an_immediate_swap(narrow):
    kernel = narrow()
    async with kernel.client() as client:
        await until_ready(client)
        running, answers, event = await swap_under_waiting(client, "heavy-two", 8, "immediate")
        assert (running.text, running.model) == (numbers(200), "heavy-two")
        assert [(move.source, move.target, move.reason) for move in running.moves] == [("heavy", "heavy-two", "swap")]
        assert event.moved_streams == 1
        assert {(answer.text, answer.model) for answer in answers} == {(numbers(5), "heavy-two")}


async def test_who_finds_the_queue_full_is_told_which_limit_that_is(narrow):
    kernel = narrow(most=20)
    async with kernel.client() as client:
        await until_ready(client)
        _, answers, event = await swap_under_waiting(client, "heavy-two", WAITING)
        assert event.state is SwapState.RETIRED
        refused = [answer for answer in answers if isinstance(answer, ByenatosError)]
        assert answers[20:] == refused
        assert {type(error) for error in refused} == {Overloaded}
        assert all("[queue] most in swap.toml" in error.message for error in refused)
        assert {answer.text for answer in answers[:20]} == {numbers(5)}


async def test_if_the_new_model_dies_the_old_one_is_loaded_again_and_answers_all_who_wait(narrow):
    kernel = narrow()
    async with kernel.client() as client:
        before = slot_of(await until_ready(client)).epochs
        running, answers, error = await swap_under_waiting(client, "heavy-bad", WAITING)
        assert running.text == numbers(200)
        assert isinstance(error, ByenatosError)
        assert {(answer.text, answer.model) for answer in answers} == {(numbers(5), "heavy")}
        status = await until_ready(client)
        assert slot_of(status).epochs > before
        assert [one.model for one in status.instances] == ["heavy"]
        assert (await client.swap("default", "heavy-two")).mode == "sequential"


async def test_a_kernel_that_is_killed_while_requests_wait_serves_the_old_model_when_it_is_back(narrow):
    kernel = narrow()
    async with kernel.client() as client:
        await until_ready(client)
        swap = asyncio.create_task(client.swap("default", "heavy-slow"))
        await until(client, lambda status: [one.model for one in status.instances] == ["heavy-slow"])
        assert kernel.kill() == []
        with pytest.raises(ByenatosError):
            await swap
    async with narrow().client() as client:
        assert slot_of(await until_ready(client)).model == "heavy"
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)
        (last,) = await client.swaps()
        assert (last.state, last.detail) == (SwapState.FAILED, "the kernel stopped during this swap")


@pytest.mark.model
async def test_two_real_models_take_turns_in_memory_for_one(home, start_kernel, smollm2: Path):
    home.create()
    for name in ("smollm2", "gemma-3-270m"):
        (home.models / f"{name}.gguf").symlink_to(smollm2.with_name(f"{name}.gguf"))
    (home.policies / "swap.toml").write_text("[swap]\nkeep_old_s = 0\n[memory]\nbudget_mib = 500\n")
    kernel = start_kernel(default="smollm2")
    async with kernel.client() as client:
        await until_ready(client)
        models = await until_models(
            client, lambda models: "gemma-3-270m" in models and models["gemma-3-270m"].state == "available"
        )
        takes = [models[name].specification.memory_bytes >> 20 for name in ("smollm2", "gemma-3-270m")]
        assert max(takes) < 500 < sum(takes)
        stream = client.stream("Tell me a story.", max_tokens=40, temperature=0.0)
        await anext(stream)
        swap = asyncio.create_task(client.swap("default", "gemma-3-270m", until="retired"))
        await until(client, lambda status: slot_of(status).state == "loading")
        answer = await client.infer("What is the capital of France?", max_tokens=8)
        assert answer.model == "gemma-3-270m"
        assert (await swap).mode == "sequential"
        assert (await stream.response()).model == "smollm2"
        assert [one.model for one in (await client.status()).instances] == ["gemma-3-270m"]
