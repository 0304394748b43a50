"""Tests of the warm state with a real model: what moves goes on in the same tokens, what does not fit is refused.

Each move is made by hand, as the kernel makes it: ranges are exported while the answer goes on, then it is frozen, and
what came out is resumed in another instance. The first instance then goes on as well: it says what would have come.
"""

import asyncio
from typing import Any

import pytest
from moving import INVENTORS, PARAGRAPH, Copy, Fresh, Mover, ended, said

from byenatos_sdk.protocol.errors import InvalidRequest, NotFound, Overloaded
from byenatos_sdk.protocol.messages import Failure, Finish, assistant, user
from byenatos_sdk.warm import Resumption, State

pytestmark = pytest.mark.model


@pytest.fixture
def pair(fresh: Fresh) -> tuple[Any, Any]:
    """Two instances of the same model, of the same fingerprint."""
    return fresh("smollm2", n_ctx=2048, parallel=3), fresh("smollm2", n_ctx=2048, parallel=3)


STORY = user("Tell me a story about the sea.")


async def copied(mover: Mover, source: Any, deltas: int = 6, **sampling: Any) -> tuple[Any, Copy, str]:
    """A short answer in its middle, frozen and exported."""
    call = mover.begin(source, STORY, **{"max_tokens": 24, "temperature": 0.0, **sampling})
    await said(call, deltas)
    copy = Copy(source, call.id)
    await copy.more(freeze=True)
    return call, copy, call.text


def test_a_frozen_answer_says_nothing_until_it_is_thawed(pair: tuple[Any, Any], mover: Mover) -> None:
    async def run() -> None:
        source, _ = pair
        call, _, before = await copied(mover, source)
        beside = mover.begin(source, user("Say hello."), max_tokens=8)
        await ended(beside)
        assert call.text == before
        await source.thaw(call.id)
        assert (await ended(call)).usage.output_tokens == 24
        with pytest.raises(NotFound):
            await source.thaw(call.id)

    asyncio.run(run())


def test_an_answer_whose_last_words_were_not_exported_is_made_again_without_saying_them_twice(
    pair: tuple[Any, Any], mover: Mover
) -> None:
    async def run() -> None:
        source, target = pair
        call, copy, _ = await copied(mover, source, temperature=1.0)
        await source.thaw(call.id)
        await said(call, 15)
        call.cancelled = True  # it dies
        heard = call.text
        resumed = mover.go_on(target, call, Resumption(heard, copy.progress, copy.states))
        assert (await ended(resumed)).usage.output_tokens == 24
        whole = mover.go_on(source, call, Resumption("", copy.progress, copy.states))
        await ended(whole)  # had said nothing: says it all
        assert whole.text == heard + resumed.text

    asyncio.run(run())


def test_an_answer_that_becomes_another_one_fails_before_it_says_a_word(pair: tuple[Any, Any], mover: Mover) -> None:
    async def run() -> None:
        source, target = pair
        call, copy, before = await copied(mover, source)
        call.cancelled = True
        ahead = mover.go_on(target, call, Resumption(before + " and something else", copy.progress, copy.states))
        assert isinstance(await ended(ahead), Failure)
        other = mover.go_on(target, call, Resumption("x" * len(before), copy.progress, copy.states))
        assert isinstance(await ended(other), Failure)
        assert ahead.text == other.text == ""
        fine = mover.go_on(target, call, Resumption(before, copy.progress, copy.states))
        assert isinstance(await ended(fine), Finish)

    asyncio.run(run())


def test_a_continued_answer_moves_with_its_seam(pair: tuple[Any, Any], mover: Mover, recorded: Any) -> None:
    async def run() -> None:
        source, target = pair
        call = mover.begin(source, STORY, assistant("Once upon a ti"), max_tokens=12, temperature=0.0)
        stayed, went = await mover.move(source, target, call)
        assert went == stayed
        assert stayed.startswith("me")

    asyncio.run(run())


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 7}], ids=["greedy", "seeded"])
def test_an_answer_that_a_grammar_holds_moves_in_the_middle_of_its_structure(
    pair: tuple[Any, Any], mover: Mover, sampling: dict[str, Any]
) -> None:
    async def run() -> None:
        source, target = pair
        question = user("Describe three inventors, with the year of their birth, as JSON.")
        call = mover.begin(source, question, format=INVENTORS, max_tokens=60, logit_bias={}, **sampling)
        stayed, went = await mover.move(source, target, call)
        assert went == stayed
        assert stayed.lstrip().startswith("[")

    asyncio.run(run())


def test_the_turn_after_a_session_was_moved_reads_only_what_is_new(pair: tuple[Any, Any], mover: Mover) -> None:
    async def run() -> None:
        source, target = pair
        positions = await source.prefill("talk", (STORY,))
        copy = Copy(source, "talk")
        await copy.up_to(positions)
        await target.restore("talk", copy.states)
        assert ("talk", positions) in {(one.session, one.positions) for one in await target.holdings()}
        call = mover.begin(target, STORY, max_tokens=2, temperature=0.0)
        assert (await ended(call)).usage.cached_tokens >= positions - 1
        await target.release("talk")

    asyncio.run(run())


