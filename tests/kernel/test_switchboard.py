"""The life of streams: limits, deadlines, cancelling, sessions, and what a crash makes of an answer."""

import asyncio

import pytest
from kernel_rig import text_of

from byenatos_kernel import admissions, deliveries
from byenatos_kernel.clients import ClientState
from byenatos_kernel.streams import StreamState
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.frames import Open, Reply
from byenatos_sdk.protocol.messages import Failure, Finish, Moved, ReasoningDelta, TextDelta, ToolCallDelta


async def running(kernel, target: str = "main", **options):
    """A stream, the kernel's object for it, and the driver and number that answer it."""
    number = kernel.open(target, **options)
    await kernel.settle()
    stream = kernel.client.streams[number]
    driver = next(one for one in kernel.alive if one.pid == stream.instance.pid)
    return number, stream, driver, stream.id


async def test_a_crash_is_survived_on_the_fallback_with_the_text_so_far(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, stream, driver, there = await running(kernel)
        for _ in range(3):
            driver.say(there)
        driver.exit()
        await kernel.settle()
        refuge = kernel.driver("c")
        (again,) = refuge.streams
        refuge.say(again)
        refuge.finish(again)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 3 "
        assert Moved("a", "c", "driver_crashed") in kernel.heard(number)
        assert kernel.terminal(number) == Finish(model="c")
        assert stream.state is StreamState.ENDED


async def test_a_request_that_kills_two_drivers_ends_there(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel)
        driver.say(there)
        driver.exit()
        await kernel.settle()
        kernel.driver("c").exit()
        await kernel.settle()
        end = kernel.terminal(number)
        assert (end.code, end.partial) == ("driver_crashed", True)
        assert "last words" in end.message


async def test_an_answer_with_a_tool_call_out_is_not_begun_again_elsewhere(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel)
        driver.tell(there, ToolCallDelta("1", "pay", "{}"))
        driver.exit()
        await kernel.settle()
        assert kernel.terminal(number).partial
        assert not kernel.driver("c").streams


async def test_a_moved_stream_that_said_nothing_is_not_partial_and_leaves_no_turn(rig):
    async with rig({"main": "a"}, fallback="c") as kernel:
        await kernel.settle()
        number, _, driver, _ = await running(kernel, session="talk")
        driver.exit()
        await kernel.settle()
        kernel.switchboard.cancel(kernel.client, number)
        await kernel.settle()
        assert kernel.terminal(number) == Failure("cancelled", "cancelled by the client")
        assert [turn.message.role for turn in (await kernel.sessions.show("talk")).turns] == ["user"]


@pytest.mark.parametrize("size", [1, 5000])
async def test_a_client_that_does_not_read_loses_the_stream_and_nothing_else(rig, size):
    async with rig() as kernel:
        await kernel.settle()
        number, stream, driver, there = await running(kernel)
        other, _, _, elsewhere = await running(kernel)
        kernel.switchboard.pause(kernel.client, number, on=True)
        text = "\N{GRINNING FACE}" * size
        for _ in range(deliveries.LAG_LIMIT // size + 2):
            driver.tell(there, text)
            if len(driver.wire._out) > 100:
                await kernel.settle(1)
        driver.say(elsewhere)
        await kernel.settle()
        assert kernel.terminal(number).code == "client_too_slow"
        assert kernel.terminal(number).partial
        assert there not in driver.streams, "the driver was not told to stop"
        assert kernel.client.lag == 0
        assert kernel.heard(other) == [TextDelta("0 ")]
        assert stream.state is StreamState.ENDED


@pytest.mark.parametrize("delta", ["x" * 60_000, ReasoningDelta("x" * 60_000)])
async def test_an_answer_without_end_is_cut_off(rig, delta):
    async with rig() as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel)
        for _ in range(deliveries.STREAM_LIMIT // 60_000 + 1):
            driver.tell(there, delta)
            await kernel.settle(1)
        await kernel.settle()
        assert kernel.terminal(number).code == "overloaded"
        assert there not in driver.streams


def pass_time(kernel, seconds: float) -> None:
    """Make every running stream older, and look for late ones."""
    for stream in kernel.switchboard.live:
        stream.progress -= seconds
        stream.deadline -= seconds
        stream.opened_at -= seconds
    kernel.switchboard._sweep_timer.cancel()
    kernel.switchboard._sweep()


async def test_a_silent_driver_meets_the_gap_limit_and_a_slow_answer_the_deadline(rig):
    async with rig() as kernel:
        await kernel.settle()
        silent = kernel.open("main", gap_timeout_ms=5000)
        late = kernel.open("main", timeout_ms=20_000)
        await kernel.settle()
        pass_time(kernel, 6)
        await kernel.settle()
        assert kernel.terminal(silent).code == "deadline_exceeded"
        assert kernel.terminal(late) is None
        pass_time(kernel, 16)
        await kernel.settle()
        assert "timeout_s" in kernel.terminal(late).message
        assert not kernel.driver("a").streams


async def test_a_client_that_was_slow_does_not_put_the_driver_over_the_gap_limit(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main", gap_timeout_ms=5000)
        await kernel.settle()
        driver = kernel.driver("a")
        (there,) = driver.streams
        kernel.switchboard.pause(kernel.client, number, on=True)
        driver.say(there)
        await kernel.settle()
        pass_time(kernel, 6)
        kernel.switchboard.pause(kernel.client, number, on=False)
        await kernel.settle()
        kernel.switchboard._sweep_timer.cancel()
        kernel.switchboard._sweep()
        await kernel.settle()
        assert kernel.terminal(number) is None
        assert text_of(kernel.heard(number)) == "0 "


async def test_cancelling_stops_the_driver_drops_what_waits_and_ends_once(rig):
    async with rig() as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel)
        kernel.switchboard.pause(kernel.client, number, on=True)
        driver.say(there)
        await kernel.settle()
        for _ in range(2):
            kernel.switchboard.cancel(kernel.client, number)
            await kernel.settle()
        assert kernel.heard(number) == [Failure("cancelled", "cancelled by the client", None, partial=True)]
        assert not driver.streams
        kernel.switchboard.cancel(kernel.client, 12345)


async def test_a_paused_stream_that_is_cancelled_while_its_turn_is_stored_still_ends(rig):
    async with rig() as kernel:
        await kernel.settle()
        number, stream, driver, there = await running(kernel, session="talk")
        driver.say(there)
        await kernel.settle()
        driver.finish(there)
        kernel.switchboard.pause(kernel.client, number, on=True)
        while stream.state is not StreamState.STORING:
            await asyncio.sleep(0)
        kernel.switchboard.cancel(kernel.client, number)
        await kernel.settle()
        assert isinstance(kernel.terminal(number), Finish)
        assert not kernel.client.streams


async def test_an_answer_that_came_whole_counts_although_its_driver_left_and_is_written_to(rig):
    async with rig() as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel)
        driver.say(there)
        driver.finish(there)
        driver.wire.flush()
        driver.wire.close()
        kernel.open("main")
        await kernel.settle(3)
        driver.exit()
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")


async def test_a_connection_may_have_so_many_bytes_of_requests_running_and_gets_them_back(rig):
    async with rig() as kernel:
        await kernel.settle()
        numbers = [kernel.open("main", body=bytes(24 << 20)) for _ in range(3)]
        assert kernel.client.body_bytes == 48 << 20
        await kernel.settle()
        assert kernel.terminal(numbers[2]).code == "overloaded"
        for number in numbers[:2]:
            kernel.switchboard.cancel(kernel.client, number)
        await kernel.settle()
        assert kernel.client.body_bytes == 0


async def test_cancelling_an_ended_stream_that_is_paused_delivers_its_terminal_only(rig):
    async with rig() as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel)
        kernel.switchboard.pause(kernel.client, number, on=True)
        driver.say(there)
        driver.finish(there)
        await kernel.settle()
        assert kernel.heard(number) == []
        kernel.switchboard.cancel(kernel.client, number)
        await kernel.settle()
        assert kernel.heard(number) == [Finish(model="a")]
        assert not kernel.client.streams


