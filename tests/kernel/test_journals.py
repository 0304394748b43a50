"""Tests of crash journals: how the journal of an answer gets level with it."""

import asyncio
from types import SimpleNamespace

from warm_peer import Peer

from byenatos_kernel.journals import AT_ONCE, LONG, Journals
from byenatos_kernel.pieces import Budget, Seals
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.warm import Fingerprint, Piece, Reached

BYTES = 4
"""Of a position's state."""
NUMBER = 7


class Speaker(Peer):
    """An instance whose answer holds ``held`` positions and grows step by step until there are ``most``."""

    def __init__(self, held, most):
        super().__init__(self._answered)
        self.epoch = 1
        self.model = SimpleNamespace(id="m", journal=2)
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
            self.held = max(self.held, min(params.position, self.most))
            if self.held < params.position:
                self.level.set()
                await asyncio.Event().wait()
            return Reached(self.held)
        assert method == "export"
        assert params.start < self.held, "more than there is"
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


async def kept(held, most):
    """Keep a journal of an answer that begins with ``held`` positions and ends with ``most``; return both."""
    speaker = Speaker(held, most)
    journals = Journals(WarmState(Seals(), Budget(1 << 20)))
    stream = Answer(speaker)
    journals.started(stream, speaker)
    async with asyncio.timeout(60):
        await speaker.level.wait()
    journals.close()
    return speaker, stream.record


async def test_what_an_answer_begins_with_is_taken_over_several_pieces_at_a_time():
    speaker, record = await kept(held=4000, most=4100)
    assert [piece.start for piece in record.pieces] == [piece * LONG for piece in range(len(record.pieces))]
    assert speaker.held - 2 < record.stop <= speaker.held == 4100
    assert speaker.steps[0] == [0]
    assert speaker.steps[1] == [LONG * (1 + piece) for piece in range(AT_ONCE)]
    assert sum(starts[0] < 4000 - LONG for starts in speaker.steps) == 1 + 5  # 15 pieces


async def test_a_journal_that_is_level_takes_what_grows_piece_by_piece():
    speaker, record = await kept(held=10, most=40)
    assert record.stop == speaker.held == 40
    assert all(len(starts) == 1 for starts in speaker.steps)
