"""The main job with real models: a question answered, an answer that goes on at another model, a death in between."""

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from kernel_process import KernelProcess, instance_of, slot_of, until, until_models, until_ready, write_config

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Tool, ToolCall

pytestmark = pytest.mark.model

STORY = "Tell me a long story about a lighthouse keeper and the sea."


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    """The real model files, by id."""
    folder = os.environ.get("BYENATOS_TEST_MODELS")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder with the real models; `make test` sets it")
    found = {name: Path(folder, f"{name}.gguf") for name in ("smollm2", "gemma-3-270m")}
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        pytest.fail(f"expected the real models, found no {', '.join(missing)}; `make test` pulls them")
    return found


@pytest.fixture(scope="module")
def serving(files, tmp_path_factory):
    """A kernel with both models in its folder, gemma as the fallback."""
    home = Home(tmp_path_factory.mktemp("real") / "home")
    write_config(home, default="smollm2", fallback="gemma-3-270m", max_concurrent_models=3)
    home.create()
    for path in files.values():
        (home.models / path.name).symlink_to(path)
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


async def ready(client):
    """Bring the slot back to where it began, and wait for both models."""
    if slot_of(await until_ready(client)).model != "smollm2":
        await client.swap("default", "smollm2")
    return await until(
        client,
        lambda status: (
            sorted((one.model, one.state.value) for one in status.instances)
            == [("gemma-3-270m", "ready"), ("smollm2", "ready")]
        ),
    )


async def test_a_real_model_that_is_dropped_into_an_empty_home_answers(start_kernel, home, files):
    kernel = start_kernel(default=None)
    async with kernel.client() as client:
        assert slot_of(await client.status()).state == "empty"
        shutil.copy(files["smollm2"], home.models / ".arriving")
        (home.models / ".arriving").chmod(0o600)  # the driver of a kernel that runs as root has another user
        (home.models / ".arriving").rename(home.models / "smollm2.gguf")
        models = await until_models(
            client, lambda models: "smollm2" in models and models["smollm2"].state == "available"
        )
        assert models["smollm2"].specification.context_length > 0
        await until_ready(client)
        answer = await client.infer("What is the capital of France? Answer in one sentence.", temperature=0.0)
        assert "Paris" in answer.text
        assert answer.model == "smollm2"


async def test_a_real_answer_goes_on_at_another_real_model_in_an_immediate_swap(serving):
    async with serving.client() as client, serving.client() as swapper:
        await ready(client)
        stream = client.session("story").stream(STORY, temperature=0.0, max_tokens=120)
        before = [await anext(stream) for _ in range(10)]
        await swapper.swap("default", "gemma-3-270m", strategy="immediate")
        answer = await stream.response()
        [moved] = answer.moves
        assert (moved.source, moved.target) == ("smollm2", "gemma-3-270m")
        assert answer.model == "gemma-3-270m"
        begun = "".join(getattr(delta, "text", "") for delta in before)
        assert answer.text.startswith(begun)
        assert len(answer.text) > len(begun) + 20
        assert "Ġ" not in answer.text
        turns = (await client.transcript("story")).turns
        assert [turn.message.text for turn in turns] == [STORY, answer.text]


async def test_a_killed_real_model_is_continued_by_the_fallback_and_comes_back(serving):
    async with serving.client() as client:
        status = await ready(client)
        stream = client.stream(STORY, temperature=0.0, max_tokens=60)
        await anext(stream)
        os.kill(instance_of(status, "smollm2").pid, signal.SIGKILL)
        answer = await stream.response()
        assert [move.reason for move in answer.moves] == ["driver_crashed"]
        assert answer.model == "gemma-3-270m"
        await ready(client)
        assert (await client.infer("Say hello.", max_tokens=8)).model == "smollm2"


async def test_several_real_answers_are_given_at_once(serving):
    async with serving.client() as client:
        await ready(client)
        questions = ["What is the capital of France?", "What is 2 + 2?", "Name a colour.", "Who wrote Hamlet?"] * 2
        answers = await asyncio.gather(
            *(client.infer(question, temperature=0.0, max_tokens=16) for question in questions)
        )
        assert all(answer.text and answer.model == "smollm2" for answer in answers)
        assert "Paris" in answers[0].text


async def test_json_tools_and_grammars_work_inside_the_sandbox(serving):
    shape = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
    tool = Tool("add", "Add numbers", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    async with serving.client() as client:
        await ready(client)
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": shape}}
        held, called, refused = await asyncio.gather(
            client.infer("How many?", temperature=0.0, max_tokens=40, response_format=form),
            client.infer("What is 3 + 4?", temperature=0.0, max_tokens=60, tools=(tool,), tool_choice="required"),
            client.infer("Yes?", max_tokens=8, extra={"grammar": 'root ::= root "a"'}),
            return_exceptions=True,
        )
    assert json.loads(held.text)["n"] <= 99
    [call] = [part for part in called.message.parts if isinstance(part, ToolCall)]
    assert (call.name, called.reason, set(json.loads(call.arguments))) == ("add", "tool_calls", {"a"})
    assert isinstance(refused, InvalidRequest)
    assert "left recursion" in refused.message


async def test_a_real_model_turns_texts_into_vectors_and_counts_tokens(serving):
    async with serving.client() as client:
        await ready(client)
        texts = ["A cat sat on the mat.", "A kitten sat on a rug.", "Interest rates rose again."]
        made = await client.embed(texts)
        cat, kitten, rates = made.vectors
        near = sum(a * b for a, b in zip(cat, kitten, strict=True))
        assert near > sum(a * b for a, b in zip(cat, rates, strict=True))
        assert (made.usage.input_tokens or 0) > 10
        (short,) = (await client.embed(texts[:1], dimensions=8)).vectors
        assert len(short) == 8
        assert sum(number * number for number in short) == pytest.approx(1.0)
        with pytest.raises(InvalidRequest, match="dimensions: expected at most"):
            await client.embed(texts, dimensions=100_000)
        few, more = await client.count_tokens("Hello"), await client.count_tokens("Hello " * 100)
        assert 5 < few.input_tokens < 60 < more.input_tokens


async def test_a_real_model_says_what_memory_it_takes(serving):
    async with serving.client() as client:
        await ready(client)
        models = {model.id: model for model in (await client.models())}
    metadata = models["smollm2"].specification.metadata
    assert int(metadata["kv_bytes"]) == 4096 * int(metadata["kv_bytes_per_token"])


async def test_leaving_a_real_answer_stops_the_engine(serving):
    async with serving.client() as client:
        await ready(client)
        async with client.stream(STORY, max_tokens=2000) as stream:
            await anext(stream)
        status = await until(client, lambda status: status.streams == 0)
        assert instance_of(status, "smollm2").streams == 0
        assert (await client.infer("Say hello.", max_tokens=8)).text


@pytest.mark.parametrize("keep", [4, 24, 4096, 1 << 20])
async def test_a_truncated_real_model_is_refused_and_the_real_one_serves_on(serving, files, keep):
    async with serving.client() as client:
        await ready(client)
        path = serving.home.models / f"truncated-{keep}.gguf"
        with files["gemma-3-270m"].open("rb") as whole:
            path.write_bytes(whole.read(keep))
        models = await until_models(client, lambda models: path.stem in models and models[path.stem].state == "refused")
        assert models[path.stem].reason.startswith("llamacpp: ")
        assert (await client.infer("Say hello.", max_tokens=4)).model == "smollm2"
