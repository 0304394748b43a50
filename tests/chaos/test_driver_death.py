"""Drivers that are killed, stopped, stuck or crash again and again, with streams running."""

import asyncio
import signal

import pytest
from kernel_process import (
    counting,
    instance_of,
    is_counted,
    numbers,
    signal_driver,
    slot_of,
    until,
    until_event,
    until_ready,
)
from plugin_folder import write_plugin

from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.control import DriverFailed, DriverRestarting, InstanceChanged
from byenatos_sdk.protocol.errors import ByenatosError, DriverCrashed, Unavailable
from byenatos_sdk.protocol.messages import InstanceState

STREAMS = 64


async def until_both_are_ready(client):
    """Wait for the slot's model and the fallback."""
    return await until(
        client, lambda status: [one.state for one in status.instances] == [InstanceState.READY, InstanceState.READY]
    )


def restarts(event):
    return isinstance(event, DriverRestarting)


async def begin(client, count, tokens=100, rate=100, **options):
    """Start streams and wait until each has said something."""
    streams = [client.stream("count", extra=counting(tokens, rate), **options) for _ in range(count)]
    for stream in streams:
        await anext(stream)
    return streams


async def read(stream):
    try:
        return await stream.response()
    except Unavailable as error:  # DriverCrashed is one
        return error


