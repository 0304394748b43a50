"""The drivers for servers on this machine, in their sandboxes, against llama.cpp's own server with a real model.

The broker lets them at a loopback address because the operator granted it, by plain HTTP.
"""

import asyncio
import json

import pytest
from kernel_process import KernelProcess, until_ready
from llama_server import llama_server

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError, ContextLengthExceeded, PermissionDenied
from byenatos_sdk.protocol.messages import TextDelta, assistant, user

pytestmark = pytest.mark.model

DRIVERS = {
    "llama-server": {},
    "vllm": {},
    "ollama": {"api": "openai_chat"},
    "openai-compatible": {"api": "openai_chat"},
}
"""By driver, the settings that it needs beside the address; Ollama's own API is not llama.cpp's."""

ACCESS = """
[plugins]
unsigned = true
[drivers.{driver}]
network = ["{place}"]
addresses = ["127.0.0.1/32", "::1/128"]
"""


@pytest.fixture(scope="module")
def serving(smollm2, tmp_path_factory):
    """A kernel with each driver on a slot of its name, all before one server."""
    home = Home(tmp_path_factory.mktemp("local") / "home")
    home.policies.mkdir(parents=True)
    with llama_server(smollm2) as port:
        models = []
        rules = "[plugins]\nunsigned = true\n"
        for driver, settings in DRIVERS.items():
            path = "/v1" if "api" in settings else ""
            at = {"base_url": f"http://localhost:{port}{path}", "model": "smollm2", **settings}
            models.append({"model_id": f"by-{driver}", "vendor": driver, "settings": at})
            rules += (
                f'[drivers.{driver}]\nnetwork = ["http://localhost:{port}"]\naddresses = ["127.0.0.1/32", "::1/128"]\n'
            )
        home.access.write_text(rules)
        slots = {driver: f"by-{driver}" for driver in DRIVERS}
        config = {"model_config": models, "slots": slots, "llm_driver_config": {"max_concurrent_models": 8}}
        home.config.write_text(json.dumps(config))
        kernel = KernelProcess(home)
        yield kernel
        kernel.clean_up()


@pytest.mark.parametrize("slot", DRIVERS)
async def test_a_real_model_answers_by_each_driver_and_says_what_it_took(serving, slot):
    async with serving.client() as client:
        await until_ready(client, slot)
        question = "What is the capital of France? Answer in one sentence."
        answer = await client.infer(question, model=slot, temperature=0, max_tokens=7)
        assert answer.text == "The capital of France is Paris."
        assert answer.usage.input_tokens > 10
        assert answer.usage.output_tokens == 7
        assert answer.reason == "length"
        cut = await client.infer(question, model=slot, temperature=0, max_tokens=7, stop=[" Paris"])
        assert cut.text == "The capital of France is"
        assert cut.reason == "stop"


@pytest.mark.parametrize("slot", ["llama-server", "vllm"])
async def test_a_partial_answer_is_continued_where_it_stopped(serving, slot):
    async with serving.client() as client:
        await until_ready(client, slot)
        prompt = [user("What is the capital of France?"), assistant("The capital of France is")]
        answer = await client.infer(prompt, model=slot, temperature=0, max_tokens=3)
        assert answer.text.startswith(" Paris")


@pytest.mark.parametrize("slot", DRIVERS)
async def test_the_servers_list_of_models_is_read(serving, slot):
    async with serving.client() as client:
        await until_ready(client, slot)
        if slot != "ollama":  # whose list is at an address of its own
            assert any("smollm2" in model.id for model in await client.vendor_models(slot))


async def test_tokens_are_counted_by_the_server(serving):
    async with serving.client() as client:
        await until_ready(client, "llama-server")
        count = await client.count_tokens("What is the capital of France?", model="llama-server")
        answer = await client.infer("What is the capital of France?", model="llama-server", max_tokens=1)
        assert count.input_tokens == answer.usage.input_tokens


async def test_a_prompt_beyond_the_models_context_is_told_as_such(serving):
    async with serving.client() as client:
        await until_ready(client, "llama-server")
        with pytest.raises(ContextLengthExceeded):
            await client.infer("word " * 5000, model="llama-server", max_tokens=1)


async def test_leaving_an_answer_frees_the_server_for_the_next(serving):
    async with serving.client() as client:
        await until_ready(client, "llama-server")
        for _ in range(3):
            async with client.stream("Count to a thousand.", model="llama-server", max_tokens=2000) as stream:
                async for delta in stream:
                    if isinstance(delta, TextDelta):
                        break
        answer = await client.infer(
            "Say yes.", model="llama-server", max_tokens=4
        )  # of two slots none is busy for long
        assert answer.usage.output_tokens


async def test_without_the_operators_grant_no_local_server_is_reached(start_kernel, home):
    kernel = await asyncio.to_thread(start_kernel, default="llama-server")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(PermissionDenied, match=r"localhost:8080 is not granted.*\[drivers.llama-server\]"):
            await client.infer("hello")


async def test_a_server_that_is_not_there_is_unavailable(start_kernel, home):
    home.policies.mkdir(parents=True)
    home.access.write_text(ACCESS.format(driver="llama-server", place="localhost:8080"))
    kernel = await asyncio.to_thread(start_kernel, default="llama-server")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(ByenatosError, match="localhost:8080 cannot be reached") as caught:
            await client.infer("hello")
        assert caught.value.code == "upstream_failed"
