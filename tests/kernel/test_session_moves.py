"""Conversations that move between their own turns: who is at home where, and until when."""

import asyncio

import pytest
from kernel_rig import text_of

from byenatos_kernel import session_moves
from byenatos_kernel.session_moves import LATEST, Room
from byenatos_sdk.protocol.messages import Finish, ModelSpecification, Moved, SwapRequest, SwapState


async def begin(kernel, session):
    """Open a turn of a session and let the model say its first word."""
    number = kernel.open("main", session=session)
    await kernel.settle()
    old = kernel.driver("a")
    old.say(max(old.streams))
    await kernel.settle()
    return number


async def test_a_turn_ends_at_home_and_the_next_one_of_its_conversation_begins_at_the_target(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = await begin(kernel, "s")
        await kernel.swaps.swap(SwapRequest("main", "b", "session_aware"))
        old = kernel.driver("a")
        (here,) = old.streams
        old.say(here)
        old.finish(here)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 "
        assert kernel.terminal(number) == Finish(model="a")
        assert not [one for one in kernel.heard(number) if isinstance(one, Moved)]
        kernel.open("main", session="s")
        await kernel.settle()
        assert len(kernel.driver("b").streams) == 1
        assert not old.alive


async def test_requests_without_a_conversation_go_to_the_target_at_once(rig):
    async with rig() as kernel:
        await kernel.settle()
        await begin(kernel, "s")
        await kernel.swaps.swap(SwapRequest("main", "b", "session_aware"))
        kernel.open("main")
        kernel.open("main", session="another")
        await kernel.settle()
        assert len(kernel.driver("a").streams) == 1
        assert len(kernel.driver("b").streams) == 2


async def test_the_old_model_is_kept_until_no_conversation_has_its_home_there(rig):
    async with rig() as kernel:
        await kernel.settle()
        for session in ("first", "second"):
            await begin(kernel, session)
        steps = []
        swap = asyncio.create_task(
            kernel.swaps.swap(
                SwapRequest("main", "b", "session_aware", until="retired"), lambda event: steps.append(event.state)
            )
        )
        await kernel.settle()
        old = kernel.driver("a")
        for left in (1, 0):
            old.finish(min(old.streams))
            await kernel.settle()
            assert old.alive == bool(left)
        assert steps == list(SwapState)[:-2]
        event = await swap
        assert [(move.session, move.level) for move in event.sessions] == [("first", "text"), ("second", "text")]


async def test_a_conversation_that_is_answered_for_too_long_is_moved_in_the_middle(rig, monkeypatch):
    monkeypatch.setattr(session_moves, "BEHIND_S", 0.0)
    async with rig() as kernel:
        await kernel.settle()
        number = await begin(kernel, "s")
        await kernel.swaps.swap(SwapRequest("main", "b", "session_aware"))
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.say(there)
        new.finish(there)
        await kernel.settle()
        assert text_of(kernel.heard(number)) == "0 1 "
        assert kernel.terminal(number) == Finish(model="b")


async def test_a_turn_waits_while_its_conversation_is_being_moved(rig):
    async with rig() as kernel:
        await kernel.settle()
        with kernel.routes.homes.moving("s"):
            kernel.open("main", session="s")
            kernel.open("main", session="another")
            await kernel.settle()
            assert len(kernel.driver("a").streams) == 1
        await kernel.settle()
        assert len(kernel.driver("a").streams) == 2


async def test_a_conversation_whose_home_dies_goes_on_at_the_target(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = await begin(kernel, "s")
        await kernel.swaps.swap(SwapRequest("main", "b", "session_aware"))
        kernel.driver("a").exit()
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.finish(there)
        await kernel.settle()
        assert kernel.terminal(number) == Finish(model="b")
        assert [driver.model for driver in kernel.alive] == ["b"]


async def test_a_swap_back_finds_the_conversations_still_at_home(rig):
    async with rig() as kernel:
        await kernel.settle()
        await begin(kernel, "s")
        await kernel.swaps.swap(SwapRequest("main", "b", "session_aware"))
        await kernel.swaps.swap(SwapRequest("main", "a", "session_aware"))
        old = kernel.driver("a")
        old.finish(max(old.streams))
        await kernel.settle()
        kernel.open("main", session="s")
        await kernel.settle()
        assert len(old.streams) == 1
        assert [driver.model for driver in kernel.alive] == ["a"]


@pytest.mark.parametrize(("sequences", "sessions"), [("4", 3), ("1", 1), ("many", LATEST), ("", LATEST)])
def test_one_place_is_left_for_who_is_new(sequences, sessions):
    class Target:
        specification = ModelSpecification("m", context_length=100, metadata={"sequences": sequences})

    room = Room(Target())
    assert room.sessions == sessions
    room.take(100)
    assert not room.left


async def test_a_rolled_back_swap_leaves_nobody_at_home_at_the_old_model_for_the_next_one(rig):
    async with rig() as kernel:
        await kernel.settle()
        await begin(kernel, "s")
        await kernel.swaps.swap(SwapRequest("main", "b", "session_aware", keep_old_s=60.0))
        await kernel.settle()
        await kernel.swaps.back("main")
        await kernel.settle()
        old = kernel.driver("a")
        assert not kernel.routes.homes.at(kernel.routes.slots["main"].unit, "main")
        old.finish(*old.streams)
        await kernel.swaps.swap(SwapRequest("main", "c"))
        kernel.open("main", session="s")
        await kernel.settle()
        assert len(kernel.driver("c").streams) == 1
