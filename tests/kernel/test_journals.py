"""Tests of crash journals: how the journal of an answer gets level with it."""

import asyncio
from types import SimpleNamespace

from warm_peer import Peer

from byenatos_kernel.arena import PARTS
from byenatos_kernel.journals import AT_ONCE, LONG, Journals
from byenatos_kernel.pieces import Budget, Seals
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.warm import Fingerprint, Piece, Reached

BYTES = 4
"""Of a position's state."""
NUMBER = 7


class Speaker(Peer):
    """An instance whose answer holds ``held`` positions and grows step by step until there are ``most``."""

    def __init__(self, held, most, journal, suspended_at):
        super().__init__(self._answered)
        self.epoch = 1
        self.model = SimpleNamespace(id="m", journal=journal)
        self.suspended_at = suspended_at
        self.reached: list[int] = []
        self.held = held
        self.most = most
        self.steps: list[list[int]] = []
        """Where the pieces begin that were written before each step."""
        self.level = asyncio.Event()
        self._step = asyncio.Event()
        self._step.set()

    async def _answered(self, method, params):
        if method == "fingerprint":
            return Fingerprint("layout", "arithmetic")
        if method == "reach":
            self.reached.append(params.position)
            self.held = max(self.held, min(params.position, self.most))
            if self.held < params.position:
                self.level.set()
                await asyncio.Event().wait()
            return Reached(self.held)
        assert method == "export"
        if params.start == self.suspended_at:
            self.suspended_at = -1
            raise InvalidRequest(f"expected a start of at most 0, found {params.start}")
        assert params.start < self.held or self.model.journal == 1, "more than there is"
        if self._step.is_set():
            self._step = asyncio.Event()
            self.steps.append([])
            asyncio.get_running_loop().call_soon(self._compute, self._step)
        self.steps[-1].append(params.start)
        await self._step.wait()
        stop = min(params.start + LONG, self.held)
        return Piece(params.start, stop, (stop - params.start) * BYTES, b"p")

    def _compute(self, step):
        self.held += self.held < self.most
        step.set()


class Answer:
    """A stream as journals see it."""

    def __init__(self, instance):
        self.id = NUMBER
        self.instance = instance
        self.record = None


async def kept(held, most, journal=2, suspended_at=-1):
    """Keep a journal of an answer that begins with ``held`` positions and ends with ``most``; return both."""
    speaker = Speaker(held, most, journal, suspended_at)
    journals = Journals(WarmState(Seals(), Budget(1 << 20)))
    stream = Answer(speaker)
    journals.started(stream, speaker)
    async with asyncio.timeout(60):
        await speaker.level.wait()
    journals.close()
    return speaker, stream.record


async def test_what_an_answer_begins_with_is_taken_over_several_pieces_at_a_time():
    speaker, record = await kept(held=4000, most=4100)
    assert [piece.start for piece in record.pieces] == [*(piece * LONG for piece in range(17)), 4099]
    assert speaker.held - 2 < record.stop <= speaker.held == 4100
    assert speaker.steps[0] == [0]
    assert speaker.steps[1] == [LONG * (1 + piece) for piece in range(AT_ONCE)]
    assert sum(starts[0] < 4000 - LONG for starts in speaker.steps) == 1 + 5  # 15 pieces


async def test_a_journal_that_is_level_takes_what_grows_piece_by_piece():
    speaker, record = await kept(held=10, most=40)
    assert record.stop == speaker.held == 40
    assert all(len(starts) == 1 for starts in speaker.steps)


async def test_where_each_token_is_a_piece_nobody_asks_whether_there_is_one():
    speaker, record = await kept(held=10, most=40, journal=1)
    assert [piece.stop for piece in record.pieces] == list(range(11, 41))
    assert speaker.reached == [1, 41]


async def test_of_several_tokens_the_last_is_not_waited_for():
    speaker, record = await kept(held=10, most=40, journal=8)
    assert [piece.stop - piece.start for piece in record.pieces][1:] == [8, 8, 8]
    assert speaker.reached == [8, 18, 26, 34, 42]


async def test_the_journal_of_an_answer_that_was_suspended_goes_on_with_it():
    speaker, record = await kept(held=10, most=40, journal=1, suspended_at=20)
    assert record.stop == speaker.held == 40
    assert speaker.reached == [1, 21, 41]


async def test_nobody_is_kept_from_the_arena_by_a_journal_that_waits():
    speaker = Speaker(10, 40, 1, -1)
    parts = [await speaker.arena.take() for _ in range(PARTS - 1)]
    journals = Journals(WarmState(Seals(), Budget(1 << 20)))
    journals.started(stream := Answer(speaker), speaker)
    async with asyncio.timeout(60):
        await speaker.level.wait()
    journals.close()
    assert stream.record.stop == 40
    assert len(speaker.reached) > 10
    for part in parts:
        speaker.arena.give_back(part)
