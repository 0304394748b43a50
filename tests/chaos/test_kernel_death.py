"""Kernels that are killed, stopped, started twice or given what they cannot use."""

import asyncio
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack

import pytest
from kernel_process import (
    CEILING_S,
    KernelProcess,
    counting,
    instance_of,
    is_counted,
    numbers,
    until,
    until_ready,
    write_config,
)
from plugin_folder import write_plugin
from tests.sandbox.nested_folders import nest

from byenatos_sdk.client import KernelNotRunning
from byenatos_sdk.home import Home
from byenatos_sdk.protocol.errors import Draining, Unavailable
from byenatos_sdk.protocol.messages import SwapState

HANGING = """
import threading
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def start(self, model):
        threading.Event().wait()
    async def infer(self, request):
        yield ""
"""
SPEECHLESS = """
import asyncio
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def infer(self, request):
        await asyncio.Event().wait()
        yield ""
"""


async def begin(client, count=1, tokens=-1, rate=50, **options):
    streams = [client.stream("count", extra=counting(tokens, rate), **options) for _ in range(count)]
    for stream in streams:
        await anext(stream)
    return streams


async def failure(stream):
    with pytest.raises(Unavailable) as caught:
        await stream.response()
    return caught.value


async def refused(client):
    """Ask until the kernel has seen the signal that was sent to it; the error of the request that it refused."""
    while True:
        try:
            await client.infer("count", extra=counting(3))
        except Unavailable as error:
            return error


# ---- killed ----------------------------------------------------------------------------------------------------


async def test_a_killed_kernel_leaves_no_process_behind(start_kernel, home):
    write_plugin(home, "hanging", HANGING)
    kernel = start_kernel(fallback="echo-two", slots={"third": "hanging"})
    async with kernel.client() as client:
        await until(client, lambda status: sum(one.state.value == "ready" for one in status.instances) == 2)
        [stream] = await begin(client)
        assert len(kernel.family()) >= 3  # and what the next driver will be made from
        assert kernel.kill() == []
        error = await failure(stream)
        assert error.partial


async def test_after_a_kill_the_next_kernel_lists_the_session_and_the_conversation_goes_on_in_it(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.session("talk").infer("first", extra={"echo": {}})
        stream = client.session("talk").stream("second", extra=counting(-1, 50))
        await anext(stream)
        kernel.kill()
        await failure(stream)
    assert kernel.home.socket.exists()
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        [session] = await client.sessions()
        assert (session.id, session.turns) == ("talk", 3)
        answer = await client.session("talk").infer("third", extra={"echo": {}})
        assert answer.text == "third"
        turns = (await client.transcript("talk")).turns
        assert [(turn.message.role, turn.message.text) for turn in turns] == [
            ("user", "first"),
            ("assistant", "first"),
            ("user", "second"),
            ("user", "third"),
            ("assistant", "third"),
        ]


async def test_a_kernel_killed_in_the_middle_of_a_swap_serves_the_old_model_and_tells_how_the_swap_ended(
    start_kernel, home
):
    write_plugin(home, "hanging", HANGING)
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        swap = asyncio.create_task(client.swap("default", "hanging"))
        await until(other, lambda status: status.slots[0].swap and status.slots[0].swap.state is SwapState.PREPARING)
        kernel.kill()
        with pytest.raises(Unavailable):
            await swap
    async with start_kernel().client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).model == "echo"
        [swap] = await client.swaps()
        assert (swap.state, swap.target) == (SwapState.FAILED, "hanging")
        assert (await client.swap("default", "echo-two")).id > swap.id


async def test_a_kernel_killed_while_a_swap_tests_its_target_serves_the_old_model(start_kernel, home):
    write_plugin(home, "speechless", SPEECHLESS, extra="self_test = true")
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        swap = asyncio.create_task(client.swap("default", "speechless"))
        await until(other, lambda status: (one := instance_of(status, "speechless")) and one.state.value == "ready")
        kernel.kill()
        with pytest.raises(Unavailable):
            await swap
    async with start_kernel().client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).model == "echo"
        assert [swap.state for swap in await client.swaps()] == [SwapState.FAILED]


async def test_a_kernel_killed_while_a_prepared_swap_waits_for_its_slot_serves_the_old_model(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        [stream] = await begin(client)
        swap = asyncio.create_task(client.swap("default", "echo-two", strategy="background"))
        await until(other, lambda status: status.slots[0].swap and status.slots[0].swap.state is SwapState.PREPARED)
        kernel.kill()
        with pytest.raises(Unavailable):
            await swap
        await failure(stream)
    async with start_kernel().client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).model == "echo"
        assert [swap.state for swap in await client.swaps()] == [SwapState.FAILED]


