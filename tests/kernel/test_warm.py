"""Warm state between the kernel and an instance: what is taken over, what is refused, who may use the arena when."""

import asyncio
import os

import msgspec
import pytest
from warm_peer import Peer

from byenatos_kernel import warm
from byenatos_kernel.arena import PARTS
from byenatos_kernel.pieces import Budget, Seals
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.errors import DriverCrashed, InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import ModelSpecification
from byenatos_sdk.protocol.warm import Export, Fingerprint, Piece, Restore

LAYOUT, OWNER = "model=1", "stream 7"


def writes(data, **lies):
    """A driver that writes ``data`` for positions 0 to 2."""

    def answer(method, params):
        assert method in {"export", "freeze"}
        assert isinstance(params, Export)
        os.pwrite(peer.arena.descriptor, data, params.offset)
        return msgspec.structs.replace(Piece(params.start, params.start + 2, len(data), b"p"), **lies)

    peer = Peer(answer)
    return peer


@pytest.fixture
def state():
    async def make():
        return WarmState(Seals(), Budget(1 << 20))

    return make


async def test_a_piece_is_copied_out_and_sealed_with_what_it_belongs_to(state):
    state = await state()
    peer = writes(b"bytes")
    piece = await state.take(peer, LAYOUT, OWNER, 7, 0)
    assert (piece.data, piece.progress, piece.start, piece.stop) == (b"bytes", b"p", 0, 2)
    state.seals.check(piece, LAYOUT, OWNER)
    assert peer.free == PARTS


@pytest.mark.parametrize(
    "lies",
    [
        *({"start": 1}, {"stop": -1}, {"stop": 0}, {"size": 0}, {"size": -5}),
        *({"size": (1 << 18) + 1}, {"size": 1 << 62}, {"progress": b"x" * (2 << 20)}),
    ],
)
async def test_a_driver_that_lies_about_a_piece_is_refused_and_the_arena_goes_on(state, lies):
    state = await state()
    peer = writes(b"bytes", **lies)
    for _ in range(PARTS + 1):
        with pytest.raises(InvalidRequest):
            await state.take(peer, LAYOUT, OWNER, 7, 0)
    assert peer.free == PARTS


async def test_what_a_driver_answers_that_cannot_be_read_is_refused(state):
    state = await state()
    peer = Peer(lambda *_: b"\xc1")
    for call in (state.take(peer, LAYOUT, OWNER, 7, 0), state.holdings(peer), state.fingerprint(peer)):
        with pytest.raises(InvalidRequest):
            await call
    assert peer.free == PARTS


async def test_pieces_are_laid_and_read_and_nothing_that_was_changed_gets_there(state):
    state = await state()
    source = writes(b"first state")
    piece = await state.take(source, LAYOUT, OWNER, 7, 0)
    seen = []

    def answer(method, params):
        assert isinstance(params, Restore)
        seen.extend(os.pread(target.arena.descriptor, one.size, one.offset) for one in params.pieces)
        return b""

    target = Peer(answer)
    wrong = [
        msgspec.structs.replace(piece, data=b"other state"),
        msgspec.structs.replace(piece, data=piece.data[:-1]),
        msgspec.structs.replace(piece, stop=3),
        msgspec.structs.replace(piece, mac=bytes(32)),
        msgspec.structs.replace(piece, layout="model=2"),
        msgspec.structs.replace(piece, owner="stream 8"),
    ]
    for one in wrong:
        with pytest.raises(InvalidRequest):
            await state.restore(target, LAYOUT, OWNER, 9, [one])
        with pytest.raises(InvalidRequest):
            await state.restore(target, LAYOUT, OWNER, 9, [one], checks=state.check_ahead(LAYOUT, OWNER, [one]))
    with pytest.raises(InvalidRequest):
        await state.restore(target, "model=2", OWNER, 9, [piece])
    assert (seen, target.calls, target.free) == ([], [], PARTS)
    await state.restore(target, LAYOUT, OWNER, 9, [piece])
    await state.restore(target, LAYOUT, OWNER, 9, [piece], checks=state.check_ahead(LAYOUT, OWNER, [piece]))
    assert (seen, target.free) == ([b"first state"] * 2, PARTS)


async def test_a_part_that_a_driver_may_still_write_to_is_given_to_nobody(state):
    state = await state()
    late = asyncio.get_running_loop().create_future()

    async def answer(_method, _params):
        return await late

    peer = Peer(answer)
    taking = asyncio.create_task(state.take(peer, LAYOUT, OWNER, 7, 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert peer.free == PARTS - 1
    late.set_result(Piece(0, 0, 0))
    for _ in range(4):
        await asyncio.sleep(0)
    assert peer.free == PARTS


async def test_a_driver_that_never_answers_keeps_its_part(state):
    state = await state()

    def answer(_method, _params):
        raise DriverCrashed("did not answer")

    peer = Peer(answer)
    with pytest.raises(DriverCrashed):
        await state.take(peer, LAYOUT, OWNER, 7, 0)
    assert peer.free == PARTS - 1


async def test_long_pieces_go_by_a_thread_and_the_loop_goes_on(state, monkeypatch):
    monkeypatch.setattr(warm, "INLINE_BYTES", 1)
    state = await state()
    data = b"x" * (200 << 10)
    peer = writes(data)
    piece = await state.take(peer, LAYOUT, OWNER, 7, 0)
    assert piece.data == data
    state.seals.check(piece, LAYOUT, OWNER)


async def test_an_instance_without_warm_state_is_told_apart(state):
    state = await state()
    peer = writes(b"bytes")
    peer.specification = ModelSpecification("m")
    for call in (
        state.take(peer, LAYOUT, OWNER, 7, 0),
        state.lay(peer, LAYOUT, OWNER, []),
        state.fingerprint(peer),
    ):
        with pytest.raises(Unavailable):
            await call


async def test_what_a_driver_says_of_itself_counts_among_its_own_kind_only(state):
    state = await state()
    one, other = (Peer(lambda *_: Fingerprint("same", "threads=1")) for _ in range(2))
    other.plugin.digest = "another version"
    assert (await state.fingerprint(one)).layout != (await state.fingerprint(other)).layout


async def test_many_pieces_are_given_in_batches_that_fit(state):
    state = await state()
    source, given = writes(b"x" * (100 << 10)), []
    pieces = [await state.take(source, LAYOUT, OWNER, 7, start) for start in range(0, 10, 2)]

    def answer(_method, params):
        given.append([(one.start, one.size) for one in params.pieces])
        return b""

    target = Peer(answer)
    await state.restore(target, LAYOUT, OWNER, 9, pieces)
    assert [[start for start, _ in batch] for batch in given] == [[0, 2], [4, 6], [8]]
    assert target.free == PARTS