async def test_a_client_that_leaves_takes_its_streams_along(rig):
    async with rig() as kernel:
        await kernel.settle()
        _, stream, driver, _ = await running(kernel)
        _, stored, _, _ = await running(kernel, session="talk")
        driver.say(stored.id)
        await kernel.settle()
        kernel.client.gone = True
        kernel.switchboard.client_gone(kernel.client, ByenatosError("it left"))
        await kernel.settle()
        assert stream.state is stored.state is StreamState.ENDED
        assert not driver.streams
        assert not kernel.switchboard.live
        turns = (await kernel.sessions.show("talk")).turns
        assert [(turn.state, turn.message.text) for turn in turns] == [("complete", "count"), ("partial", "0 ")]


async def test_a_number_in_use_breaks_the_protocol(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        with pytest.raises(InvalidRequest, match="already running"):
            kernel.switchboard.open(kernel.client, Open(number, "main"), b"")
        await kernel.settle()
        assert kernel.terminal(number) is None


async def test_a_connection_has_so_many_streams_and_not_more(rig, monkeypatch):
    monkeypatch.setattr(admissions, "STREAMS_PER_CLIENT", 3)
    async with rig() as kernel:
        await kernel.settle()
        numbers = [kernel.open("main") for _ in range(4)]
        elsewhere = kernel.open("main", client=ClientState("uid:0", 0))
        await kernel.settle()
        assert [kernel.terminal(number) is None for number in numbers] == [True, True, True, False]
        assert kernel.terminal(numbers[3]).code == "overloaded"
        assert kernel.terminal(elsewhere) is None


@pytest.mark.parametrize(
    ("body", "session"),
    [
        (b"\xc1", "talk"),
        (b"\x81\xa8messages\xa2\xff\xff", "talk"),
        (b"\x82\xa8messages\x90\xa5extra\x81\xa1a" + b"\x91" * 100_000 + b"\xc0", "talk"),
        (b"\x81\xa8messages\x90", "talk"),
        (b"", ""),
        (b"", "new\nline"),
        (b"", "x" * 129),
    ],
)
async def test_a_session_turn_that_cannot_be_read_is_an_honest_failure_and_frees_the_session(rig, body, session):
    async with rig() as kernel:
        await kernel.settle()
        kernel.switchboard.open(kernel.client, Open(900, "main", session), body)
        await kernel.settle()
        assert kernel.terminal(900).code == "invalid_request"
        assert not kernel.turns._busy
        assert await kernel.sessions.list() == []


async def test_a_session_answers_one_turn_at_a_time_and_keeps_both_sides(rig):
    async with rig() as kernel:
        await kernel.settle()
        first, _, driver, there = await running(kernel, session="talk")
        second = kernel.open("main", session="talk")
        await kernel.settle()
        assert "is still being answered" in kernel.terminal(second).message
        driver.say(there)
        driver.finish(there)
        await kernel.settle()
        assert kernel.terminal(first) == Finish(model="a")
        third, _, _, _ = await running(kernel, session="talk")
        assert kernel.terminal(third) is None
        roles = [turn.message.role for turn in (await kernel.sessions.show("talk")).turns]
        assert roles == ["user", "assistant", "user"]


async def test_an_answer_that_cannot_be_stored_does_not_pretend_to_be_complete(rig):
    async with rig() as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel, session="talk")
        kernel.database.failing = True
        driver.say(there)
        driver.finish(there)
        await kernel.settle()
        end = kernel.terminal(number)
        assert end.partial
        assert "could not be stored: the disk is full" in end.message
        assert not kernel.turns.busy("talk")


async def test_stopping_ends_what_runs_and_takes_nothing_new(rig):
    async with rig() as kernel:
        await kernel.settle()
        number, _, driver, there = await running(kernel, session="talk")
        driver.say(there)
        await kernel.settle()
        await kernel.switchboard.drain(0.01)
        refused = kernel.open("main")
        kernel.wire.flush()
        assert (kernel.terminal(number).code, kernel.terminal(refused).code) == ("draining", "draining")
        assert (await kernel.sessions.show("talk")).turns[-1].state == "partial"


async def test_events_of_numbers_that_nobody_knows_are_nobodys(rig):
    async with rig() as kernel:
        await kernel.settle()
        driver = kernel.driver("a")
        for event in ("x", Finish(), Failure("internal", "?"), Reply(b""), ToolCallDelta("1", "x", "{}")):
            for number in (-1, 0, 999, 2**63):
                driver.tell(number, event)
        await kernel.settle()
        assert driver.alive
        assert not kernel.wire.heard