def test_what_does_not_fit_is_refused_and_disturbs_nobody(pair: tuple[Any, Any], mover: Mover) -> None:
    async def run() -> None:
        source, target = pair
        call, copy, before = await copied(mover, source)
        beside = mover.begin(target, STORY, max_tokens=40, temperature=0.0)
        [whole] = copy.states
        stop, data = whole.stop, bytes(whole.data)
        wrong = {
            "truncated": State(0, stop, memoryview(bytearray(data[:-100]))),
            "only its tokens": State(0, stop, memoryview(bytearray(data[: 4 * stop]))),
            "another range": State(0, stop - 1, memoryview(bytearray(data))),
            "begins later": State(1, stop + 1, memoryview(bytearray(data))),
            "no tokens of this model": State(0, stop, memoryview(bytearray(b"\xff" * 4 + data[4:]))),
            "no range at all": State(5, 5, memoryview(bytearray(data))),
            "nothing": State(0, stop, memoryview(bytearray())),
        }
        for what, state in wrong.items():
            with pytest.raises(InvalidRequest):
                await target.restore(call.id, (state,))
            failed = mover.go_on(target, call, Resumption(before, copy.progress, (state,)))
            assert isinstance(await ended(failed), Failure), what
        for progress in (b"", b"\xc1", copy.progress[:-1]):
            failed = mover.go_on(target, call, Resumption(before, progress, copy.states))
            assert isinstance(await ended(failed), Failure)
        assert (await ended(beside)).usage.output_tokens == 40
        resumed = mover.go_on(target, call, Resumption(before, copy.progress, copy.states))
        await source.thaw(call.id)
        assert (await ended(resumed), before + resumed.text) == (await ended(call), call.text)

    asyncio.run(run())


def test_a_piece_never_takes_more_room_than_it_is_given(pair: tuple[Any, Any], mover: Mover) -> None:
    async def run() -> None:
        source, target = pair
        call = mover.begin(source, user(PARAGRAPH * 4), max_tokens=12, temperature=0.0)
        await said(call, 2)
        copy = Copy(source, call.id)
        first = await copy.more(freeze=True, room=1 << 20)
        assert 0 < first.size <= 1 << 20
        with pytest.raises(Overloaded):
            await source.export(call.id, first.stop, memoryview(bytearray(100)))
        while (await copy.more(room=1 << 20)).size:
            pass
        await target.restore(call.id, copy.states[:2])
        resumed = mover.go_on(target, call, Resumption(call.text, copy.progress, copy.states[2:]))
        await ended(resumed)
        await source.thaw(call.id)
        await ended(call)
        assert call.text.endswith(resumed.text)

    asyncio.run(run())


def test_there_is_a_place_for_as_many_as_may_run_and_no_more(pair: tuple[Any, Any], mover: Mover) -> None:
    async def run() -> None:
        source, target = pair
        call, copy, _ = await copied(mover, source)
        await target.restore(101, copy.states)
        await target.restore(102, copy.states)
        await target.restore(103, copy.states)
        with pytest.raises(Overloaded):
            await target.restore(104, copy.states)
        waiting = mover.begin(target, STORY, max_tokens=3, temperature=0.0)
        await target.release(101)
        await ended(waiting)
        await target.release(102)
        await target.release(103)
        await source.thaw(call.id)
        assert (await ended(call)).usage.output_tokens == 24

    asyncio.run(run())


def test_the_fingerprint_tells_what_differs(fresh: Fresh, mover: Mover) -> None:
    ours, same = fresh("smollm2", n_ctx=512), fresh("smollm2", n_ctx=256)
    threads, batches = fresh("smollm2", n_ctx=256, threads=2), fresh("smollm2", n_ctx=256, parallel=2)
    cache, model = fresh("smollm2", n_ctx=256, cache_type_k="q8_0"), fresh("gemma-3-270m", n_ctx=256)

    async def run() -> None:
        mine = await ours.fingerprint()
        assert mine == await same.fingerprint()
        for other in (threads, batches):
            assert (await other.fingerprint()).layout == mine.layout
            assert (await other.fingerprint()).arithmetic != mine.arithmetic
        for other in (cache, model):
            assert (await other.fingerprint()).layout != mine.layout
        await ours.prefill("One", (user(PARAGRAPH * 2),))
        await ours.prefill("Two", (user(STORY.text * 8),))  # beside it
        assert await ours.fingerprint() == mine
        await ours.release("One")  # leaves a hole
        assert (await ours.fingerprint()).layout == mine.layout
        assert (await ours.fingerprint()).arithmetic not in {mine.arithmetic, (await same.fingerprint()).arithmetic}
        await ours.release("Two")
        assert await ours.fingerprint() == mine

    asyncio.run(run())


def test_a_model_with_a_sliding_window_moves_too(fresh: Fresh, mover: Mover) -> None:
    source, target = fresh("gemma-3-270m", n_ctx=1024), fresh("gemma-3-270m", n_ctx=1024)

    async def run() -> None:
        call = mover.begin(source, user(PARAGRAPH * 16), max_tokens=20, temperature=0.0, logit_bias={1: -100.0})
        stayed, went = await mover.move(source, target, call)
        assert call.end.usage.input_tokens > 600  # longer than the window
        assert went == stayed

    asyncio.run(run())
