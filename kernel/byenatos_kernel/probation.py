"""Probation: for a while after a switch the old unit stays warm, and the slot goes back to it if the new one fails.

What leads back: the new instance fails too large a share of the slot's requests, takes too much longer to a first token
than the old one did, dies for good, or dies twice. Each is judged when something happens (a request ends, a process is
lost), never by polling. The figures are those of the slot since the switch; what was answered elsewhere meanwhile does
not count. Requests that end for reasons of their own (cancelled, refused for what they ask) count as answered.

Whatever the new instance fails meanwhile goes on at the old one, where that can be (``Places.refuge``).

A kept unit is *spare*: it counts for nothing, and is given up as soon as its room is needed, when the next swap of its
slot begins (there are two generations, never three), and when the kernel stops.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.measurements import Measurements, Outcome, percentile
from byenatos_kernel.routes import Slot
from byenatos_kernel.streams import Stream
from byenatos_kernel.swap_policy import ProbationRules, SwapPolicy
from byenatos_kernel.swaps import Swap
from byenatos_kernel.units import KEPT, Unit
from byenatos_sdk.protocol.errors import InvalidRequest, Unavailable
from byenatos_sdk.protocol.messages import Terminal

__all__ = ["Probation", "Probations"]

MOST_DEATHS = 2
"""The new process may die once: that is made good by a restart."""
QUICK_S = 0.25
"""A first token that comes within this time is no reason to go back, whatever the old model's time was."""
LATELY = 64
"""Of how many requests the time to the first token is compared."""

log = logging.getLogger("byenatos")


class Probation:
    """One swap whose old unit is ``kept``.

    ``verdict`` is the reason to go back, or empty if the time has passed; ``recorded`` ends when a way back is on disk.
    """

    def __init__(self, swap: Swap, slot: Slot, kept: Unit, target: Unit, keep_s: float) -> None:
        self.swap = swap
        self.slot = slot
        self.kept = kept
        self.target = target
        self.keep_s = keep_s
        self.old_first_s: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.verdict: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.recorded: asyncio.Task[None] | None = None
        self.judging = False
        self.stuck = False
        self.requests = 0
        self.failed = 0
        self.deaths = 0
        self.first_s: deque[float] = deque(maxlen=LATELY)

    @property
    def reservation(self) -> str:
        """What stands among the kept unit's slots, so that nothing else releases it."""
        return f"{KEPT}{self.swap.event.id})"

    @property
    def sentence(self) -> str:
        """What an operator should know."""
        return f"{self.kept.model.id} is kept for {self.keep_s:g} s"

    @property
    def way_back(self) -> bool:
        """Whether the kept unit can serve, or will soon while the new one never will."""
        return self.kept.ready is not None or (self.target.dead and self.kept.starting)

    def complaint(self, rules: ProbationRules) -> str:
        """Say what is wrong with the new instance, with figures; empty if nothing is."""
        name = self.target.model.id
        if self.target.error is not None:
            return f"{name} died and does not return: {self.target.error.message.splitlines()[0]}"
        if self.deaths >= MOST_DEATHS:
            return f"{name} died {self.deaths} times"
        if self.requests >= rules.least_requests and self.failed >= max(1.0, rules.error_rate * self.requests):
            return f"{name} failed {self.failed} of {self.requests} requests"
        if rules.latency_factor and self.old_first_s and len(self.first_s) >= rules.least_requests:
            median = percentile(list(self.first_s), 0.5)
            if median > max(QUICK_S, rules.latency_factor * self.old_first_s):
                return (
                    f"the first token of {name} takes {median * 1000:.0f} ms (the median of {len(self.first_s)} "
                    f"requests), that of {self.kept.model.id} took {self.old_first_s * 1000:.0f} ms"
                )
        return ""


