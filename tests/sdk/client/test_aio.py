import asyncio
import gc
import os
import signal
import socket

import msgspec
import pytest

from byenatos_sdk.client import AsyncClient, KernelNotRunning, link
from byenatos_sdk.client.core import PAUSE_ABOVE
from byenatos_sdk.protocol import control
from byenatos_sdk.protocol.errors import (
    Cancelled,
    DriverCrashed,
    NotFound,
    RateLimited,
    Unavailable,
)
from byenatos_sdk.protocol.frames import (
    Ack,
    Bye,
    Call,
    Cancel,
    Hello,
    Notice,
    Open,
    Pause,
    Refused,
    Reply,
    decode_request,
    encode,
)
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InstanceState,
    Message,
    Moved,
    SessionInfo,
    SessionMove,
    SwapEvent,
    SwapState,
    Text,
    TextDelta,
    user,
)
from byenatos_sdk.protocol.versions import MAJORS

CEILING_S = 30


def run(main):
    async def bounded():
        async with asyncio.timeout(CEILING_S):
            await main()

    asyncio.run(bounded())


@pytest.fixture
def answers(peer, greet):
    """Make the kernel answer every stream with these events."""

    def set_answers(*events):
        def script(peer, header, body):
            greet(peer, header, body)
            if isinstance(header, Open):
                for event in events:
                    peer.say((header.id, event))

        peer.script = script

    return set_answers


@pytest.fixture
def replies(peer, greet):
    """Make the kernel answer every call with these events."""

    def set_replies(*events):
        def script(peer, header, body):
            greet(peer, header, body)
            if isinstance(header, Call):
                peer.say(*((header.id, event) for event in events))

        peer.script = script

    return set_replies


# ---- connecting ------------------------------------------------------------------------------------------------


def test_connecting_greets_the_kernel_and_leaving_says_goodbye(home, peer):
    async def main():
        async with AsyncClient(home, name="tests"):
            pass
        await asyncio.to_thread(peer.wait_for, Bye)

    run(main)
    (hello,) = peer.headers(Hello)
    assert (hello.majors, hello.features, hello.name) == (MAJORS, ("moved", "pause", "triggers"), "tests")


def test_without_a_kernel_the_error_says_what_to_do(home):
    async def main():
        with pytest.raises(KernelNotRunning, match=r"start one with `byenatos up`"):
            await AsyncClient(home.path).connect()

    run(main)


def test_something_that_listens_and_never_answers_costs_the_timeout_and_no_more(home):
    async def main():
        home.create()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(home.socket))
            silent.listen(8)
            with pytest.raises(KernelNotRunning, match=r"within 0.05 s although something listens"):
                await AsyncClient(home, connect_timeout_s=0.05).connect()

    run(main)


def test_a_listener_that_hangs_up_at_once_is_no_kernel(home):
    async def main():
        home.create()
        with socket.socket(socket.AF_UNIX) as rude:
            rude.bind(str(home.socket))
            rude.listen(8)
            connecting = asyncio.create_task(AsyncClient(home).connect())
            for _ in range(2):  # the first one only asks whether anybody listens
                (await asyncio.to_thread(rude.accept))[0].close()
            with pytest.raises(KernelNotRunning, match="ended before the handshake"):
                await connecting

    run(main)


def test_a_kernel_that_refuses_is_quoted(home, peer):
    peer.script = lambda peer, header, body: peer.say((0, Refused("expected protocol 2, found 1; upgrade")))

    async def main():
        client = AsyncClient(home)
        with pytest.raises(Unavailable, match="expected protocol 2, found 1; upgrade"):
            await client.connect()
        with pytest.raises(Unavailable, match="never connected"):
            client.stream("Hi")

    run(main)


def test_a_client_that_is_not_connected_says_so(home):
    async def main():
        with pytest.raises(Unavailable, match="async with"):
            AsyncClient(home).stream("Hi")

    run(main)


def test_a_client_connects_once(home, peer):
    async def main():
        async with AsyncClient(home) as client:
            with pytest.raises(RuntimeError, match="make a new AsyncClient"):
                await client.connect()

    run(main)


# ---- streams ---------------------------------------------------------------------------------------------------


