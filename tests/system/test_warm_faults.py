"""Moves with warm state in which something goes wrong, at every step: no answer loses or repeats a word."""

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kernel_process import KernelProcess, instance_of, is_counted, numbers, slot_of, until, until_ready, write_config
from plugin_folder import write_plugin

from byenatos_kernel import trials
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import InstanceState, Moved, SwapEvent

ABACUS = (Path(__file__).parent / "harness" / "abacus.py").read_text()
ENDLESS = 1 << 30
MODELS = """
[[models]]
id = "abacus"
[[models]]
id = "loner"
settings = {loner = true}
[[models]]
id = "inexact"
settings = {inexact = true}
[[models]]
id = "journaled"
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel with the driver that counts; of its models one is journaled every two numbers."""
    home = Home(tmp_path_factory.mktemp("faults") / "home")
    write_plugin(home, "abacus", ABACUS, entry="plugin:Abacus", permissions="arena_mib = 1", extra=MODELS, models=False)
    write_config(home, default="abacus", max_concurrent_models=2)
    table = json.loads(home.config.read_text())
    table["model_config"] = [{"model_id": "journaled", "vendor": "abacus", "journal": 2}]
    home.config.write_text(json.dumps(table))
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


@pytest.fixture
def serving(kernel):
    """Two clients, and the slot bound to a model, with one instance that nothing runs on."""

    @asynccontextmanager
    async def serve(model="abacus"):
        async with kernel.client() as client, kernel.client() as swapper:
            await until_ready(client)
            if slot_of(await client.status()).model != model:
                await client.swap("default", model)
            await until(
                client,
                lambda status: (
                    status.streams == 0
                    and [(one.model, one.state) for one in status.instances] == [(model, InstanceState.READY)]
                ),
            )
            yield client, swapper

    return serve


def counted(tokens=5, rate=400, fault=""):
    return {"abacus": {"tokens": tokens, "rate": rate, "fault": fault}}


class Heard:
    """What was heard of one endless count."""

    def __init__(self, stream):
        self.stream = stream
        self.text = ""
        self.moves = []

    async def more(self, numbers):
        """Hear so many numbers more."""
        wanted = self.text.count(" ") + numbers
        while self.text.count(" ") < wanted:
            delta = await anext(self.stream)
            self.text += getattr(delta, "text", "")
            if isinstance(delta, Moved):
                self.moves.append(delta.reason)
        assert is_counted(self.text)


async def reload_under(client, swapper, fault="", streams=1):
    """Reload the model under running answers; return the swap's event, or why it failed, and what was heard."""
    heard = [Heard(client.stream("count", extra=counted(ENDLESS, fault=fault))) for _ in range(streams)]
    for one in heard:
        await one.more(3)
    model = slot_of(await client.status()).model
    try:
        event = await swapper.swap("default", model, strategy="immediate")
    except ByenatosError as error:
        event = error
    for one in heard:
        moved = isinstance(event, SwapEvent) and event.moved_streams
        while moved and not one.moves:
            await one.more(50)
        await one.more(200)
        await one.stream.aclose()
    return event, heard


