"""How swaps ended, and how conversations moved in them, counted from their events."""

import asyncio

import pytest

from byenatos_kernel.swap_policy import SwapPolicy, SwapRules
from byenatos_kernel.swaps import Swap
from byenatos_sdk.protocol.errors import NotFound
from byenatos_sdk.protocol.messages import MOST_SESSION_MOVES, SessionMove, SwapRequest


async def test_every_swap_is_counted_once_by_how_it_ended(rig):
    async with rig() as kernel:
        await kernel.settle()
        kernel.policy = SwapPolicy(SwapRules(keep_old_s=600.0))
        await kernel.swaps.swap(SwapRequest("main", "b"))
        with pytest.raises(NotFound):
            await kernel.swaps.swap(SwapRequest("main", "gone"))
        await kernel.settle()
        await kernel.swaps.back("main")
        await kernel.swaps.swap(SwapRequest("main", "c", until="retired", keep_old_s=0.0))
        assert kernel.swaps.counts.ended == {"rolled_back": 1, "failed": 1, "retired": 1}


async def test_conversations_that_moved_are_counted_by_level(rig):
    async with rig() as kernel:
        await kernel.settle()
        for _ in range(3):
            kernel.open("main")
        await kernel.settle()
        for stream in list(kernel.driver("a").streams):
            kernel.driver("a").say(stream)
        await kernel.settle()
        swapping = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b", "immediate", until="retired")))
        await kernel.settle()
        for stream in list(kernel.driver("b").streams):
            kernel.driver("b").say(stream)
        await kernel.settle()
        event = await swapping
        assert [move.level for move in event.sessions] == ["text"] * 3
        assert kernel.swaps.counts.moves == {"text": 3}


async def test_conversations_that_an_event_does_not_tell_of_are_counted_all_the_same():
    swap = Swap(1, SwapRequest("main", "b"), "a")
    for number in range(MOST_SESSION_MOVES + 6):
        swap.note_move(SessionMove(f"s{number}", "kv" if number % 2 else "text"))
    assert len(swap.event.sessions) == MOST_SESSION_MOVES
    assert swap.levels == {"text": 35, "kv": 35}
