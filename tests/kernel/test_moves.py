"""Answers that go on from what a dead process left, where somebody leaves meanwhile."""

import asyncio
import os
from types import SimpleNamespace

from warm_peer import Peer

from byenatos_kernel.arena import PARTS
from byenatos_kernel.moves import Moves
from byenatos_kernel.pieces import Budget, Record, Seals
from byenatos_kernel.streams import StreamState
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.errors import DriverCrashed
from byenatos_sdk.protocol.warm import Fingerprint, Piece

NUMBER = 9


async def test_an_answer_that_nobody_waits_for_any_more_is_forgotten_where_it_was_to_go_on():
    released = asyncio.Event()

    def answer(method, params):
        if method == "fingerprint":
            return Fingerprint("layout")
        if method == "export":
            os.pwrite(peer.arena.descriptor, b"state", params.offset)
            return Piece(0, 2, 5)
        assert method == "release"
        assert params.subject == NUMBER
        released.set()
        return b""

    peer = Peer(answer)
    warm = WarmState(Seals(), Budget(1 << 20))
    record = Record("stream 7", (await warm.fingerprint(peer)).layout, warm.budget)
    record.add(await warm.take(peer, record.layout, record.owner, 7, 0))
    stream = SimpleNamespace(record=record, state=StreamState.WAITING)
    ready = asyncio.get_running_loop().create_future()
    unit = SimpleNamespace(until_ready=lambda: ready)
    moves = Moves(warm, SimpleNamespace(reserve=lambda: NUMBER), None, None)
    going_on = asyncio.create_task(moves.resume(stream, unit, "m", DriverCrashed("killed")))
    await asyncio.sleep(0)
    stream.state = StreamState.ENDED
    record.clear()
    ready.set_result(peer)
    async with asyncio.timeout(60):
        await going_on
        await released.wait()
    assert peer.free == PARTS
