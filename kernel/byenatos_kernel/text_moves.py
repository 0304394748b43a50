"""Moves of running answers by their text, to any model, with little of it left to read when they are cut over.

Between instances that do not share warm state the target has to read what was said: the request, and the answer as far
as it has come. A target with warm state reads it while the source goes on::

    round       the target reads the request and the answer so far; what it read in the round before it still has, so
                that each round is shorter than the one before
    boundary    when the answer has grown by no more than a few words in a round (or after six rounds: the source is
                faster than the target reads), the next word is waited for: what the source is computing when it is
                stopped is lost
    cut over    it is stopped at the source and started at the target, which finds nearly all of it read
    trial       until the first word comes from the target the stream may go back (``trials.py``): it goes on at the
                source by text, which the source still has in its warm state

The source decides where it stops: it is told to when the stream has left its table, and what it says after that finds
no stream. What was tried instead: stopping first and reading then. At 2,000 tokens of a small model the client waits
5 to 10 s for it, instead of a few token times.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from byenatos_kernel.instances import Instance
from byenatos_kernel.places import Places
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.trials import Trial, patience_s
from byenatos_kernel.units import Unit
from byenatos_kernel.warm import WarmState
from byenatos_sdk.protocol.errors import ByenatosError, DeadlineExceeded

__all__ = ["Reading", "TextMoves"]

ROUNDS = 6
CLOSE = 12
"""Characters that may be unread when an answer is cut over: about three tokens."""

ROUND_S = 60.0
"""How long one round may take."""

READINGS = 3
"""What the first word may take, in times that the last round took: the rest is read, and a cut word is mended."""

BOUNDARY_S = 2.0
"""How long the next word is waited for."""

UNREAD_S = 15.0
"""How long the first word may take of a target that has read nothing before."""

log = logging.getLogger("byenatos")


class Reading:
    """What a target has read of a stream: how many ``positions``, and what the last round ``took_s``."""

    def __init__(self, positions: int, took_s: float) -> None:
        self.positions = positions
        self.took_s = took_s


class TextMoves:
    """Moves streams by text; ``by_text`` places one anew."""

    def __init__(
        self,
        warm: WarmState,
        places: Places,
        by_text: Callable[[Stream, Unit, str, str], None],
    ) -> None:
        self._warm = warm
        self._places = places
        self._by_text = by_text
        self._loop = asyncio.get_running_loop()

    async def read_along(self, stream: Stream, target: Instance) -> Reading:
        """Have the target read what a stream said, round by round, while the stream goes on.

        Raises:
            ByenatosError: the target does not read ahead, or the stream has ended or is elsewhere by now.
        """
        source, number = stream.instance, stream.id
        reading = Reading(0, 0.0)
        for _ in range(ROUNDS):
            before, began = stream.total, self._loop.time()
            positions = await self._warm.read(target, stream.body, stream.text, ROUND_S)
            reading = Reading(positions, self._loop.time() - began)
            stream.check_at(source, number)
            log.debug("stream %d: a round to %d took %.3f s", number, positions, reading.took_s)
            if stream.total - before <= CLOSE:
                break
        assert source is not None
        with suppress(ByenatosError):  # a source without warm state is stopped at any time
            await self._warm.reach(source, number, 0, BOUNDARY_S)  # it answers between two steps
        stream.check_at(source, number)
        return reading

    def move(self, stream: Stream, target: Unit, reason: str, reading: Reading | None = None) -> Trial | None:
        """Cut a running stream over to ``target``; return how it does there, or ``None`` if it cannot be moved.

        A tool call that is out must be followed by what belongs to it, by the same model: such a stream stays.
        """
        source = stream.instance
        if stream.bound or source is None:
            return None
        limit_s = patience_s(stream) + (READINGS * reading.took_s if reading is not None else UNREAD_S)
        left_at, there = stream.progress, target.instance

        def back(error: ByenatosError) -> bool:
            if not source.serving:
                return False
            log.info("stream %d goes back to epoch %d: %s", stream.id, source.epoch, error.message)
            self._places.detach(stream, stop=there is None or there.serving)
            if stream.departed is None:
                stream.depart(target.model.id, error.code)
            else:
                stream.departed = None  # it never came there
            self._places.start(stream, source)
            return True

        self._places.detach(stream)
        self._by_text(stream, target, source.model.id, reason)
        trial = Trial(stream, back, left_at)
        if stream.state not in {StreamState.RUNNING, StreamState.WAITING}:
            trial.end()  # there was no place for it: it was told so
            return trial
        stream.end_trial()
        stream.trial = trial
        timer = self._loop.call_later(limit_s, _late, stream, trial, limit_s)
        trial.over.add_done_callback(lambda _: _over(stream, trial, timer))
        return trial


def _late(stream: Stream, trial: Trial, limit_s: float) -> None:
    if stream.trial is trial:
        trial.failed(DeadlineExceeded(f"no first word within {limit_s:.2f} s"))
    trial.end()


def _over(stream: Stream, trial: Trial, timer: asyncio.TimerHandle) -> None:
    timer.cancel()
    if stream.trial is trial:
        stream.trial = None