def test_a_stream_yields_every_delta_and_ends_after_finish(home, peer, answers):
    deltas = [TextDelta("It "), Moved("a", "b", "swap"), TextDelta("is."), Finish("stop", model="b")]
    answers(*deltas)

    async def main():
        async with AsyncClient(home) as client, client.stream("Why?", max_tokens=5) as stream:
            assert [delta async for delta in stream] == deltas
            assert (stream.text, stream.finish, stream.moves) == ("It is.", deltas[3], (deltas[1],))
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main)
    request = decode_request(peer.bodies(Open)[0])
    assert request.messages == (user("Why?"),)
    assert request.sampling.max_tokens == 5
    assert peer.headers(Cancel) == []


def test_infer_returns_the_whole_answer(home, answers):
    answers(TextDelta("It "), TextDelta("is."), Finish())

    async def main():
        async with AsyncClient(home) as client:
            response = await client.infer("Why?")
            assert response.message == Message("assistant", (Text("It is."),))

    run(main)


def test_many_streams_at_once_get_each_their_own_answer(home, peer, greet):
    def script(peer, header, body):
        greet(peer, header, body)
        if isinstance(header, Open):
            text = decode_request(body).messages[0].text
            peer.say((header.id, TextDelta(text)), (header.id, Finish()))

    peer.script = script

    async def main():
        async with AsyncClient(home) as client:
            responses = await asyncio.gather(*(client.infer(str(number)) for number in range(3000)))
            assert [response.text for response in responses] == [str(number) for number in range(3000)]

    run(main)
    peer.wait_for(Bye)
    assert sum(ack.count for ack in peer.headers(Ack)) > 3000 - 64


def test_a_failure_is_raised_with_what_the_kernel_said(home, answers):
    answers(TextDelta("part"), Failure("rate_limited", "slow down", 2.5, True))

    async def main():
        async with AsyncClient(home) as client, client.stream("Why?") as stream:
            assert await anext(stream) == TextDelta("part")
            with pytest.raises(RateLimited, match="slow down") as caught:
                await anext(stream)
            assert (caught.value.retry_after_s, caught.value.partial, stream.text) == (2.5, True, "part")
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main)


def test_a_driver_that_crashed_is_its_own_error(home, answers):
    answers(Failure("driver_crashed", "Segmentation fault"))

    async def main():
        async with AsyncClient(home) as client:
            with pytest.raises(DriverCrashed, match="Segmentation fault"):
                await client.infer("Why?")

    run(main)


def leave_by_break(stream):
    async def leave():
        async with stream:
            async for _ in stream:
                break

    return leave()


def leave_by_error(stream):
    async def leave():
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError

    async def caught():
        with pytest.raises(ZeroDivisionError):
            await leave()

    return caught()


def leave_by_closing(stream):
    return stream.aclose()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error, leave_by_closing])
def test_leaving_early_cancels_at_the_kernel(home, peer, answers, leave):
    answers(TextDelta("endless "))

    async def main():
        async with AsyncClient(home) as client:
            stream = client.stream("Why?")
            await leave(stream)
            assert await asyncio.to_thread(peer.wait_for, Cancel) == [Cancel(1)]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main)


def test_breaking_out_of_a_plain_loop_cancels_at_the_kernel(home, peer, answers):
    answers(TextDelta("endless "))

    async def main():
        async with AsyncClient(home) as client:
            async for _ in client.stream("Why?"):
                break
            assert await asyncio.to_thread(peer.wait_for, Cancel) == [Cancel(1)]

    run(main)


def test_a_stream_that_is_forgotten_in_a_cycle_is_cancelled_when_it_is_collected(home, peer, answers):
    answers(TextDelta("endless "))

    async def main():
        async with AsyncClient(home) as client:
            stream = client.stream("Why?")
            stream.cycle = stream
            del stream
            await asyncio.to_thread(gc.collect)  # in another thread, as it may happen
            assert await asyncio.to_thread(peer.wait_for, Cancel) == [Cancel(1)]

    run(main)


def test_cancelling_the_task_of_infer_cancels_at_the_kernel(home, peer, answers):
    answers(TextDelta("endless "))

    async def main():
        async with AsyncClient(home) as client:
            task = asyncio.create_task(client.infer("Why?"))
            await asyncio.to_thread(peer.wait_for, Open)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(peer.wait_for, Cancel) == [Cancel(1)]

    run(main)


