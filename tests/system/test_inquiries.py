"""Embeddings, token counts and vendors' lists through a real kernel, by both clients and the command line."""

import asyncio
import json

import pytest
from kernel_process import until_ready
from plugin_folder import write_plugin

from byenatos_kernel.cli import main
from byenatos_sdk.client import Client
from byenatos_sdk.protocol.errors import NotFound, RequestTooLarge, Unsupported


async def test_an_application_asks_a_slots_model_for_vectors_counts_and_what_its_vendor_offers(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        response = await client.embed(["one text", "another"], dimensions=4)
        assert [len(vector) for vector in response.vectors] == [4, 4]
        assert response.vectors[0] != response.vectors[1]
        assert (await client.embed("one text", model="echo", dimensions=4)).vectors == response.vectors[:1]
        assert (await client.count_tokens("three small words")).input_tokens == 3
        assert {model.id for model in await client.vendor_models()} == {"echo", "echo-two"}


async def test_tokens_of_a_session_are_counted_with_its_turns_and_nothing_is_stored(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        session = client.session("counted")
        await session.infer("three small words")
        assert (await client.count_tokens("two more", session="counted")).input_tokens == 3 + 3 + 2
        assert len((await session.transcript()).turns) == 2


async def test_megabytes_of_vectors_come_whole_and_more_than_the_limit_is_refused(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        response = await client.embed(["x"] * 100, dimensions=5000)
        assert len(response.vectors) == 100
        assert {len(vector) for vector in response.vectors} == {5000}
        with pytest.raises(RequestTooLarge, match="8 MiB"):
            await client.embed(["x"] * 400, dimensions=5000)
        assert (await client.count_tokens("still there")).input_tokens == 2


async def test_what_a_driver_lacks_or_nobody_serves_is_a_typed_error(home, start_kernel):
    write_plugin(home, "plain")
    kernel = await asyncio.to_thread(start_kernel, default="plain")
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(Unsupported, match="makes no embeddings"):
            await client.embed("a")
        with pytest.raises(Unsupported, match="counts no tokens"):
            await client.count_tokens("a")
        with pytest.raises(NotFound):
            await client.embed("a", model="nobody")


def test_the_blocking_client_and_the_command_line_ask_too(kernel, capsys):
    with Client(kernel.home) as client:
        assert len(client.embed(["a"]).vectors) == 1
        assert client.count_tokens("a b").input_tokens == 2
        assert len(client.vendor_models("echo")) == 2
    assert main(["--home", str(kernel.home.path), "models", "offered", "echo", "--json"]) == 0
    assert {model["id"] for model in json.loads(capsys.readouterr().out)} == {"echo", "echo-two"}
