"""Conversations that are moved by hand: they stay with their model until they are moved back."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from byenatos_kernel.session_homes import SessionHomes
from byenatos_sdk.protocol.control import MoveOrder, UnloadRequest
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Unavailable
from byenatos_sdk.protocol.messages import SwapRequest


@pytest.fixture
def homes():
    """What moves conversations of a rig by hand."""

    def make(kernel):
        return SessionHomes(
            kernel.registry,
            kernel.drivers,
            kernel.routes,
            kernel.supply,
            kernel.switchboard,
            kernel.swaps.conversations,
        )

    return make


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


async def test_a_conversation_that_was_moved_is_answered_by_its_model_and_others_are_not(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        assert await turn(kernel) == "a"
        moved = await homes(kernel).move(MoveOrder("s", "b"))
        assert (moved.session, moved.level) == ("s", "text")
        assert kernel.routes.homes.kept("s") == "b"
        assert await turn(kernel) == "b"
        assert await turn(kernel, "another") == "a"
        assert await turn(kernel, None) == "a"


async def test_a_swap_of_its_slot_makes_no_difference_to_it(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await homes(kernel).move(MoveOrder("s", "b"))
        for strategy in ("session_aware", "immediate"):
            await kernel.swaps.swap(SwapRequest("main", "c" if strategy == "immediate" else "b", strategy))
            await kernel.settle()
            assert await turn(kernel) == "b"
        assert await turn(kernel, "another") == "c"


async def test_it_returns_to_its_slot_and_what_was_loaded_for_it_goes(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await homes(kernel).move(MoveOrder("s", "b"))
        await homes(kernel).move(MoveOrder("s", "c"))
        await kernel.settle()
        assert sorted(driver.model for driver in kernel.alive) == ["a", "c"]
        await homes(kernel).move(MoveOrder("s"))
        await kernel.settle()
        assert await turn(kernel) == "a"
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert kernel.routes.homes.kept("s") == ""


async def test_it_moves_when_what_is_being_answered_has_ended(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main", session="s")
        await kernel.settle()
        moving = asyncio.create_task(homes(kernel).move(MoveOrder("s", "b")))
        await kernel.settle()
        assert not moving.done()
        old = kernel.driver("a")
        old.finish(*old.streams)
        await kernel.settle()
        await moving
        assert kernel.terminal(number).model == "a"
        assert await turn(kernel) == "b"


async def test_it_moves_in_the_middle_of_an_answer_if_it_is_to_move_now(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        number = kernel.open("main", session="s")
        await kernel.settle()
        old = kernel.driver("a")
        old.say(*old.streams)
        await kernel.settle()
        moving = asyncio.create_task(homes(kernel).move(MoveOrder("s", "b", now=True)))
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


async def test_a_conversation_whose_model_is_unloaded_or_dies_returns_to_its_slot(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await homes(kernel).move(MoveOrder("s", "b"))
        kernel.supply.unload(UnloadRequest("b"))
        await kernel.settle()
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert await turn(kernel) == "a"


async def test_what_cannot_be_moved_is_refused_and_leaves_nothing_behind(rig, homes):
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
                await homes(kernel).move(order)
        kernel.obedient = False
        moving = asyncio.create_task(homes(kernel).move(MoveOrder("s", "b")))
        await kernel.settle()
        kernel.driver("b").load_fails()
        with pytest.raises(Unavailable):
            await moving
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]
        assert await turn(kernel) == "a"


# ---- what outlives a kernel --------------------------------------------------------------------------------------


@pytest.fixture
def next_kernel(rig, homes):
    """A kernel on the same home after one under which conversations were moved; with what moves them."""

    @asynccontextmanager
    async def start(**options):
        async with rig(**options) as kernel:
            await kernel.settle()
            moving = homes(kernel)
            await moving.start()
            await kernel.settle()
            yield kernel, moving

    return start


async def test_a_conversation_is_where_it_was_moved_to_under_the_next_kernel_too(rig, homes, next_kernel):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await turn(kernel, "another")
        await homes(kernel).move(MoveOrder("s", "b"))
    async with next_kernel() as (kernel, _):
        assert kernel.routes.homes.kept("s") == "b"
        assert await turn(kernel) == "b"
        assert await turn(kernel, "another") == "a"


async def test_one_that_was_moved_back_is_with_its_slot_under_the_next_kernel(rig, homes, next_kernel):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await homes(kernel).move(MoveOrder("s", "b"))
        await homes(kernel).move(MoveOrder("s"))
    async with next_kernel() as (kernel, _):
        assert [driver.model for driver in kernel.alive] == ["a"]
        assert await turn(kernel) == "a"


async def test_one_whose_model_is_not_there_waits_for_it(rig, homes, next_kernel):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await homes(kernel).move(MoveOrder("s", "b"))
    async with next_kernel() as (kernel, _):
        kernel.kill()
    async with rig() as kernel:
        await kernel.settle()
        entry = kernel.registry.models.pop("b")
        moving = homes(kernel)
        await moving.start()
        assert await turn(kernel) == "a"
        kernel.registry.models["b"] = entry
        await moving.judged(entry)
        await kernel.settle()
        assert await turn(kernel) == "b"


async def test_one_for_whose_model_there_is_no_room_is_answered_by_its_slot_and_that_is_said(
    rig, homes, next_kernel, caplog
):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        await homes(kernel).move(MoveOrder("s", "b"))
    async with next_kernel(most_models=1) as (kernel, _):
        assert await turn(kernel) == "a"
    assert "session s is answered by its slot and not by b" in caplog.text


async def test_a_conversation_that_is_removed_while_it_is_moved_keeps_no_model(rig, homes):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        moving = homes(kernel)
        kernel.obedient = False
        move = asyncio.create_task(moving.move(MoveOrder("s", "b")))
        await kernel.settle()
        await kernel.sessions.remove("s")
        moving.leave("s")
        kernel.driver("b").loaded()
        with pytest.raises(NotFound):
            await move
        kernel.driver("b").obedient = True
        await kernel.settle()
        assert [unit.model.id for unit in kernel.drivers.units] == ["a"]


async def test_a_move_that_cannot_be_stored_stands_while_the_kernel_lives_and_that_is_said(rig, homes, caplog):
    async with rig() as kernel:
        await kernel.settle()
        await turn(kernel)
        moving = homes(kernel)
        kernel.obedient = False
        move = asyncio.create_task(moving.move(MoveOrder("s", "b")))
        await kernel.settle()
        kernel.database.failing = True
        kernel.driver("b").loaded()
        await move
        kernel.database.failing = False
        assert kernel.routes.homes.kept("s") == "b"
    assert "will not outlive this kernel: the disk is full" in caplog.text
