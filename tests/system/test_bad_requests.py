"""Requests of a real model that cannot be served: each a typed error that names what and why, and no harm to others."""

import pytest
from kernel_process import KernelProcess, until_ready

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ContextLengthExceeded, InvalidRequest

pytestmark = pytest.mark.model

STORY = "Tell me a long story about a lighthouse keeper and the sea."
GREEDY = {"temperature": 0.0, "max_tokens": 48}


def schema(of):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": of}}}


BAD = {
    "a context overflow": ("word " * 3000, {}, ContextLengthExceeded, "expected fewer than 2048 tokens"),
    "an unknown rule": ("Yes?", {"extra": {"grammar": "root ::= answer"}}, InvalidRequest, "extra.grammar: line 1"),
    "no grammar": ("Yes?", {"extra": {"grammar": 'root ::= "a'}}, InvalidRequest, "extra.grammar"),
    "no schema": ("Yes?", schema({"not": {}}), InvalidRequest, "a grammar cannot express 'not'"),
    "too many stops": ("Yes?", {"stop": tuple("abcdefghijklmnopq")}, InvalidRequest, "stop"),
}


@pytest.fixture(scope="module")
def serving(smollm2, tmp_path_factory):
    """A kernel with one real model."""
    home = Home(tmp_path_factory.mktemp("bad") / "home")
    home.create()
    home.config.write_text(
        '{"llm_driver_config": {"default_model": "smollm2"}, "model_config":'
        ' [{"model_id": "smollm2", "vendor": "llamacpp", "settings": {"n_ctx": 2048, "threads": 1}}]}'
    )
    (home.models / "smollm2.gguf").symlink_to(smollm2)
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


@pytest.mark.parametrize("bad", BAD)
async def test_a_request_that_cannot_be_served_is_refused_by_name_and_the_answer_beside_it_is_the_same(serving, bad):
    question, asked, error, message = BAD[bad]
    async with serving.client() as client:
        status = await until_ready(client)
        alone = await client.infer(STORY, **GREEDY)
        beside = client.stream(STORY, **GREEDY)
        await anext(beside)
        with pytest.raises(error, match=message):
            await client.infer(question, **asked)
        answer = await beside.response()
        assert answer.text == alone.text
        assert answer.usage.output_tokens == alone.usage.output_tokens
        assert [one.pid for one in (await client.status()).instances] == [one.pid for one in status.instances]
