"""The arena: what can be taken out and put in, who waits, and what a process can do to its memory."""

import asyncio
import fcntl
import mmap
import os

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from byenatos_kernel.arena import PARTS, Arena, Part
from byenatos_sdk.protocol.errors import DriverCrashed, InvalidRequest


def test_what_was_written_is_read_and_parts_do_not_overlap():
    async def run():
        arena = Arena(1)
        parts = [await arena.take() for _ in range(PARTS)]
        for number, part in enumerate(parts):
            arena.write(part, 0, bytes([number]) * part.size)
        for number, part in enumerate(parts):
            assert arena.read(part, part.size) == bytes([number]) * part.size

    asyncio.run(run())


@settings(max_examples=200)
@given(place=st.integers(-(1 << 40), 1 << 40), size=st.integers(-10, (1 << 20) + 10))
def test_nothing_outside_of_a_part_is_read_or_written(place, size):
    arena = Arena(1)
    part = Part(arena.part_bytes, arena.part_bytes)
    data = bytes(max(size, 0))
    if place >= 0 and place + len(data) <= part.size:
        arena.write(part, place, data)
    else:
        with pytest.raises(InvalidRequest):
            arena.write(part, place, data)
    if 0 <= size <= part.size:
        assert len(arena.read(part, size)) == size
    else:
        with pytest.raises(InvalidRequest):
            arena.read(part, size)


def test_its_size_is_sealed():
    arena = Arena(1)
    for size in (0, 1 << 19, 1 << 21):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.descriptor, size)
    with pytest.raises(PermissionError):
        os.pwrite(arena.descriptor, b"beyond", arena.size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(arena.descriptor, 1033, 8)  # one seal more


def test_a_process_that_gives_its_pages_away_costs_the_kernel_nothing_but_zeros():
    async def run():
        arena = Arena(1)
        part = await arena.take()
        arena.write(part, 0, b"full")
        with mmap.mmap(arena.descriptor, arena.size) as theirs:
            theirs.madvise(mmap.MADV_REMOVE)
        assert arena.read(part, 4) == bytes(4)
        arena.write(part, 0, b"full")
        assert arena.read(part, 4) == b"full"

    asyncio.run(run())


def test_whoever_finds_no_part_waits_in_line():
    async def run():
        arena = Arena(1)
        parts = [await arena.take() for _ in range(PARTS)]
        first, second = asyncio.create_task(arena.take()), asyncio.create_task(arena.take())
        await asyncio.sleep(0)
        arena.give_back(parts[2])
        assert await first is parts[2]
        assert not second.done()
        second.cancel()
        await asyncio.sleep(0)
        arena.give_back(parts[0])
        assert await arena.take() is parts[0]

    asyncio.run(run())


def test_a_part_that_came_too_late_for_a_cancelled_one_goes_to_the_next():
    async def run():
        arena = Arena(1)
        parts = [await arena.take() for _ in range(PARTS)]
        waiting = asyncio.create_task(arena.take())
        await asyncio.sleep(0)
        arena.give_back(parts[0])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await arena.take() is parts[0]

    asyncio.run(run())


def test_those_who_wait_hear_of_the_end():
    async def run():
        arena = Arena(1)
        for _ in range(PARTS):
            await arena.take()
        waiting = asyncio.create_task(arena.take())
        await asyncio.sleep(0)
        arena.close()
        for late in (waiting, arena.take()):
            with pytest.raises(DriverCrashed):
                await late

    asyncio.run(run())