class Probations:
    """All probations, by slot.

    ``turn_back`` binds the slot to the kept unit again, in one turn of the loop: it is called in the middle of the loss
    of a process, whose streams then find the old unit behind their slot.
    """

    def __init__(
        self,
        drivers: DriverManager,
        measurements: Measurements,
        policy: Callable[[], SwapPolicy],
        turn_back: Callable[[Probation, str], None],
    ) -> None:
        self._by_slot: dict[str, Probation] = {}
        self._drivers = drivers
        self._measurements = measurements
        self._policy = policy
        self._turn_back = turn_back
        self._loop = asyncio.get_running_loop()
        drivers.on_lost.append(self._lost)

    def begin(self, swap: Swap, slot: Slot, left: Unit | None, target: Unit) -> Probation | None:
        """In the turn of the switch: keep the unit that the slot left, if it is to be kept and can serve."""
        asked = swap.request.keep_old_s
        keep_s = self._policy().keep_old_s(slot.name) if asked is None else asked
        if keep_s <= 0 or left is None or left.ready is None:
            return None
        probation = Probation(swap, slot, left, target, keep_s)
        probation.old_first_s = self._usual_first_s(slot.name, left.ready.epoch)
        left.slots.add(probation.reservation)
        probation.timer = self._loop.call_later(keep_s, self._end, probation)
        self._by_slot[slot.name] = probation
        return probation

    def of(self, swap: Swap, slot: Slot) -> Probation | None:
        """The probation of a swap, if it has one that is not over."""
        probation = self._by_slot.get(slot.name)
        return probation if probation is not None and probation.swap is swap else None

    def judge(self, probation: Probation) -> None:
        """From now on the new instance is judged, also for what has happened since the switch."""
        probation.judging = True
        self._look(probation)

    def ended(self, stream: Stream, _: Terminal) -> None:
        """A stream ended, and the measurements know of it."""
        self._measured(stream)

    def left(self, stream: Stream, _: str) -> None:
        """A stream is about to leave an instance that failed it, and the measurements know of it."""
        self._measured(stream)

    def _measured(self, stream: Stream) -> None:
        probation = self._by_slot.get(stream.slot) if stream.slot is not None else None
        outcome = self._measurements.latest(stream.slot) if probation is not None and stream.slot is not None else None
        if probation is None or outcome is None:
            return
        instance = probation.target.instance
        if instance is not None and outcome.epoch == instance.epoch:
            _count(probation, outcome)
            self._look(probation)

    def roll_back(self, slot: str, reason: str) -> Probation:
        """Go back on somebody's word.

        Raises:
            InvalidRequest: nothing is kept.
            Unavailable: what is kept cannot serve just now.
        """
        probation = self._by_slot.get(slot)
        if probation is None or not probation.judging:
            raise InvalidRequest(
                f"slot {slot!r}: expected an old model that is kept, found none; it is kept for keep_old_s seconds "
                f"(policies/swap.toml) after a swap; later, swap to it: byenatos swap {slot} MODEL"
            )
        if probation.kept.ready is None:
            raise Unavailable(f"slot {slot!r} cannot go back: {probation.kept.unavailable(self._loop.time()).message}")
        self._back(probation, reason)
        return probation

    def kept_by(self, slot: str) -> Unit | None:
        """The old unit of a slot that serves what the new one fails, from the turn of the switch on."""
        probation = self._by_slot.get(slot)
        return probation.kept if probation is not None and probation.kept.ready is not None else None

    def end(self, slot: str) -> None:
        """End the probation of a slot, if there is one: the old unit may go."""
        probation = self._by_slot.get(slot)
        if probation is not None:
            self._end(probation)

    def give_up(self, model: str | None = None) -> bool:
        """End the oldest probation (that keeps ``model``); return whether there was one."""
        found = next((one for one in self._by_slot.values() if model in {None, one.kept.model.id}), None)
        if found is not None:
            self._end(found)
        return found is not None

    # ---- private -----------------------------------------------------------------------------------------------

    def _usual_first_s(self, slot: str, epoch: int) -> float | None:
        """The median time to the old instance's first token; ``None`` if it has answered too little to say."""
        answered = [one for one in self._measurements.since(slot, 0.0) if one.epoch == epoch and not one.moves]
        times = [one.first_s for one in answered if one.first_s is not None][-LATELY:]
        return percentile(times, 0.5) if len(times) >= self._policy().probation.least_requests else None

    def _lost(self, unit: Unit) -> None:
        """A process died that was not to."""
        for probation in list(self._by_slot.values()):
            if probation.target is unit:
                probation.deaths += 1
                self._look(probation)
            elif probation.kept is unit and unit.dead:
                self._end(probation)

    def _look(self, probation: Probation) -> None:
        if not probation.judging:
            return
        complaint = probation.complaint(self._policy().probation)
        if complaint and probation.way_back:
            self._back(probation, complaint)
        elif complaint and not probation.stuck:
            probation.stuck = True
            log.warning("slot %s cannot go back to %s: %s", probation.slot.name, probation.kept.model.id, complaint)

    def _back(self, probation: Probation, reason: str) -> None:
        self._close(probation)
        self._turn_back(probation, reason)
        probation.verdict.set_result(reason)

    def _end(self, probation: Probation) -> None:
        self._close(probation)
        self.let_go(probation)
        probation.verdict.set_result("")

    def let_go(self, probation: Probation) -> None:
        """The kept unit is not kept any more; it stops unless somebody else wants it."""
        probation.kept.slots.discard(probation.reservation)
        self._drivers.release(probation.kept)

    def _close(self, probation: Probation) -> None:
        probation.judging = False
        if probation.timer is not None:
            probation.timer.cancel()
        del self._by_slot[probation.slot.name]


def _count(probation: Probation, outcome: Outcome) -> None:
    probation.requests += 1
    probation.failed += outcome.failed
    if outcome.first_s is not None and not outcome.moves:
        probation.first_s.append(outcome.first_s)
