"""What triggers measure: the requests of a slot, its crashes, its load, and the machine.

Percentiles and shares are over the trigger's window, and over at least ``least_requests``: of fewer there is no value.
What was before the slot's last switch does not count: it says nothing about the model that is there now.
"""

from collections import deque
from collections.abc import Callable, Collection

from byenatos_kernel.arrivals import Arrivals
from byenatos_kernel.measurements import Measurements, Outcome, percentile
from byenatos_kernel.pressure import Machine, Reading
from byenatos_kernel.routes import Slot
from byenatos_kernel.streams import Stream, StreamState
from byenatos_kernel.trigger_rules import Trigger
from byenatos_sdk.protocol.control import DriverFailed, Event

__all__ = ["TriggerMeasures"]

MOST_CRASHES = 256
CHARACTERS_PER_TOKEN = 4
"""About how many characters a token has where a driver does not say how many tokens an answer took."""
_OF_CONTENTS = {"task_share", "long_context_share"}


class TriggerMeasures:
    """Takes readings. ``live`` are the running streams, ``slots`` the kernel's; ``clock`` is the loop's."""

    def __init__(
        self,
        measurements: Measurements,
        arrivals: Arrivals,
        machine: Machine,
        live: Callable[[], Collection[Stream]],
        slots: dict[str, Slot],
        clock: Callable[[], float],
    ) -> None:
        self._measurements = measurements
        self._arrivals = arrivals
        self._machine = machine
        self._live = live
        self._slots = slots
        self._clock = clock
        self._crashes: deque[tuple[float, str]] = deque(maxlen=MOST_CRASHES)

    def adopt(self, triggers: Collection[Trigger]) -> None:
        """Keep what these triggers look at, and nothing else."""
        self._arrivals.want(wanted=any(trigger.measure in _OF_CONTENTS for trigger in triggers))

    def happened(self, event: Event) -> None:
        """Count crashes."""
        if isinstance(event, DriverFailed):
            self._crashes.append((self._clock(), event.model))

    def read(self, trigger: Trigger) -> Reading:
        """Measure what a trigger measures, now."""
        match trigger.kind:
            case "resource":
                return self._machine.read(trigger.measure)
            case "performance":
                return self._performance(trigger)
            case "error":
                return self._crashed(trigger) if trigger.measure == "crashes" else self._failed(trigger)
            case "workload":
                return self._workload(trigger)
            case "schedule":
                return Reading(None)

    def _outcomes(self, trigger: Trigger) -> list[Outcome]:
        """The outcomes in the window, of the model that the slot is bound to."""
        slot = self._slots.get(trigger.slot)
        model = slot.model if slot is not None else ""
        since = self._measurements.since(trigger.slot, self._clock() - trigger.window_s)
        return [one for one in since if one.model in {model, ""}]  # without a model: it found none that serves

    def _performance(self, trigger: Trigger) -> Reading:
        answered = [one for one in self._outcomes(trigger) if not one.code]
        if trigger.measure == "p95_latency_s":
            return _of(trigger, [one.took_s for one in answered], 0.95)
        if trigger.measure == "first_token_p95_s":
            return _of(trigger, [one.first_s for one in answered if one.first_s is not None], 0.95)
        rates = []
        for one in answered:
            spoken_s = one.took_s - (one.first_s or 0.0)
            tokens = one.tokens or one.characters / CHARACTERS_PER_TOKEN
            if spoken_s > 0 and tokens > 0:
                rates.append(tokens / spoken_s)
        return _of(trigger, rates, 0.5)

    def _failed(self, trigger: Trigger) -> Reading:
        counted = [one.failed for one in self._outcomes(trigger) if one.failed or not one.code]
        return _share(trigger, counted)

    def _crashed(self, trigger: Trigger) -> Reading:
        slot = self._slots.get(trigger.slot)
        model = slot.model if slot is not None else ""
        since = self._clock() - trigger.window_s
        return Reading(float(sum(at >= since and model == crashed for at, crashed in self._crashes)))

    def _workload(self, trigger: Trigger) -> Reading:
        if trigger.measure in _OF_CONTENTS:
            arrived = self._arrivals.since(trigger.slot, self._clock() - trigger.window_s)
            if trigger.measure == "task_share":
                return _share(trigger, [one.task == trigger.task for one in arrived])
            return _share(trigger, [one.tokens > trigger.long_tokens for one in arrived])
        state = StreamState.WAITING if trigger.measure == "queue_depth" else StreamState.RUNNING
        return Reading(float(sum(one.slot == trigger.slot and one.state is state for one in self._live())))


def _of(trigger: Trigger, values: list[float], share: float) -> Reading:
    return Reading(percentile(values, share) if len(values) >= trigger.least_requests else None)


def _share(trigger: Trigger, counted: list[bool]) -> Reading:
    return Reading(sum(counted) / len(counted) if len(counted) >= trigger.least_requests else None)
