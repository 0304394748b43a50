"""Whichever way an answer or a conversation goes to another instance, what follows is the same to the last token.

The ways: *stop-and-copy* (held, then exported whole), *pre-copy* (exported while it goes on, held for the last range),
*crash* (resumed from ranges that are behind what was said), *wake* (an idle conversation, restored elsewhere from the
encrypted file into which the kernel has put what was exported). What each is compared with is the same answer where it
began, which went on as if nothing had happened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from moving import INVENTORS, PARAGRAPH, Copy, Fresh, Mover, ended, said

from byenatos_kernel.hibernation import Dormant, Hibernation, StoredPiece
from byenatos_sdk.protocol.messages import Message, assistant, user
from byenatos_sdk.warm import Resumption, State

pytestmark = pytest.mark.model

LENGTHS = [*(pytest.param(length, marks=pytest.mark.long) for length in (4096, 2048)), 512]

REREAD_S = 600.0

AHEAD = 4
"""Deltas that a dead instance said behind what was exported of it."""

Begun = Callable[..., Any]
Way = Callable[[Mover, Any, Any, Any], Awaitable[tuple[str, str]]]

KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "drawn": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "held": {"temperature": 1.0, "format": INVENTORS, "logit_bias": {}},
}


@pytest.fixture(scope="module")
def reader(driver_class: Any, models: Path) -> Iterator[Any]:
    """An instance that has read a long text once."""
    instances = Fresh(driver_class, models)
    yield instances("smollm2", n_ctx=8192, parallel=3)
    instances.close()


@pytest.fixture(scope="module")
def long(reader: Any, request: pytest.FixtureRequest) -> dict[int, Message]:
    """Questions of so many tokens; the longest that a test asks for has been read, once."""
    texts = {512: PARAGRAPH * 12, 2048: PARAGRAPH * 50, 4096: PARAGRAPH * 101}
    longest = max(item.callspec.params.get("length", 0) for item in request.session.items if hasattr(item, "callspec"))
    asyncio.run(reader.prefill("long", (user(texts[longest]),)))
    return {length: user(text) for length, text in texts.items() if length <= longest}


async def read_ahead(reader: Any, instance: Any, length: int) -> None:
    """Give an instance what was read already: what is shorter begins as the longest does."""
    copy = Copy(reader, "long")
    await copy.up_to(length - 40)
    await instance.restore("begun", copy.states)


async def by_stop_and_copy(mover: Mover, source: Any, target: Any, call: Any) -> tuple[str, str]:
    copy = Copy(source, call.id)
    await said(call, 3)
    while (piece := await copy.more(freeze=True)).stop > piece.start:
        pass
    before = call.text
    resumed = mover.go_on(target, call, Resumption(before, copy.progress, copy.states))
    await ended(resumed)
    await source.thaw(call.id)
    await ended(call)
    return call.text, before + resumed.text


async def by_pre_copy(mover: Mover, source: Any, target: Any, call: Any) -> tuple[str, str]:
    return await mover.move(source, target, call)


async def by_crash(mover: Mover, source: Any, target: Any, call: Any) -> tuple[str, str]:
    copy = Copy(source, call.id)
    await said(call, 3)
    while (piece := await copy.more()).stop - piece.start > 16:
        pass
    await said(call, len(call.deltas) + AHEAD)
    heard = call.text
    resumed = mover.go_on(target, call, Resumption(heard, copy.progress, copy.states))
    await ended(resumed)
    await ended(call)
    return call.text, heard + resumed.text


WAYS: Final[dict[str, Way]] = {"stop-and-copy": by_stop_and_copy, "pre-copy": by_pre_copy, "crash": by_crash}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", LENGTHS)
def test_an_answer_that_moves_goes_on_in_the_same_words(
    reader: Any, long: dict[int, Message], fresh: Fresh, mover: Mover, length: int, way: str, kind: str
) -> None:
    source, target = fresh("smollm2", n_ctx=4608), fresh("smollm2", n_ctx=4608)

    async def run() -> None:
        await read_ahead(reader, source, length)
        call = mover.begin(source, long[length], max_tokens=32 + length // 128, **KINDS[kind])
        stayed, went = await WAYS[way](mover, source, target, call)
        assert call.end.usage.input_tokens == pytest.approx(length, rel=0.05)
        assert went == stayed
        assert len(stayed) > 20
        assert await source.fingerprint() == await target.fingerprint()

    asyncio.run(run())


def through_a_file(folder: Path, talk: Copy, layout: str) -> tuple[State, ...]:
    """What a kernel that was started again finds in the file into which another has put a conversation."""
    pieces = [StoredPiece(piece.start, piece.stop, bytes(data)) for piece, data in talk.pieces]
    Hibernation(folder, folder / "key").write(Dormant("talk", layout, talk.stop, len(pieces)), pieces)
    [file] = folder.glob("*.warm")
    assert pieces[0].data[:64] not in file.read_bytes()
    dormant, found = Hibernation(folder, folder / "key").read("talk")
    assert (dormant.layout, dormant.positions) == (layout, talk.stop)
    return tuple(State(piece.start, piece.stop, memoryview(bytearray(piece.data))) for piece in found)


@pytest.mark.timeout(2 * REREAD_S)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_conversation_that_wakes_from_an_encrypted_file_goes_on_in_the_same_words(
    reader: Any, long: dict[int, Message], fresh: Fresh, mover: Mover, tmp_path: Path, length: int, kind: str
) -> None:
    source, target = fresh("smollm2", n_ctx=4608), fresh("smollm2", n_ctx=4608)

    async def run() -> None:
        await read_ahead(reader, source, length)
        await source.prefill("talk", (long[length],))
        asleep = Copy(source, "talk")
        [holding] = await source.holdings()
        await asleep.up_to(holding.positions)
        mine, other = await source.fingerprint(), await target.fingerprint()
        assert mine == other
        await target.restore("talk", through_a_file(tmp_path, asleep, mine.layout))
        sampling = {**KINDS[kind], "max_tokens": 24}
        sampling |= {"seed": 7} if kind == "drawn" else {"temperature": 0.0}
        turn = (long[length], assistant("I see."), user("Go on, as JSON."))
        here, there = (mover.begin(instance, *turn, **sampling) for instance in (source, target))
        for call in (here, there):
            cached = (await ended(call, REREAD_S)).usage.cached_tokens
            assert cached == 0 if kind == "drawn" else cached > length * 0.9  # what has a seed reads all of it again
        assert there.text == here.text
        assert len(here.text) > 20

    asyncio.run(run())