def test_closing_a_stream_wakes_the_task_that_reads_it(home, peer):
    async def main():
        async with AsyncClient(home) as client:
            stream = client.stream("Why?")

            async def read():
                return [delta async for delta in stream]

            reading = asyncio.create_task(read())
            await asyncio.to_thread(peer.wait_for, Open)
            await stream.aclose()
            assert await reading == []

    run(main)


def test_a_second_reader_of_one_stream_is_refused(home, peer):
    async def main():
        async with AsyncClient(home) as client, client.stream("Why?") as stream:
            first = asyncio.create_task(anext(stream))
            await asyncio.to_thread(peer.wait_for, Open)
            with pytest.raises(RuntimeError, match="expected one task"):
                await anext(stream)
            peer.say((1, TextDelta("mine")))
            assert await first == TextDelta("mine")

    run(main)


def test_a_stream_that_nobody_reads_holds_up_no_other(home, peer, answers):
    answers()

    async def main():
        async with AsyncClient(home) as client, client.stream("slow") as slow, client.stream("quick") as quick:
            await asyncio.to_thread(peer.wait_for, Open, 2)
            piece = "x" * 1024
            pieces = PAUSE_ABOVE // 1024 + 100
            for _ in range(pieces):
                peer.say((1, TextDelta(piece)))
            peer.say((2, Finish()))
            assert await anext(quick) == Finish()
            assert await asyncio.to_thread(peer.wait_for, Pause) == [Pause(1, True)]
            peer.say((1, Finish()))
            assert (await slow.response()).text == piece * pieces

    run(main)


def test_a_paused_stream_goes_on_when_it_is_read(home, peer, answers):
    answers(TextDelta("x" * (PAUSE_ABOVE + 1)))

    async def main():
        async with AsyncClient(home) as client, client.stream("slow") as slow:
            assert await asyncio.to_thread(peer.wait_for, Pause) == [Pause(1, True)]
            await anext(slow)
            assert await asyncio.to_thread(peer.wait_for, Pause, 2) == [Pause(1, True), Pause(1, False)]

    run(main)


def test_a_kernel_that_forgets_a_time_limit_is_not_waited_for(home, peer, monkeypatch):
    monkeypatch.setattr("byenatos_sdk.client.aio_streams.GRACE_S", 0.01)

    async def main():
        async with AsyncClient(home) as client:
            with pytest.raises(Exception, match=r"within timeout_s=0.01") as caught:
                await client.infer("Why?", timeout_s=0.01)
            assert caught.value.code == "deadline_exceeded"
            assert await asyncio.to_thread(peer.wait_for, Cancel) == [Cancel(1)]
        assert peer.headers(Open)[0].timeout_ms == 10

    run(main)


# ---- ends ------------------------------------------------------------------------------------------------------


def test_a_killed_kernel_ends_every_stream_with_what_was_delivered(home, process):
    async def main():
        async with AsyncClient(home) as client:
            streams = [client.stream("Why?") for _ in range(20)]
            silent = asyncio.create_task(client.status())
            for stream in streams:
                assert await anext(stream) == TextDelta("begun ")
            process.kill()
            for stream in streams:
                with pytest.raises(Unavailable, match="went away") as caught:
                    await anext(stream)
                assert (caught.value.partial, stream.text) == (True, "begun ")
            with pytest.raises(Unavailable, match="went away") as caught:
                await silent
            assert not caught.value.partial
            with pytest.raises(Unavailable, match="open a new client"):
                client.stream("And now?")
            with pytest.raises(Unavailable, match="open a new client"):
                await client.status()

    run(main)


def test_a_stopped_kernel_is_found_by_its_missing_heartbeats(home, process, monkeypatch):
    monkeypatch.setattr(link, "HEARTBEAT_TIMEOUT_MS", 300)

    async def main():
        async with AsyncClient(home) as client, client.stream("Why?") as stream:
            await anext(stream)
            os.kill(process.pid, signal.SIGSTOP)
            with pytest.raises(Unavailable, match="went away"):
                await anext(stream)

    run(main)


