"""Answers of a real model that move with their warm state: in a reload, and when their process is killed."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from kernel_process import KernelProcess, instance_of, until, until_ready, write_config

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import InstanceState

pytestmark = pytest.mark.model

STORY = "Tell me a long story about a lighthouse keeper and the sea."
GREEDY = {"temperature": 0.0, "max_tokens": 60}


@pytest.fixture(scope="module")
def model() -> Path:
    folder = os.environ.get("BYENATOS_TEST_MODELS")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder with the real models; `make test` sets it")
    return Path(folder, "smollm2.gguf")


@pytest.fixture(scope="module")
def serving(model, tmp_path_factory):
    """A kernel with one real model, whose running answers are journaled."""
    home = Home(tmp_path_factory.mktemp("warm") / "home")
    write_config(home, default="smollm2")
    home.config.write_text(
        '{"llm_driver_config": {"default_model": "smollm2"}, "model_config":'
        ' [{"model_id": "smollm2", "vendor": "llamacpp", "journal": 4, "settings": {"n_ctx": 2048, "threads": 1}}]}'
    )
    home.create()
    (home.models / "smollm2.gguf").symlink_to(model)
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


async def alone(client):
    """Wait until one instance serves and nothing runs."""
    await until_ready(client)
    return await until(
        client,
        lambda status: status.streams == 0 and [one.state for one in status.instances] == [InstanceState.READY],
    )


async def test_a_reload_moves_a_running_answer_with_its_state_to_the_last_word(serving):
    async with serving.client() as client, serving.client() as swapper:
        await alone(client)
        whole = await client.infer(STORY, **GREEDY)
        stream = client.stream(STORY, **GREEDY)
        for _ in range(8):
            await anext(stream)
        event = await swapper.swap("default", "smollm2", strategy="immediate")
        assert (event.moved_streams, event.warm_streams) == (1, 1), event
        answer = await stream.response()
        assert answer.text == whole.text
        assert answer.usage.output_tokens == whole.usage.output_tokens  # and not only those since it moved
        assert [move.reason for move in answer.moves] == ["swap"]
        assert "not exact" not in event.detail


async def test_an_answer_whose_process_is_killed_goes_on_from_its_journal(serving):
    async with serving.client() as client:
        status = await alone(client)
        whole = await client.infer(STORY, **GREEDY)
        stream = client.stream(STORY, **GREEDY)
        for _ in range(20):
            await anext(stream)
        os.kill(instance_of(status, "smollm2").pid, signal.SIGKILL)
        answer = await stream.response()
        assert [move.reason for move in answer.moves] == ["driver_crashed"]
        assert answer.text == whole.text
        assert answer.usage.output_tokens == whole.usage.output_tokens


async def test_a_session_moves_along_in_a_reload_and_its_next_turn_reads_only_what_is_new(serving):
    async with serving.client() as client:
        await alone(client)
        first = await client.session("moving").infer(STORY, **GREEDY)
        await client.swap("default", "smollm2")
        second = await client.session("moving").infer("And then?", temperature=0.0, max_tokens=4)
        assert second.usage.cached_tokens >= first.usage.input_tokens


async def test_a_hibernated_session_wakes_before_its_next_turn_and_goes_on_in_the_same_words(serving):
    async with serving.client() as client:
        await alone(client)
        for name in ("awake", "asleep"):
            first = await client.session(name).infer(STORY, **GREEDY)
            if name == "asleep":
                slept = await client.hibernate_session(name)
                assert slept.positions >= first.usage.input_tokens
                await client.swap("default", "smollm2", until="retired")  # nothing is left of it in any process
            second = await client.session(name).infer("And then?", temperature=0.0, max_tokens=12)
            assert second.usage.cached_tokens >= first.usage.input_tokens
            if name == "awake":
                expected = second.text
        assert second.text == expected
        [file] = (serving.home.warm_key, *serving.home.warm.glob("*"))
        assert file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(NotFound):
            await client.wake_session("asleep")


async def test_a_session_that_was_read_ahead_begins_at_once(serving):
    async with serving.client() as client:
        await alone(client)
        first = await client.session("ahead").infer(STORY, **GREEDY)
        await client.hibernate_session("ahead")
        shutil.rmtree(serving.home.warm)  # so that it cannot wake
        read = await client.prefill_session("ahead")
        assert read.positions >= first.usage.input_tokens
        second = await client.session("ahead").infer("And then?", temperature=0.0, max_tokens=4)
        assert second.usage.cached_tokens >= first.usage.input_tokens


async def test_a_damaged_file_is_refused_and_the_session_read_again(serving):
    async with serving.client() as client:
        await alone(client)
        await client.session("hurt").infer(STORY, **GREEDY)
        await client.hibernate_session("hurt")
        [file] = serving.home.warm.glob("*.warm")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with pytest.raises(InvalidRequest, match="hibernated session as this kernel wrote it"):
            await client.wake_session("hurt")
        second = await client.session("hurt").infer("And then?", temperature=0.0, max_tokens=4)
        assert second.text
        await client.remove_session("hurt")
        assert not list(serving.home.warm.glob("*.warm"))