async def test_a_driver_with_warm_state_moves_its_answers_with_it(serving):
    async with serving() as (client, swapper):
        before = (await client.status()).instances[0].epoch
        event, heard = await reload_under(client, swapper, streams=8)
        assert (event.moved_streams, event.warm_streams) == (8, 8)
        assert "exact" not in event.detail
        assert [one.moves for one in heard] == [["swap"]] * 8
        assert [(move.level, move.bytes // 64 == move.positions) for move in event.sessions] == [("kv", True)] * 8
        assert all(0 < move.pause_s < trials.FLOOR_S for move in event.sessions)
        status = await until(client, lambda status: len(status.instances) == 1)
        assert status.instances[0].epoch > before


async def test_a_move_to_another_arithmetic_is_reported_as_not_exact(serving):
    async with serving("inexact") as (client, swapper):
        event, [answer] = await reload_under(client, swapper)
        assert (event.warm_streams, answer.moves) == (1, ["swap"])
        assert "not exact" in event.detail


async def test_instances_whose_state_means_something_else_move_by_text(serving):
    async with serving("loner") as (client, swapper):
        event, [answer] = await reload_under(client, swapper)
        assert (event.moved_streams, event.warm_streams, answer.moves) == (1, 0, ["swap"])


@pytest.mark.parametrize(
    "fault",
    [
        *("export refuses", "export lies about the range", "export lies about the size"),
        *("freeze refuses", "freeze lies about the range", "freeze lies about the size", "restore refuses"),
    ],
)
async def test_what_goes_wrong_before_the_answer_has_moved_moves_it_by_text(serving, fault):
    async with serving() as (client, swapper):
        event, [answer] = await reload_under(client, swapper, fault)
        assert (event.moved_streams, event.warm_streams, answer.moves) == (1, 0, ["swap"])


async def test_a_target_that_does_not_read_ahead_reads_what_has_moved(serving):
    async with serving("loner") as (client, swapper):
        event, [answer] = await reload_under(client, swapper, "read refuses")
        assert (event.moved_streams, event.warm_streams, answer.moves) == (1, 0, ["swap"])


async def test_an_answer_stays_where_it_is_when_its_target_dies_while_it_reads(serving):
    async with serving("loner") as (client, swapper):
        event, [answer] = await reload_under(client, swapper, "read dies")
        assert (event.moved_streams, answer.moves) == (0, [])


@pytest.mark.parametrize("fault", ["resume fails", "resume says nothing"])
async def test_an_answer_that_does_not_go_on_at_the_new_place_goes_on_at_the_old_one_or_by_text(serving, fault):
    async with serving() as (client, swapper):
        event, [answer] = await reload_under(client, swapper, fault)
        assert event.warm_streams == 0
        assert answer.moves[0] == "swap"


@pytest.mark.parametrize("fault", ["export dies", "freeze dies", "restore dies", "resume dies", "export says too much"])
async def test_a_process_that_dies_in_the_middle_of_a_move_costs_no_word(serving, fault):
    async with serving() as (client, swapper):
        await reload_under(client, swapper, fault)
        assert (await client.infer("count", extra=counted(3, 0))).text == numbers(3)
        assert slot_of(await until_ready(client)).model == "abacus"


async def test_an_answer_that_is_cancelled_while_it_moves_is_gone_from_both(serving):
    async with serving() as (client, swapper):
        for _ in range(4):
            stream = client.stream("count", extra=counted(ENDLESS))
            await anext(stream)
            swap = asyncio.create_task(swapper.swap("default", "abacus", strategy="immediate"))
            await anext(stream)
            await stream.aclose()
            await swap
        await until(client, lambda status: status.streams == 0 and len(status.instances) == 1)
        assert (await client.infer("count", extra=counted(3, 0))).text == numbers(3)


async def test_answers_and_reloads_without_a_pause_between_them_lose_and_double_nothing(serving):
    async with serving() as (client, swapper):
        answers = []
        busy = True

        async def ask():
            while busy:
                answers.append(await client.infer("count", extra=counted(40, 200)))

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
            warm = 0
            for _ in range(6):
                warm += (await swapper.swap("default", "abacus", strategy="immediate")).warm_streams
            busy = False
        assert {answer.text for answer in answers} == {numbers(40)}
        assert warm > 0


async def test_a_journaled_answer_goes_on_from_its_journal_when_its_process_is_killed(serving):
    async with serving("journaled") as (client, _):
        status = await client.status()
        stream = client.stream("count", extra=counted(80, 100))
        for _ in range(20):
            await anext(stream)
        os.kill(instance_of(status, "journaled").pid, signal.SIGKILL)
        answer = await stream.response()
        assert answer.text == numbers(80)
        assert is_counted(answer.text)
        assert [move.reason for move in answer.moves] == ["driver_crashed"]


async def test_without_a_journal_an_answer_that_nobody_can_take_over_fails_as_ever(serving):
    async with serving() as (client, _):
        status = await client.status()
        stream = client.stream("count", extra=counted(80, 100))
        await anext(stream)
        os.kill(instance_of(status, "abacus").pid, signal.SIGKILL)
        with pytest.raises(ByenatosError):
            await stream.response()