def test_an_old_client_does_not_talk_to_a_new_kernel(home, peer, greet):
    async def main():
        async with AsyncClient(home) as client:
            async with client.stream("Why?") as stream:
                await asyncio.to_thread(peer.wait_for, Open)
                peer.stop()
                with pytest.raises(Unavailable):
                    await anext(stream)
            new = type(peer)(home)
            try:
                with pytest.raises(Unavailable):
                    client.stream("Why?")
                async with AsyncClient(home):
                    pass
                await asyncio.to_thread(new.wait_for, Bye)
                assert len(new.headers(Hello)) == 1
            finally:
                new.stop()

    run(main)


def test_a_frame_that_is_not_of_the_protocol_ends_everything_and_hangs_up(home, peer, answers):
    answers(TextDelta("part"))

    async def main():
        async with AsyncClient(home) as client, client.stream("Why?") as stream:
            await anext(stream)
            peer.say_bytes(b"\xc1")
            with pytest.raises(Unavailable, match="broke the protocol") as caught:
                await anext(stream)
            assert caught.value.partial

    run(main)


def test_closing_the_client_ends_its_streams_as_cancelled(home, peer):
    async def main():
        async with AsyncClient(home) as client:
            stream = client.stream("Why?")
            reading = asyncio.create_task(anext(stream))
            await asyncio.to_thread(peer.wait_for, Open)
        with pytest.raises(Cancelled, match="this client was closed"):
            await reading
        await client.close()

    run(main)


# ---- sessions and control --------------------------------------------------------------------------------------


def test_a_session_names_itself_in_every_turn(home, peer, answers):
    answers(TextDelta("Hello."), Finish())

    async def main():
        async with AsyncClient(home) as client:
            session = client.session(slot="coder")
            assert session.id != client.session().id
            assert (await session.infer("Hi")).text == "Hello."
            async with session.stream("Why?", temperature=0) as stream:
                await stream.response()
            assert client.session("known").id == "known"
            for header, body in zip(peer.headers(Open), peer.bodies(Open), strict=True):
                assert (header.target, header.session) == ("coder", session.id)
                assert decode_request(body).session == session.id

    run(main)


INSTANCE = control.InstanceInfo(1, "echo", "m", InstanceState.READY)
STATUS = control.KernelStatus("1", 1, "/h", "ipc:///h", 1.0, 1, 0.5, 1, 0, 0, 0)
RENEWAL = control.Renewal("d", "2", "ab" * 32, ("m",), ("s",))
MOVE = SessionMove("s", "kv", 5, 320)
SWAP = SwapEvent(7, "default", "a", "b", "graceful", SwapState.RETIRED, 1.0)
TRANSCRIPT = control.SessionTranscript(SessionInfo("s", "default", "me", 1.0, 2.0, 1), (control.Turn(1, user("Hi")),))