async def test_every_stream_of_a_killed_driver_goes_on_at_the_fallback_without_a_gap(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    async with kernel.client() as client:
        status = await until_both_are_ready(client)
        streams = await begin(client, STREAMS, tokens=200)
        signal_driver(status, "echo")
        answers = await asyncio.gather(*(stream.response() for stream in streams))
        assert {answer.text for answer in answers} == {numbers(200)}
        assert {answer.model for answer in answers} == {"echo-two"}
        for answer in answers:
            [moved] = answer.moves
            assert (moved.source, moved.target, moved.reason) == ("echo", "echo-two", "driver_crashed")


async def test_without_a_fallback_every_stream_of_a_killed_driver_ends_in_an_honest_failure(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        status = await until_ready(client)
        streams = await begin(client, STREAMS, tokens=1000)
        signal_driver(status, "echo")
        outcomes = await asyncio.gather(*(read(stream) for stream in streams))
        assert {type(outcome) for outcome in outcomes} == {DriverCrashed}
        assert all(outcome.partial for outcome in outcomes)
        assert all("SIGKILL" in outcome.message for outcome in outcomes)
        assert all(is_counted(stream.text) for stream in streams)


async def test_a_killed_driver_is_started_again_and_serves(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as watcher:
        status = await until_ready(client)
        await until_event(
            watcher, lambda event: isinstance(event, DriverRestarting), lambda: signal_driver(status, "echo")
        )
        again = await until_ready(client)
        assert instance_of(again, "echo").epoch > instance_of(status, "echo").epoch
        assert instance_of(again, "echo").restarts == 1
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_request_to_a_driver_that_is_about_to_restart_waits_for_it(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as watcher:
        status = await until_ready(client)
        await until_event(
            watcher, lambda event: isinstance(event, DriverRestarting), lambda: signal_driver(status, "echo")
        )
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_crash_loop_backs_off_and_ends_in_quarantine_and_load_revives_it(start_kernel, home):
    code = "import os\nfrom byenatos_sdk.driver import Driver\nWELL = False\n"
    code += "class Plugin(Driver):\n    async def start(self, model):\n        if not WELL:\n"
    code += "            print('not well', flush=True)\n            os._exit(7)\n"
    code += "    async def infer(self, request):\n        yield 'well'\n"
    kernel = start_kernel(default="frail")
    async with kernel.client() as client:
        delays = []
        async with client.events() as events:
            write_plugin(home, "frail", code)  # now, so that no crash is missed
            async for event in events:
                if isinstance(event, DriverRestarting):
                    delays.append(event.delay_s)
                if isinstance(event, DriverFailed) and len(delays) == 4:
                    break
        assert all(0.5 * 2**n <= delay <= 0.75 * 2**n for n, delay in enumerate(delays)), delays
        status = await until(client, lambda status: slot_of(status).state == "unavailable")
        assert "quarantined" in slot_of(status).detail
        assert "load frail" in slot_of(status).detail
        with pytest.raises(Unavailable, match="not well"):
            await client.infer("x")
        with pytest.raises(Unavailable, match="not well"):
            await client.load("frail")
        [ill] = [plugin.digest for plugin in (await client.status()).plugins if plugin.id == "frail"]
        (home.plugins / "frail" / "plugin.py").write_text(code.replace("WELL = False", "WELL = True"))
        await until(client, lambda status: {one.id: one.digest for one in status.plugins}["frail"] not in {"", ill})
        await client.load("frail")
        assert (await client.infer("x")).text == "well"


async def test_a_stopped_driver_is_degraded_then_killed_and_its_stream_goes_on_elsewhere(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    async with kernel.client() as client, kernel.client() as watcher:
        status = await until_both_are_ready(client)
        [stream] = await begin(client, 1, tokens=100)
        seen = []

        def failed(event):
            if isinstance(event, InstanceChanged) and event.instance.model == "echo":
                seen.append(event.instance.state)
            return isinstance(event, DriverFailed)

        event = await until_event(watcher, failed, lambda: signal_driver(status, "echo", signal.SIGSTOP))
        assert "heartbeat" in event.reason
        assert seen[0] is InstanceState.DEGRADED
        answer = await stream.response()
        assert (answer.text, answer.model) == (numbers(100), "echo-two")
        await until_ready(client)


async def test_a_driver_that_was_stopped_for_a_moment_is_ready_again_and_its_stream_complete(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as watcher:
        status = await until_ready(client)
        [stream] = await begin(client, 1, tokens=100)

        def is_now(state):
            return lambda event: isinstance(event, InstanceChanged) and event.instance.state is state

        await until_event(
            watcher, is_now(InstanceState.DEGRADED), lambda: signal_driver(status, "echo", signal.SIGSTOP)
        )
        await until_event(watcher, is_now(InstanceState.READY), lambda: signal_driver(status, "echo", signal.SIGCONT))
        answer = await stream.response()
        assert (answer.text, answer.moves) == (numbers(100), ())
        assert instance_of(await client.status(), "echo").pid == instance_of(status, "echo").pid


async def test_a_driver_whose_loop_is_blocked_is_killed_and_its_other_streams_go_on_elsewhere(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    async with kernel.client() as client, kernel.client() as watcher:
        await until_both_are_ready(client)
        [stream] = await begin(client, 1, tokens=150)
        guilty = []
        event = await until_event(
            watcher,
            lambda event: isinstance(event, DriverFailed),
            lambda: guilty.append(client.stream("x", extra=counting(10, fault="hang", fault_after=1))),
        )
        assert "blocked" in event.reason
        assert (await stream.response()).text == numbers(150)
        await guilty[0].aclose()


async def test_a_request_that_kills_every_driver_it_meets_is_not_passed_on_for_ever(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    async with kernel.client() as client:
        await until_both_are_ready(client)
        with pytest.raises(DriverCrashed):
            await client.infer("x", extra=counting(10, fault="crash", fault_after=0))
        await until_ready(client)
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_a_fallback_that_dies_as_well_ends_the_streams_honestly(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    async with kernel.client() as client:
        status = await until_both_are_ready(client)
        streams = await begin(client, 16, tokens=1000)
        signal_driver(status, "echo")
        signal_driver(status, "echo-two")
        outcomes = await asyncio.gather(*(read(stream) for stream in streams))
        assert {type(outcome) for outcome in outcomes} == {DriverCrashed}
        assert all(is_counted(stream.text) for stream in streams)
        await until_ready(client)


async def test_a_driver_killed_while_it_drains_after_a_swap_leaves_its_stream_to_the_new_model(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        status = await until_ready(client)
        [stream] = await begin(client, 1, tokens=150)
        await client.swap("default", "echo-two")
        signal_driver(status, "echo")
        answer = await stream.response()
        assert (answer.text, answer.model, len(answer.moves)) == (numbers(150), "echo-two", 1)
        status = await until(client, lambda status: [one.model for one in status.instances] == ["echo-two"])


async def test_sigterm_to_a_driver_from_outside_is_a_crash_like_any_other(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    async with kernel.client() as client:
        status = await until_both_are_ready(client)
        [stream] = await begin(client, 1, tokens=100)
        signal_driver(status, "echo", signal.SIGTERM)
        answer = await stream.response()
        assert (answer.text, answer.model) == (numbers(100), "echo-two")
        await until_ready(client)


def serves(status, model, after):
    """Whether a process of ``model`` later than the one of epoch ``after`` serves."""
    one = instance_of(status, model)
    return one is not None and one.epoch > after and one.state is InstanceState.READY


async def test_killing_drivers_at_random_loses_and_doubles_nothing(start_kernel):
    kernel = start_kernel(fallback="echo-two")
    killing = True
    outcomes = []

    async def ask_again_and_again(client):
        while killing:
            stream = client.stream("count", extra=counting(60, 100))
            outcome = await read(stream)
            outcomes.append(outcome)
            if isinstance(outcome, Unavailable):
                assert is_counted(stream.text)
            else:
                assert outcome.text == numbers(60)

    async with kernel.client() as client, kernel.client() as watcher:
        await until_both_are_ready(client)
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(ask_again_and_again(client))
            killed = {"echo": 0, "echo-two": 0}
            for model in ("echo", "echo-two", "echo-two", "echo"):
                status = await until(watcher, lambda status, model=model: serves(status, model, killed[model]))
                killed[model] = instance_of(status, model).epoch
                signal_driver(status, model)
            killing = False
        await until(watcher, lambda status: status.streams == 0)
    assert len(outcomes) >= 16


@pytest.mark.skipif("seccomp" in missing(), reason="this machine does not filter system calls")
async def test_a_driver_that_would_start_a_process_is_refused_and_serves_on(start_kernel, home):
    code = "import subprocess, sys\nfrom byenatos_sdk.driver import Driver\n"
    code += "class Plugin(Driver):\n    async def infer(self, request):\n"
    code += "        child = subprocess.Popen(['/bin/sleep', '1000'])\n        yield str(child.pid)\n"
    write_plugin(home, "forking", code)
    kernel = start_kernel(default="forking")
    async with kernel.client() as client:
        before = await until_ready(client)
        for _ in range(2):
            with pytest.raises(ByenatosError, match="PermissionError"):
                await client.infer("x")
        after = await client.status()
        assert [one.pid for one in after.instances] == [one.pid for one in before.instances]
