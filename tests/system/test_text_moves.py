"""Answers and conversations that go from one real model to another: what they are read from was read before."""

import os
from pathlib import Path

import pytest
from kernel_process import KernelProcess, slot_of, until, until_ready, write_config

from byenatos_sdk.home import Home

pytestmark = pytest.mark.model

STORY = "Tell me a long story about a lighthouse keeper and the sea. " * 8
TARGET = "gemma-3-270m"


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """A kernel with two models that share neither warm state nor tokenizer."""
    folder = os.environ.get("BYENATOS_TEST_MODELS")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder with the real models; `make test` sets it")
    home = Home(tmp_path_factory.mktemp("text") / "home")
    write_config(home, default="smollm2", max_concurrent_models=2)
    home.create()
    for name in ("smollm2", TARGET):
        (home.models / f"{name}.gguf").symlink_to(Path(folder, f"{name}.gguf"))
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


async def at_the_first(client):
    """Bind the slot to the first model, and wait until nothing else runs."""
    if slot_of(await until_ready(client)).model != "smollm2":
        await client.swap("default", "smollm2", until="retired")
    await until(client, lambda status: status.streams == 0 and len(status.instances) == 1)
    for one in await client.sessions():
        await client.remove_session(one.id)


async def last_moves(client):
    """What became of the conversations of the last swap, once it is over."""
    await until(client, lambda status: len(status.instances) == 1)
    return (await client.swaps())[0].sessions


@pytest.mark.parametrize("seed", [None, 7])
async def test_a_running_answer_is_read_by_its_target_before_it_is_cut_over(serving, seed):
    async with serving.client() as client, serving.client() as swapper:
        await at_the_first(client)
        stream = client.stream(STORY, max_tokens=250, temperature=0.0, seed=seed)
        said = ""
        while said.count(" ") < 8:
            said += getattr(await anext(stream), "text", "")
        event = await swapper.swap("default", TARGET, strategy="immediate")
        assert (event.moved_streams, event.warm_streams) == (1, 0)
        answer = await stream.response()
        assert answer.text.startswith(said)
        assert [move.reason for move in answer.moves] == ["swap"]
        assert answer.usage.cached_tokens > 0.9 * answer.usage.input_tokens > 100
        [move] = await last_moves(client)
        assert move.level == "text"
        assert 0 < move.positions <= answer.usage.input_tokens
        assert move.pause_s > 0


async def test_an_idle_conversation_is_read_ahead_and_its_next_turn_begins_at_once(serving):
    async with serving.client() as client:
        await at_the_first(client)
        await client.session("idle").infer(STORY, max_tokens=8, temperature=0.0)
        await client.swap("default", TARGET, strategy="session_aware", until="retired")
        second = await client.session("idle").infer("And then?", max_tokens=4, temperature=0.0)
        assert second.model == TARGET
        [move] = await last_moves(client)
        assert (move.session, move.level) == ("idle", "text")
        assert second.usage.cached_tokens > 0.9 * move.positions