@pytest.mark.parametrize(
    ("call", "method", "parameters", "result"),
    [
        (lambda c: c.status(), "status", {}, STATUS),
        (lambda c: c.models(), "models", {}, [control.ModelInfo("m", "echo", "available")]),
        (lambda c: c.slots(), "slots", {}, [control.SlotInfo("default", "m", "ready")]),
        (lambda c: c.load("m", "s"), "load", {"model": "m", "slot": "s"}, INSTANCE),
        (lambda c: c.unload("m"), "unload", {"model": "m"}, control.Empty()),
        (lambda c: c.swap("s", "m", strategy="immediate"), "swap", None, SWAP),
        (lambda c: c.reload("m"), "model_reload", None, RENEWAL),
        (lambda c: c.upgrade_driver("d"), "driver_upgrade", None, RENEWAL),
        (lambda c: c.roll_back_driver("d"), "driver_rollback", None, RENEWAL),
        (lambda c: c.swap_back("s"), "swap_back", {"name": "s"}, SWAP),
        (lambda c: c.swaps(), "swaps", {}, [SWAP]),
        (lambda c: c.sessions(), "sessions", {}, [TRANSCRIPT.info]),
        (lambda c: c.transcript("s"), "session", {"name": "s"}, TRANSCRIPT),
        (lambda c: c.remove_session("s"), "session_remove", {"name": "s"}, control.Empty()),
        (
            lambda c: c.move_session("s", "m", now=True),
            "session_move",
            {"session": "s", "model": "m", "now": True},
            MOVE,
        ),
        (lambda c: c.move_session_back("s"), "session_move", {"session": "s"}, MOVE),
        (lambda c: c.cancel_swap("default"), "swap_cancel", {"name": "default"}, SWAP),
        (lambda c: c.prefill_session("s"), "session_prefill", {"name": "s"}, control.SessionState("s", "m", 5)),
        (lambda c: c.hibernate_session("s"), "session_hibernate", {"name": "s"}, control.SessionState("s", "m", 5, 9)),
        (lambda c: c.wake_session("s"), "session_wake", {"name": "s"}, control.SessionState("s", "m", 5)),
        (lambda c: c.keep_session("s", [user("Hi")], slot="m", note=b"n"), "session_keep", None, control.Empty()),
        (
            lambda c: c.keep_session("s", [], slot="m", note=b"n", replaces=1.5),
            "session_keep",
            {"id": "s", "slot": "m", "messages": [], "note": b"n", "replaces": 1.5},
            control.Empty(),
        ),
        (lambda c: c.shutdown(), "shutdown", {}, control.Empty()),
    ],
)
def test_each_method_calls_its_method_and_returns_its_result(home, peer, replies, call, method, parameters, result):
    replies(Reply(encode(result)))

    async def main():
        async with AsyncClient(home) as client:
            found = await call(client)
            assert encode(found if found is not None else control.Empty()) == encode(result)

    run(main)
    assert peer.headers(Call) == [Call(1, method)]
    (body,) = peer.bodies(Call)
    assert msgspec.msgpack.decode(body, type=control.METHODS[method][0]) is not None
    if parameters is not None:
        assert msgspec.msgpack.decode(body) == parameters


def test_a_swap_reports_each_step(home, replies):
    steps = [msgspec.structs.replace(SWAP, state=state) for state in (SwapState.REQUESTED, SwapState.SWITCHED)]
    noise = control.InstanceChanged(1.0, INSTANCE)
    replies(
        Notice(encode(control.SwapAdvanced(1.0, steps[0]))),
        Notice(encode(noise)),
        Notice(encode(control.SwapAdvanced(1.0, steps[1]))),
        Reply(encode(SWAP)),
    )

    async def main():
        seen = []
        async with AsyncClient(home) as client:
            assert await client.swap("default", "b", on_event=seen.append) == SWAP
        assert seen == steps

    run(main)


def test_a_swap_that_failed_is_an_error(home, replies):
    replies(Reply(encode(msgspec.structs.replace(SWAP, state=SwapState.FAILED, detail="no such file"))))

    async def main():
        async with AsyncClient(home) as client:
            with pytest.raises(Unavailable, match="from a to b failed: no such file; the slot still answers"):
                await client.swap("default", "b")

    run(main)


def test_a_call_that_fails_raises_its_error(home, replies):
    replies(Failure("not_found", "no slot 'x'; there are: default"))

    async def main():
        async with AsyncClient(home) as client:
            with pytest.raises(NotFound, match="no slot 'x'"):
                await client.transcript("x")

    run(main)


def test_a_reply_that_is_something_else_is_an_error(home, replies):
    replies(Reply(b"\x01"))

    async def main():
        async with AsyncClient(home) as client:
            with pytest.raises(Exception, match="expected KernelStatus from the kernel") as caught:
                await client.status()
            assert caught.value.code == "internal"

    run(main)


def test_events_are_followed_until_they_are_left(home, peer, replies):
    change = control.ModelChanged(1.0, control.ModelInfo("m", "echo", "removed"))
    replies(Notice(encode(change)), Notice(encode(change)))

    async def main():
        async with AsyncClient(home) as client:
            seen = []
            async with client.events() as events:
                async for event in events:
                    seen.append(event)
                    if len(seen) == 2:
                        break
            assert seen == [change, change]
            assert await asyncio.to_thread(peer.wait_for, Cancel) == [Cancel(1)]

    run(main)


def test_a_kernel_that_is_gone_before_it_confirms_its_shutdown_has_shut_down(home, peer, greet):
    async def main():
        async with AsyncClient(home) as client:
            stopping = asyncio.create_task(client.shutdown())
            await asyncio.to_thread(peer.wait_for, Call)
            peer.stop()
            await stopping
            with pytest.raises(Unavailable):
                await client.status()

    run(main)
