"""Swaps in which each conversation moves between its own turns, with real processes."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kernel_process import KernelProcess, slot_of, until, until_ready, write_config
from plugin_folder import write_plugin

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.messages import Moved

ABACUS = (Path(__file__).parent / "harness" / "abacus.py").read_text()
MODELS = """
[[models]]
id = "abacus"
[[models]]
id = "loner"
settings = {loner = true}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel with the driver that counts; another model of it keeps its state in another form."""
    home = Home(tmp_path_factory.mktemp("aware") / "home")
    write_plugin(home, "abacus", ABACUS, entry="plugin:Abacus", permissions="arena_mib = 1", extra=MODELS, models=False)
    write_config(home, default="abacus", max_concurrent_models=2)
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


@pytest.fixture
def serving(kernel):
    """Two clients, and the slot bound to a model, with one instance that nothing runs on and that holds nothing."""

    @asynccontextmanager
    async def serve(model="abacus"):
        async with kernel.client() as client, kernel.client() as swapper:
            await until_ready(client)
            for one in await client.sessions():
                await client.remove_session(one.id)
            await client.swap("default", "loner" if model == "abacus" else "abacus", until="retired")
            await client.swap("default", model, until="retired")
            yield client, swapper
            await until(client, lambda status: status.streams == 0 and len(status.instances) == 1)

    return serve


def counted(tokens=5, rate=400):
    return {"abacus": {"tokens": tokens, "rate": rate}}


async def test_an_idle_conversation_moves_with_its_state_in_a_reload(serving):
    async with serving() as (client, swapper):
        await client.session("idle").infer("count", extra=counted(7))
        event = await swapper.swap("default", "abacus", strategy="session_aware", until="retired")
        [move] = event.sessions
        assert (move.session, move.level, move.positions, move.bytes) == ("idle", "kv", 7, 7 * 64)


@pytest.mark.parametrize("strategy", ["session_aware", "graceful"])
async def test_an_idle_conversation_is_read_ahead_by_another_model(serving, strategy):
    async with serving() as (client, swapper):
        await client.session("idle").infer("count", extra=counted())
        event = await swapper.swap("default", "loner", strategy=strategy, until="retired")
        [move] = event.sessions
        assert (move.session, move.level, move.positions) == ("idle", "text", 2)


async def test_a_conversation_moves_when_its_answer_has_ended_and_its_next_turn_is_answered_by_the_target(serving):
    async with serving() as (client, swapper):
        stream = client.session("busy").stream("count", extra=counted(1 << 30, 100))
        for _ in range(3):
            await anext(stream)
        event = await swapper.swap("default", "loner", strategy="session_aware")
        assert (event.moved_streams, event.draining_streams) == (0, 1)
        assert slot_of(await client.status()).model == "loner"
        assert (await client.infer("count", extra=counted(3, 0))).model == "loner"
        for _ in range(20):
            assert not isinstance(await anext(stream), Moved)
        await stream.aclose()
        await until(client, lambda status: status.streams == 0)
        assert (await client.session("busy").infer("count", extra=counted(3, 0))).model == "loner"
        await until(client, lambda status: len(status.instances) == 1)
        [move] = (await client.swaps())[0].sessions
        assert (move.session, move.level) == ("busy", "text")
        assert move.positions in {2, 3}  # with the next question, if that was stored before it was read
