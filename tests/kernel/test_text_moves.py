"""Moves by text: in rounds where the target reads ahead, and back again where the target says nothing."""

import asyncio

import pytest
from kernel_rig import text_of

from byenatos_kernel import text_moves, transfers, trials
from byenatos_kernel.streams import Stream
from byenatos_kernel.trials import FLOOR_S, patience_s
from byenatos_sdk.protocol.messages import (
    Finish,
    Moved,
    SwapRequest,
    ToolCallDelta,
)


async def answering(kernel, words):
    """Begin a count and have so many words of it said; return its number, and that at the driver."""
    await kernel.settle()
    number = kernel.open("main")
    await kernel.settle()
    old = kernel.driver("a")
    (here,) = old.streams
    for _ in range(words):
        old.say(here)
    await kernel.settle()
    return number, here


async def under_an_answer(kernel):
    """Begin a count, swap under it, and return its number; the target has it now and has said nothing."""
    number, _ = await answering(kernel, words=2)
    await kernel.swaps.swap(SwapRequest("main", "b", "immediate"))
    await kernel.settle()
    return number


def moves(kernel, number):
    return [event for event in kernel.heard(number) if isinstance(event, Moved)]


async def back_at_home(kernel):
    """Wait until the old model has its answer again; its number there."""
    while not kernel.driver("a").streams:
        await asyncio.sleep(0.001)
    (here,) = kernel.driver("a").streams
    return here


class Reader:
    """Stands where instances are asked to read ahead, and where their answers have got to."""

    def __init__(self):
        self.asked = []
        self.boundary = asyncio.Event()

    async def read(self, _target, _body, text, _limit_s):
        self.asked.append(f"read {text!r}")
        return len(text)

    async def reach(self, _source, _number, _position, _limit_s):
        self.asked.append("next word")
        await self.boundary.wait()
        return 0


@pytest.fixture
def warm(monkeypatch):
    """Every instance has warm state, as far as the kernel knows."""
    monkeypatch.setattr(transfers, "arena_of", lambda _: "an arena")


async def at_its_boundary(kernel):
    """Begin a count and swap under it; the target has read it, and its next word is waited for."""
    number, here = await answering(kernel, words=1)
    reader = kernel.switchboard.text_moves._warm = Reader()
    swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b", "immediate")))
    await kernel.settle()
    assert reader.asked == ["read '0 '", "next word"]
    assert list(kernel.driver("a").streams) == [here]
    return number, here, reader, swap


async def test_an_answer_that_was_read_ahead_is_cut_over_when_its_next_word_has_come(rig, warm):
    async with rig() as kernel:
        number, here, reader, swap = await at_its_boundary(kernel)
        kernel.driver("a").say(here)
        await kernel.settle()
        reader.boundary.set()  # it is answered over the same channel, behind the word
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.say(there)
        new.finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert kernel.terminal(number) == Finish(model="b")
        assert (await swap).moved_streams == 1


async def test_an_answer_that_ends_with_the_word_that_is_waited_for_has_ended(rig, warm):
    async with rig() as kernel:
        number, here, reader, swap = await at_its_boundary(kernel)
        kernel.driver("a").finish(here)
        await kernel.settle()
        reader.boundary.set()  # it is answered over the same channel, behind the word
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")
        assert not moves(kernel, number)
        assert (await swap).moved_streams == 0


@pytest.fixture
def impatient(monkeypatch):
    """No target is waited for."""
    monkeypatch.setattr(text_moves, "UNREAD_S", 0.0)
    monkeypatch.setattr(trials, "FLOOR_S", 0.01)


async def test_an_answer_whose_target_says_nothing_in_time_goes_on_at_the_old_model(rig, impatient):
    async with rig() as kernel:
        number = await under_an_answer(kernel)
        here = await back_at_home(kernel)
        old, new = kernel.driver("a"), kernel.driver("b")
        await kernel.settle()
        assert not new.streams
        new.tell(1, "too late ")
        new.tell(2, "too late ")
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert kernel.terminal(number) == Finish(model="a")
        assert moves(kernel, number) == [Moved("a", "b", "swap"), Moved("b", "a", "deadline_exceeded")]
        assert not old.alive
        [event] = await kernel.swaps.history()
        assert event.moved_streams == 0
        [move] = event.sessions
        assert move.level == "drain"
        assert "no first word within" in move.detail


@pytest.mark.parametrize("how", ["fail", "exit"])
async def test_an_answer_whose_target_fails_before_its_first_word_goes_on_at_the_old_model(rig, how):
    async with rig() as kernel:
        number = await under_an_answer(kernel)
        new = kernel.driver("b")
        if how == "fail":
            new.fail(*new.streams)
        else:
            new.exit()
        here = await back_at_home(kernel)
        old = kernel.driver("a")
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert kernel.terminal(number) == Finish(model="a")


async def test_an_answer_that_has_said_a_word_at_the_target_stays_there(rig, impatient, monkeypatch):
    monkeypatch.setattr(trials, "FLOOR_S", 60.0)
    async with rig() as kernel:
        number = await under_an_answer(kernel)
        old, new = kernel.driver("a"), kernel.driver("b")
        assert old.alive
        (there,) = new.streams
        new.say(there)
        await kernel.settle()
        assert not old.alive
        new.finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        [event] = await kernel.swaps.history()
        [move] = event.sessions
        assert (move.session, move.level) == ("", "text")
        assert move.pause_s > 0


async def test_an_answer_that_is_cancelled_at_its_new_place_holds_nothing_up(rig):
    async with rig() as kernel:
        number = await under_an_answer(kernel)
        kernel.switchboard.cancel(kernel.client, number)
        await kernel.settle()
        assert [driver.model for driver in kernel.alive] == ["b"]


async def test_a_second_swap_while_an_answer_is_on_trial_takes_it_along(rig):
    async with rig() as kernel:
        number = await under_an_answer(kernel)
        await kernel.swaps.swap(SwapRequest("main", "c", "immediate"))
        await kernel.settle()
        last = kernel.driver("c")
        (there,) = last.streams
        last.say(there)
        last.finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 2 "
        assert [driver.model for driver in kernel.alive] == ["c"]


async def test_an_answer_whose_tool_call_is_out_stays_and_the_event_says_so(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main")
        await kernel.settle()
        old = kernel.driver("a")
        (here,) = old.streams
        old.tell(here, ToolCallDelta("1", "look", "{}"))
        await kernel.settle()
        event = await kernel.swaps.swap(SwapRequest("main", "b", "immediate"))
        assert event.moved_streams == 0
        assert [(move.level, move.detail) for move in event.sessions] == [("drain", "a tool call is out")]
        old.finish(here)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="a")


@pytest.mark.parametrize(("tokens", "spoke_s", "expected"), [(0, 0.0, FLOOR_S), (100, 1.0, FLOOR_S), (10, 5.0, 1.5)])
async def test_a_slow_answer_is_waited_for_three_of_its_own_token_times(rig, tokens, spoke_s, expected):
    async with rig() as kernel:
        stream = Stream(kernel.client, 1, "main")
        stream.total = tokens * trials.TOKEN_CHARACTERS
        stream.first_at, stream.progress = 10.0, 10.0 + spoke_s
        assert patience_s(stream) == pytest.approx(expected)
