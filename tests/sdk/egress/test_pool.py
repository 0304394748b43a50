"""Connections that are kept, handed on, waited for, and given up."""

import asyncio

import pytest

from byenatos_sdk.egress import EgressUnavailable
from byenatos_sdk.egress.pool import Pool
from byenatos_sdk.protocol.errors import Unavailable

ANSWER = b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"


def later():
    return asyncio.get_running_loop().time() + 60


async def used(pool):
    connection = await pool.get(later())
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    await connection.head(later())
    return connection


def test_a_connection_is_used_again_the_last_one_first(broker, run):
    async def main():
        pool = Pool()
        broker.queue(*[ANSWER] * 4)
        first, second = await used(pool), await used(pool)
        first.leave()
        second.leave()
        assert await used(pool) is second
        assert broker.dialled == 2
        pool.close()

    run(main())


def test_who_finds_all_busy_waits_in_line(broker, run):
    async def main():
        pool = Pool(most=1)
        broker.queue(*[ANSWER] * 3)
        only = await used(pool)
        waiting = [asyncio.ensure_future(used(pool)) for _ in range(2)]
        await asyncio.sleep(0)
        only.leave()
        assert await waiting[0] is only
        assert not waiting[1].done()
        only.leave()
        assert await waiting[1] is only
        pool.close()

    run(main())


def test_a_wait_ends_in_time_and_a_cancelled_one_loses_no_connection(broker, run):
    async def main():
        pool = Pool(most=1)
        broker.queue(*[ANSWER] * 3)
        only = await used(pool)
        with pytest.raises(TimeoutError):
            await pool.get(asyncio.get_running_loop().time() + 0.01)
        waiting = asyncio.ensure_future(pool.get(later()))
        await asyncio.sleep(0)
        only.leave()  # given to the one that waits, which is cancelled in the same turn
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await used(pool) is only
        pool.close()

    run(main())


def test_room_after_a_connection_that_broke_goes_to_who_waits(broker, run):
    async def main():
        pool = Pool(most=1)
        broker.queue(ANSWER, ANSWER)
        only = await used(pool)
        waiting = asyncio.ensure_future(used(pool))
        await asyncio.sleep(0)
        only.abort()
        assert await waiting is not only
        assert broker.dialled == 2
        pool.close()

    run(main())


def test_a_broker_that_refuses_is_told_and_leaves_room_for_another_try(broker, run):
    async def main():
        pool = Pool(most=1)
        broker.refusal = EgressUnavailable("no port")
        for _ in range(2):
            with pytest.raises(EgressUnavailable):
                await pool.get(later())
        broker.refusal = None
        broker.queue(ANSWER)
        await used(pool)
        pool.close()

    run(main())


def test_a_closed_pool_breaks_everything_off(broker, run):
    async def main():
        pool = Pool(most=1)
        broker.queue(ANSWER)
        busy = await used(pool)
        waiting = asyncio.ensure_future(pool.get(later()))
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(Unavailable):
            await waiting
        assert not busy.usable
        with pytest.raises(Unavailable):
            await pool.get(later())

    run(main())
