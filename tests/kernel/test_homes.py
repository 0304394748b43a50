"""Homes of conversations: who moves one, and who waits for that."""

import asyncio

from byenatos_kernel import homes
from byenatos_kernel.homes import Homes


async def test_two_who_move_one_conversation_do_not_trip_over_each_other():
    mine = Homes()

    async def move():
        await mine.settled("s")
        with mine.moving("s"):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    await asyncio.gather(move(), move(), move())
    assert not mine.is_moving("s")


async def test_a_move_that_takes_longer_than_others_wait_for_it_ends_as_any_other(monkeypatch):
    monkeypatch.setattr(homes, "PATIENCE_S", 0.0)
    mine = Homes()
    with mine.moving("s"):
        await mine.settled("s")
        with mine.moving("s"):
            pass
        assert mine.is_moving("s")
    assert not mine.is_moving("s")
