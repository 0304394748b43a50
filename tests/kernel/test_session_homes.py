"""Conversations that are moved by hand: they stay with their model until they are moved back."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from byenatos_sdk.protocol.control import MoveOrder, UnloadRequest
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.messages import SwapRequest


async def turn(kernel, session="s", where="main"):
    """A whole turn; the model that answered it."""
    number = kernel.open(where, session=session)
    await kernel.settle()
    for driver in kernel.alive:
        for one in list(driver.streams):
            driver.say(one)
            driver.finish(one)
    await kernel.settle()
    return kernel.terminal(number).model


async def test_a_conversation_that_was_moved_is_answered_by_its_model_and_others_are_not(rig):
    async with rig() as kernel:
        await kernel.settle()
        assert await turn(kernel) == "a"
        moved = await kernel.session_homes.move(MoveOrder("s", "b"))
        assert (moved.session, moved.level) == ("s", "text")
        assert kernel.routes.homes.kept("s") == "b"
        assert await turn(kernel) == "b"
        assert await turn(kernel, "another") == "a"
        assert await turn(kernel, None) == "a"


async def test_a_swap_of_its_slot_makes_no_difference_to_it(rig):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await kernel.session_homes.move(MoveOrder("s", "b"))
        for strategy in ("session_aware", "immediate"):
            await kernel.swaps.swap(SwapRequest("main", "c" if strategy == "immediate" else "b", strategy))
            await kernel.settle()
            assert await turn(kernel) == "b"
        assert await turn(kernel, "another") == "c"


async def test_it_returns_to_its_slot_and_what_was_loaded_for_it_goes(rig):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await kernel.session_homes.move(MoveOrder("s", "b"))
        await kernel.session_homes.move(MoveOrder("s", "c"))
        await kernel.settle()
        assert sorted(driver.model for driver in kernel.alive) == ["a", "c"]
        await kernel.session_homes.move(MoveOrder("s"))
        await kernel.settle()
        assert await turn(kernel) == "a"
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert kernel.routes.homes.kept("s") == ""


async def test_it_moves_when_what_is_being_answered_has_ended(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main", session="s")
        await kernel.settle()
        moving = asyncio.create_task(kernel.session_homes.move(MoveOrder("s", "b")))
        await kernel.settle()
        assert not moving.done()
        old = kernel.driver("a")
        old.finish(*old.streams)
        await kernel.settle()
        await moving
        assert kernel.terminal(number).model == "a"
        assert await turn(kernel) == "b"


async def test_it_moves_in_the_middle_of_an_answer_if_it_is_to_move_now(rig):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main", session="s")
        await kernel.settle()
        old = kernel.driver("a")
        old.say(*old.streams)
        await kernel.settle()
        moving = asyncio.create_task(kernel.session_homes.move(MoveOrder("s", "b", now=True)))
        await kernel.settle()
        new = kernel.driver("b")
        (there,) = new.streams
        new.say(there)
        await kernel.settle()
        assert (await moving).pause_s > 0
        new.finish(there)
        await kernel.settle()
        assert kernel.terminal(number).model == "b"
        assert await turn(kernel) == "b"


async def test_a_conversation_whose_model_is_unloaded_or_dies_returns_to_its_slot(rig):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await kernel.session_homes.move(MoveOrder("s", "b"))
        kernel.supply.unload(UnloadRequest("b"))
        await kernel.settle()
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert await turn(kernel) == "a"


async def test_what_cannot_be_moved_is_refused_and_leaves_nothing_behind(rig):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await turn(kernel, "direct", "a")
        for order, error in (
            (MoveOrder("nobody", "b"), NotFound),
            (MoveOrder("s", "unknown"), NotFound),
            (MoveOrder("s", "a"), InvalidRequest),
            (MoveOrder("s"), InvalidRequest),
            (MoveOrder("direct", "b"), InvalidRequest),
        ):
            with pytest.raises(error):
                await kernel.session_homes.move(order)
        kernel.obedient = False
        moving = asyncio.create_task(kernel.session_homes.move(MoveOrder("s", "b")))
        await kernel.settle()
        kernel.driver("b").load_fails()
        with pytest.raises(Unavailable):
            await moving
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]
        assert await turn(kernel) == "a"


# ---- what outlives a kernel --------------------------------------------------------------------------------------


@asynccontextmanager
async def moved(rig):
    """A kernel under which the conversation ``s`` has just been moved to b."""
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await kernel.session_homes.move(MoveOrder("s", "b"))
        yield kernel


@asynccontextmanager
async def next_kernel(rig, **options):
    """A kernel on the same home after that one."""
    async with rig(**options) as kernel:
        await kernel.settle()
        await kernel.session_homes.start()
        await kernel.settle()
        yield kernel


async def moving(kernel):
    """A move of ``s`` to b, which is being loaded."""
    await kernel.settle()
    await turn(kernel)
    kernel.obedient = False
    move = asyncio.create_task(kernel.session_homes.move(MoveOrder("s", "b")))
    await kernel.settle()
    return move


async def test_a_conversation_is_where_it_was_moved_to_under_the_next_kernel_too(rig):
    async with moved(rig) as kernel:
        await turn(kernel, "another")
    async with next_kernel(rig) as kernel:
        assert kernel.routes.homes.kept("s") == "b"
        assert await turn(kernel) == "b"
        assert await turn(kernel, "another") == "a"


async def test_one_that_was_moved_back_is_with_its_slot_under_the_next_kernel(rig):
    async with moved(rig) as kernel:
        await kernel.session_homes.move(MoveOrder("s"))
    async with next_kernel(rig) as kernel:
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert await turn(kernel) == "a"


@pytest.mark.parametrize(("meanwhile", "answers"), [("nothing", "b"), ("back", "a"), ("removed", "a")])
async def test_one_whose_model_is_not_there_waits_for_it_unless_it_is_moved_or_removed_meanwhile(
    rig, meanwhile, answers
):
    async with moved(rig):
        pass
    async with rig() as kernel:
        await kernel.settle()
        entry = kernel.registry.models.pop("b")
        await kernel.session_homes.start()
        assert await turn(kernel) == "a"
        if meanwhile == "back":
            await kernel.session_homes.move(MoveOrder("s", "c"))
            await kernel.session_homes.move(MoveOrder("s"))
        elif meanwhile == "removed":
            await kernel.sessions.remove("s")
        kernel.registry.models["b"] = entry
        await kernel.session_homes.judged(entry)
        await kernel.settle()
        assert (kernel.routes.homes.kept("s") == "b") == (answers == "b")
        assert await turn(kernel) == answers


async def test_one_for_whose_model_there_is_no_room_is_answered_by_its_slot_and_that_is_said(rig, caplog):
    async with moved(rig):
        pass
    async with next_kernel(rig, most_models=1) as kernel:
        assert await turn(kernel) == "a"
    assert "session s is answered by its slot and not by b" in caplog.text


async def test_a_conversation_that_is_removed_while_it_is_moved_keeps_no_model(rig):
    async with rig() as kernel:
        move = await moving(kernel)
        await kernel.sessions.remove("s")
        kernel.session_homes.leave("s")
        kernel.driver("b").loaded()
        with pytest.raises(NotFound):
            await move
        kernel.driver("b").obedient = True
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]


async def test_a_move_that_cannot_be_stored_stands_while_the_kernel_lives_and_that_is_said(rig, caplog):
    async with rig() as kernel:
        move = await moving(kernel)
        kernel.database.failing = True
        kernel.driver("b").loaded()
        await move
        kernel.database.failing = False
        assert kernel.routes.homes.kept("s") == "b"
    assert "will not outlive this kernel: the disk is full" in caplog.text