async def test_a_kernel_killed_while_the_old_model_drains_serves_the_new_one(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        [stream] = await begin(client)
        await client.swap("default", "echo-two")
        assert kernel.kill() == []
        await failure(stream)
    async with start_kernel().client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).model == "echo-two"
        assert [swap.state for swap in await client.swaps()] == [SwapState.RETIRED]


def test_a_kernel_that_is_killed_again_and_again_while_it_starts_leaves_nothing_behind(start_kernel, home):
    for _ in range(5):
        kernel = start_kernel(fallback="echo-two")
        assert kernel.kill() == []
    assert start_kernel(fallback="echo-two").stop() == 0


def test_what_a_killed_kernel_left_of_a_scratch_folder_does_not_keep_the_next_from_starting(start_kernel, home):
    kernel = start_kernel(fallback="echo-two")
    kernel.kill()
    nest(home.scratch, sys.getrecursionlimit())
    assert start_kernel(fallback="echo-two").stop() == 0


# ---- stopped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopping_kernel_ends_running_streams_as_draining_with_what_they_have(start_kernel, number):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        streams = await begin(client, 16)
        kernel.process.send_signal(number)
        for error in await asyncio.gather(*(failure(stream) for stream in streams)):
            assert isinstance(error, Draining)
            assert error.partial
        assert all(is_counted(stream.text) for stream in streams)
        assert await asyncio.to_thread(kernel.wait) == 0
        assert not kernel.home.socket.exists()


