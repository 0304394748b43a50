"""Endings: whoever waits for one hears of it, from the moment it asked."""

import asyncio

from byenatos_kernel.endings import Endings


async def test_an_end_before_the_waiting_task_has_begun_counts(rig):
    async with rig() as kernel:
        await kernel.settle()
        endings = Endings(kernel.switchboard)
        number = kernel.open("main")
        await kernel.settle()
        assert not endings.idle("main")
        waiting = asyncio.ensure_future(endings.next())
        kernel.switchboard.cancel(kernel.client, number)
        assert endings.idle("main")
        assert await waiting


async def test_a_deadline_ends_the_wait(rig):
    async with rig() as kernel:
        assert not await Endings(kernel.switchboard).next(asyncio.get_running_loop().time())
