"""What clients may do, in every order: cancel, leave, die, ask too much, ask wrongly."""

import asyncio
import signal
import subprocess
import sys

import pytest
from kernel_process import (
    CEILING_S,
    counting,
    instance_of,
    is_counted,
    numbers,
    signal_driver,
    slot_of,
    until,
    until_ready,
)
from plugin_folder import write_plugin

from byenatos_sdk.client import Client
from byenatos_sdk.protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    DriverCrashed,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unavailable,
)
from byenatos_sdk.protocol.frames import Bye, Cancel, Hello, Open, Pause, Refused, encode
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, assistant, user

SLOW_START = """
import asyncio, signal
from byenatos_sdk.driver import Driver

class Plugin(Driver):
    async def start(self, model):
        go = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
        await go.wait()
    async def infer(self, request):
        yield "loaded"
"""


# ---- answers ---------------------------------------------------------------------------------------------------


async def test_an_answer_comes_whole_with_its_usage_and_model(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        answer = await client.infer("count", extra=counting(100))
        assert (answer.text, answer.reason, answer.model) == (numbers(100), "stop", "echo")
        assert answer.usage.output_tokens == 100


async def test_an_answer_that_has_begun_is_continued(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        answer = await client.infer([user("count"), assistant("0 1 2 ")], extra=counting(6))
        assert answer.text == "3 4 5 "


def test_the_blocking_client_asks_swaps_and_lists(kernel):
    with Client(kernel.home) as client:
        while client.slots()[0].state != "ready":
            pass
        assert client.infer("count", extra=counting(3)).text == numbers(3)
        client.swap("default", "echo-two")
        assert client.infer("count", extra=counting(3)).model == "echo-two"
        client.swap("default", "echo")
        assert {model.id for model in client.models()} >= {"echo", "echo-two"}


async def test_a_thousand_requests_at_once_are_each_answered_with_their_own_answer(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        answers = await asyncio.gather(*(client.infer(f"number {n}") for n in range(1000)))
        assert [answer.text for answer in answers] == [f"number {n}" for n in range(1000)]


async def test_a_megabyte_goes_there_and_back(kernel):
    text = ("\N{SNOWMAN}" * 3500 + " ") * 100  # fewer words than frames may be on their way: however late it reads
    async with kernel.client() as client:
        await until_ready(client)
        assert (await client.infer(text)).text == text


async def test_a_request_waits_for_a_model_that_is_still_loading(start_kernel, home):
    write_plugin(home, "slow", SLOW_START)
    kernel = start_kernel(default="slow")
    async with kernel.client() as client:
        await until(client, lambda status: slot_of(status).state == "loading")
        answers = [asyncio.create_task(client.infer("x")) for _ in range(10)]
        await until(client, lambda status: status.streams == 10)
        await until(client, lambda status: instance_of(status, "slow").pid)
        # a signal that comes before its handler is there is lost: sent until it is heeded
        await until(client, lambda status: signal_driver(status, "slow", signal.SIGUSR1) or not status.streams)
        assert {(await answer).text for answer in answers} == {"loaded"}


async def test_requests_for_a_model_that_is_unloaded_while_it_loads_are_told(start_kernel, home):
    write_plugin(home, "slow", SLOW_START)
    kernel = start_kernel()
    async with kernel.client() as client, kernel.client() as other:
        await until_ready(client)
        loading = asyncio.create_task(other.load("slow"))
        await until(client, lambda status: instance_of(status, "slow"))
        waiting = asyncio.create_task(client.infer("x", model="slow"))
        await until(client, lambda status: status.streams == 1)
        await client.unload("slow")
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await loading
        await until(client, lambda status: [one.model for one in status.instances] == ["echo"])


# ---- refusals --------------------------------------------------------------------------------------------------


async def test_an_empty_slot_says_what_to_do(start_kernel, home):
    kernel = start_kernel(default=None)
    async with kernel.client() as client:
        assert slot_of(await client.status()).state == "empty"
        with pytest.raises(Unavailable, match="drop a model file") as caught:
            await client.infer("x")
        assert str(home.models) in caught.value.message


async def test_an_unknown_target_is_answered_with_what_there_is(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(NotFound, match="default"):
            await client.infer("x", model="nothing")


async def test_a_model_that_is_not_loaded_says_how_to_load_it(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(Unavailable, match="models load echo-two"):
            await client.infer("x", model="echo-two")


async def test_more_models_than_allowed_are_refused_with_the_key_that_says_so(start_kernel):
    kernel = start_kernel(max_concurrent_models=1)
    async with kernel.client() as client:
        await until_ready(client)
        with pytest.raises(Overloaded, match="max_concurrent_models"):
            await client.load("echo-two")


async def test_of_2000_streams_on_one_connection_those_above_the_cap_are_refused_and_the_rest_complete(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        streams = [client.stream("count", extra=counting(20, 20)) for _ in range(2000)]
        outcomes = await asyncio.gather(*(stream.response() for stream in streams), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
        complete = [outcome.text for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(refused) + len(complete) == 2000
        assert 512 <= len(complete) < 2000
        assert set(complete) == {numbers(20)}
        assert not any(error.partial for error in refused)


async def test_a_request_that_is_no_request_fails_alone(kernel, raw):
    async with kernel.client() as client:
        await until_ready(client)
    peer = raw(kernel.home)
    peer.hello()
    peer.send(Open(1, "default"), b"\xc1")
    peer.send(Open(2, "default", "talk"), b"\xc1")
    peer.send(Open(3, "default"), encode(InferenceRequest(())))
    peer.send(Open(4, "default", "talk"), encode(InferenceRequest(())))
    peer.send(Open(5, "default", "x" * 1000), encode(InferenceRequest((user("x"),))))
    peer.open(6)
    peer.read(lambda: len(peer.terminals) == 6)
    ends = {number: terminals[0] for number, terminals in peer.terminals.items()}
    assert {ends[number].code for number in (1, 2, 4, 5)} == {"invalid_request"}
    assert isinstance(ends[6], Finish)


# ---- cancelling and leaving ------------------------------------------------------------------------------------


async def test_leaving_a_stream_stops_it_at_the_driver(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        async with client.stream("count", extra=counting(-1, 50)) as stream:
            await anext(stream)
            assert instance_of(await client.status(), "echo").streams == 1
        status = await until(client, lambda status: status.streams == 0)
        assert instance_of(status, "echo").streams == 0


async def test_a_driver_really_stops_generating_when_its_stream_is_left(start_kernel, home):
    code = "import asyncio\nfrom byenatos_sdk.driver import Driver\nopen_streams = 0\nclass Plugin(Driver):\n"
    code += "    async def infer(self, request):\n        global open_streams\n"
    code += "        if request.messages[-1].text == 'how many': yield str(open_streams); return\n"
    code += "        open_streams += 1\n        try:\n            while True:\n                yield 'x'\n"
    code += "                await asyncio.sleep(0.01)\n        finally: open_streams -= 1\n"
    write_plugin(home, "watched", code)
    kernel = start_kernel(default="watched")
    async with kernel.client() as client:
        await until_ready(client)
        streams = [client.stream("go") for _ in range(5)]
        for stream in streams:
            await anext(stream)
        assert (await client.infer("how many")).text == "5"
        for stream in streams:
            await stream.aclose()
        while (await client.infer("how many")).text != "0":
            pass


@pytest.mark.parametrize("moment", ["at once", "while it waits", "while it runs", "after its end", "twice", "unknown"])
async def test_a_cancelled_stream_ends_in_exactly_one_terminal(start_kernel, raw, home, moment):
    write_plugin(home, "slow", SLOW_START)
    kernel = start_kernel(slots={"slow": "slow"})
    async with kernel.client() as client:
        await until_ready(client)
        await until(client, lambda status: slot_of(status, "slow").state == "loading")
        peer = raw()
        peer.hello()
        match moment:
            case "at once":
                peer.open(1, tokens=-1, rate=100)
                peer.send(Cancel(1))
            case "while it waits":
                peer.open(1, target="slow")
                await until(client, lambda status: status.streams == 1)
                peer.send(Cancel(1))
            case "while it runs" | "twice":
                peer.open(1, tokens=-1, rate=100)
                peer.read(lambda: 1 in peer.texts)
                for _ in range(2 if moment == "twice" else 1):
                    peer.send(Cancel(1))
            case "after its end":
                peer.open(1, tokens=3)
                peer.read(lambda: 1 in peer.terminals)
                peer.send(Cancel(1))
            case "unknown":
                peer.send(Cancel(99))
                peer.open(1, tokens=3)
        peer.read(lambda: 1 in peer.terminals)
        peer.open(2, tokens=3)
        peer.read(lambda: 2 in peer.terminals)
        [terminal] = peer.terminals[1]
        if moment in {"after its end", "unknown"}:
            assert isinstance(terminal, Finish)
        else:
            assert isinstance(terminal, Failure)
            assert terminal.code == "cancelled"
        assert list(peer.terminals) == [1, 2]
        await until(client, lambda status: status.streams == 0)


async def test_cancelling_the_task_that_asks_cancels_at_the_kernel(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        asking = asyncio.create_task(client.infer("count", extra=counting(-1, 50)))
        await until(client, lambda status: status.streams == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        status = await until(client, lambda status: status.streams == 0)
        assert instance_of(status, "echo").streams == 0


async def test_the_streams_of_a_killed_client_are_stopped(start_kernel):
    kernel = start_kernel()
    code = "import sys\nfrom byenatos_sdk.client import Client\nclient = Client(sys.argv[1]).__enter__()\n"
    code += "streams = [client.stream('x', extra={'echo': {'tokens': -1, 'rate': 20}}) for _ in range(32)]\n"
    code += "[next(iter(stream)) for stream in streams]\nprint('running', flush=True)\nsys.stdin.read()\n"
    async with kernel.client() as client:
        await until_ready(client)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(kernel.home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert await asyncio.to_thread(process.stdout.readline) == b"running\n"
            assert (await client.status()).streams == 32
            process.send_signal(signal.SIGKILL)
        status = await until(client, lambda status: status.streams == 0 and status.clients == 1)
        assert instance_of(status, "echo").streams == 0


async def test_the_silent_streams_of_a_killed_client_are_stopped_too(start_kernel):
    kernel = start_kernel()
    code = "import sys\nfrom byenatos_sdk.client import Client\nclient = Client(sys.argv[1]).__enter__()\n"
    code += "stream = client.stream('x', extra={'echo': {'tokens': 5, 'fault': 'silent'}})\n"
    code += "print(client.status().streams, flush=True)\nsys.stdin.read()\n"
    async with kernel.client() as client:
        await until_ready(client)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(kernel.home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert await asyncio.to_thread(process.stdout.readline) == b"1\n"
            process.send_signal(signal.SIGKILL)
        await until(client, lambda status: status.streams == 0 and status.clients == 1)


async def test_a_client_that_says_goodbye_is_forgotten_with_its_streams(start_kernel, raw):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        peer = raw()
        peer.hello()
        peer.open(1, tokens=-1, rate=50)
        peer.read(lambda: 1 in peer.texts)
        peer.send(Bye())
        status = await until(client, lambda status: status.streams == 0 and status.clients == 1)
        assert instance_of(status, "echo").streams == 0


# ---- time limits and pauses ------------------------------------------------------------------------------------


async def test_an_answer_that_takes_longer_than_its_limit_ends_with_what_it_has(kernel):
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(-1, 50), timeout_s=0.5)
        with pytest.raises(DeadlineExceeded, match="timeout_s") as caught:
            await stream.response()
        assert caught.value.partial
        assert is_counted(stream.text)
        await until(client, lambda status: status.streams == 0)


@pytest.mark.parametrize("after", [0, 3])
async def test_a_driver_that_falls_silent_ends_the_stream_at_its_gap_limit(kernel, after):
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(9, fault="silent", fault_after=after), gap_timeout_s=0.3)
        with pytest.raises(DeadlineExceeded, match="gap_timeout_s") as caught:
            await stream.response()
        assert caught.value.partial is bool(after)
        assert stream.text == numbers(after)


async def test_a_limit_runs_while_the_request_waits_for_a_model(start_kernel, home):
    write_plugin(home, "slow", SLOW_START)
    kernel = start_kernel(default="slow")
    async with kernel.client() as client:
        await until(client, lambda status: slot_of(status).state == "loading")
        with pytest.raises(DeadlineExceeded) as caught:
            await client.infer("x", timeout_s=0.3)
        assert not caught.value.partial


async def test_a_paused_stream_sends_nothing_until_it_goes_on_and_then_everything(kernel, raw):
    async with kernel.client() as client:
        await until_ready(client)
        peer = raw(kernel.home)
        peer.hello()
        peer.open(1, tokens=100, rate=200)
        peer.send(Pause(1, True))
        peer.open(2, tokens=200, rate=200)
        peer.read(lambda: 2 in peer.terminals)
        assert 1 not in peer.terminals
        assert len(peer.text(1).split()) < 50
        peer.send(Pause(1, False))
        peer.read(lambda: 1 in peer.terminals)
        assert peer.text(1) == numbers(100)


# ---- bad manners -----------------------------------------------------------------------------------------------


async def test_a_stream_number_that_is_in_use_ends_the_connection_with_a_reason(kernel, raw):
    async with kernel.client() as client:
        await until_ready(client)
        peer = raw(kernel.home)
        peer.hello()
        peer.open(1, tokens=-1, rate=50)
        peer.open(1, tokens=-1, rate=50)
        peer.read(lambda: len(peer.handshakes) == 2)
        assert isinstance(peer.handshakes[1], Refused)
        assert "already running" in peer.handshakes[1].reason
        assert [terminal.code for terminal in peer.terminals[1]] == ["invalid_request"]
        await until(client, lambda status: status.streams == 0)


@pytest.mark.parametrize(
    "frames",
    [
        (b"\xc1", b""),
        (b"", b""),
        (b"\x92\x63\x01", b""),
        (b"\x93\x01\xa1x\xa1y", b""),
        (encode(Open(1, "default")), b"", b""),
        (encode(Hello((1,))),),
        (b"\x91" * 100_000, b""),
        (encode(Hello((99,))), b""),
    ],
    ids=["rubbish", "empty", "unknown-kind", "wrong-type", "three-frames", "one-frame", "nested", "unknown-major"],
)
async def test_a_message_that_cannot_be_read_ends_the_connection_with_a_reason(kernel, raw, frames):
    async with kernel.client() as client:
        await until_ready(client)
        peer = raw(kernel.home)
        peer.send_raw(*frames)
        peer.read(lambda: peer.handshakes)
        assert isinstance(peer.handshakes[0], Refused)
        assert peer.handshakes[0].reason
        assert (await client.infer("count", extra=counting(3))).text == numbers(3)


async def test_an_id_of_64_bits_is_as_good_as_any(kernel, raw):
    async with kernel.client() as client:
        await until_ready(client)
        peer = raw(kernel.home)
        peer.hello()
        peer.open(2**63 - 1, tokens=3)
        peer.open(-1, tokens=3)
        peer.read(lambda: len(peer.terminals) == 2)
        assert peer.text(2**63 - 1) == peer.text(-1) == numbers(3)


async def test_a_client_that_closes_gets_cancelled_for_what_ran(kernel):
    client = kernel.client()
    async with client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(-1, 50))
        await anext(stream)
    with pytest.raises(Cancelled):
        await stream.response()


async def test_a_kernel_that_dies_ends_every_wait_of_its_clients(start_kernel):
    kernel = start_kernel()
    async with kernel.client() as client:
        await until_ready(client)
        stream = client.stream("count", extra=counting(5, fault="silent"))
        events = client.events()
        await client.status()
        waits = [asyncio.ensure_future(stream.response()), asyncio.ensure_future(anext(events))]
        kernel.kill()
        async with asyncio.timeout(CEILING_S):
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert isinstance(outcomes[0], Unavailable)
        assert not isinstance(outcomes[0], DriverCrashed | InvalidRequest)
        assert isinstance(outcomes[1], Unavailable | StopAsyncIteration)