async def test_a_stopping_kernel_lets_a_stream_end_that_is_nearly_done_and_takes_no_new_one(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        [stream] = await begin(client, tokens=30, rate=50)
        kernel.process.send_signal(signal.SIGTERM)
        error = await refused(client)
        assert isinstance(error, Draining)
        assert (await stream.response()).text == numbers(30)
        assert not error.partial
        assert await asyncio.to_thread(kernel.wait) == 0


async def test_a_second_signal_stops_the_kernel_at_once_with_all_that_it_started(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        [stream] = await begin(client)
        family = kernel.family()
        kernel.process.send_signal(signal.SIGINT)
        await refused(client)
        kernel.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(kernel.wait) == 130
        assert family.left() == []
        await failure(stream)


async def test_a_kernel_stops_while_a_driver_hangs_in_its_start(start_kernel, home):
    write_plugin(home, "hanging", HANGING)
    kernel = start_kernel(default="hanging")
    async with kernel.client() as client:
        await until(client, lambda status: status.instances)
        assert kernel.stop() == 0


async def test_a_kernel_stops_while_a_driver_is_blocked_with_a_stream(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(10, fault="hang", fault_after=3))
        await anext(stream)
        assert await asyncio.to_thread(kernel.stop) == 0
        await failure(stream)


async def test_a_kernel_stops_although_a_client_does_not_read(start_kernel, raw):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
    flood = raw()
    flood.hello()
    for number in range(1, 17):
        flood.open(number, tokens=-1)
    async with kernel.client() as client:
        await until(client, lambda status: status.deltas > 100_000)
    assert kernel.stop() == 0


async def test_a_stopping_kernel_stores_what_was_said_in_a_session(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        [stream] = await begin(client, session="talk")
        kernel.process.send_signal(signal.SIGTERM)
        await failure(stream)
        await asyncio.to_thread(kernel.wait)
    async with start_kernel().client() as client:
        question, answer = (await client.transcript("talk")).turns
        assert (question.message.text, answer.state) == ("count", "partial")
        assert answer.message.text == stream.text


async def test_the_shutdown_call_stops_the_kernel_in_good_order(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.shutdown()
    assert await asyncio.to_thread(kernel.wait) == 0


# ---- side by side ----------------------------------------------------------------------------------------------


async def test_two_kernels_for_two_homes_do_not_know_of_each_other(start_kernel, tmp_path):
    one, two = start_kernel(), start_kernel(Home(tmp_path / "two"))
    async with one.client() as first, two.client() as second:
        await until_ready(first)
        await until_ready(second)
        await first.swap("default", "echo-two")
        await first.session("talk").infer("x")
        assert (await second.infer("x", extra=counting(3))).model == "echo"
        assert await second.sessions() == []
        one.kill()
        assert (await second.infer("x", extra=counting(3))).text == numbers(3)


def test_a_second_kernel_on_the_same_home_is_refused_and_told_the_pid_of_the_first(start_kernel):
    first = start_kernel()
    second = start_kernel(wait=False)
    assert second.wait() == 3
    assert str(first.pid) in second.log
    assert "already running" in second.log


def test_of_several_kernels_started_at_once_on_one_home_exactly_one_serves(start_kernel):
    kernels = [start_kernel(wait=False) for _ in range(4)]
    serving = [kernel for kernel in kernels if not _exits(kernel)]
    assert len(serving) == 1
    assert {kernel.process.returncode for kernel in kernels if kernel is not serving[0]} == {3}
    serving[0].wait_until_it_listens()


def _exits(kernel: KernelProcess) -> bool:
    try:
        kernel.wait_until_it_listens()
    except AssertionError:
        return True
    return kernel.process.poll() is not None


async def test_a_home_with_a_very_long_path_works(start_kernel, tmp_path):
    home = Home(tmp_path / ("long" * 20) / ("longer" * 20))
    kernel = start_kernel(home)
    async with kernel.client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).text == numbers(3)
    assert kernel.stop() == 0
    shutil.rmtree(home.run)


async def test_a_home_with_strange_characters_in_its_path_works(start_kernel, tmp_path):
    kernel = start_kernel(Home(tmp_path / "ein Haus: #1 %41 \N{SNOWMAN} 'x'\\"))
    async with kernel.client() as client:
        await until_ready(client)
        assert (await client.infer("x", extra=counting(3))).text == numbers(3)


async def test_a_kernel_started_with_few_descriptors_survives_more_connections_than_that(start_kernel):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        kernel = start_kernel()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    async with kernel.client() as client:
        await until_ready(client)
        with ExitStack() as connections:
            for _ in range(256):
                one = connections.enter_context(socket.socket(socket.AF_UNIX))
                one.connect(str(kernel.home.socket))  # without a timeout: with one, a full backlog is an error
            assert (await client.infer("x", extra=counting(3))).text == numbers(3)


# ---- what it cannot use ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"llm_driver_config": {"max_models": 3}}', ["llm_driver_config", "max_models", "max_concurrent_models"]),
        ('{"llm_driver_config": {"max_concurrent_models": "3"}}', ["max_concurrent_models", "int", "str"]),
        ('{"llm_driver_config": {"max_concurrent_models": 0}}', ["max_concurrent_models", ">= 1", "0"]),
        ('{"model_config": [{"model_id": "x"}]}', ["model_config[0]", "vendor"]),
        ('{"model_config": {"model_id": "x", "vendor": "y", "api_key": "sk-123"}}', ["api_key", "${"]),
        ('{"slots": {"a": ""}}', ["slots"]),
        ('{"slots": {"a": "b"}, "slots": {}}', ["slots", "twice"]),
        ("{", ["JSON"]),
        ("[]", ["object", "array"]),
        ("\udcff", ["JSON"]),
        ("[" * 100_000, ["JSON"]),
    ],
)
def test_a_bad_configuration_is_refused_with_file_key_and_what_was_expected(start_kernel, home, text, words):
    home.path.mkdir()
    home.config.write_bytes(text.encode(errors="surrogateescape"))
    kernel = start_kernel(configured=False, wait=False)
    assert kernel.wait() == 2
    assert str(home.config) in kernel.log
    for word in words:
        assert word in kernel.log
    assert "sk-123" not in kernel.log


def test_a_database_of_another_kind_is_refused_in_a_sentence(start_kernel, home):
    home.create()
    home.database.write_bytes(b"not a database at all" * 100)
    kernel = start_kernel(wait=False)
    assert kernel.wait() == 1
    assert str(home.database) in kernel.log


def test_a_home_that_is_a_file_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "file"
    path.touch()
    done = subprocess.run(
        [sys.executable, "-m", "byenatos_kernel.daemon", "--home", str(path)],
        capture_output=True,
        text=True,
        timeout=CEILING_S,
        check=False,
    )
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_locked_database_fails_the_turn_and_not_the_kernel(start_kernel, home):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        await client.session("talk").infer("x")
        with sqlite3.connect(home.database, isolation_level=None) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            turn = client.session("talk").stream("y")
            assert (await client.infer("x", extra=counting(3))).text == numbers(3)
            connection.execute("ROLLBACK")
        connection.close()
        assert (await turn.response()).text == "y"


async def test_a_client_of_a_home_without_a_kernel_is_told_how_to_start_one(home):
    write_config(home)
    home.create()
    with pytest.raises(KernelNotRunning, match="byenatos up"):
        async with KernelProcess.client(_Nobody(home)):
            pass


class _Nobody:
    def __init__(self, home):
        self.home = home
