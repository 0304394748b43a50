"""Instances that fell silent: they are degraded, and killed if they stay so."""

import asyncio
from collections.abc import Callable, Iterable

from byenatos_kernel.instances import FORGIVEN, Instance
from byenatos_sdk.protocol.messages import InstanceState

__all__ = ["Heartbeats"]

SILENT_S = 0.35
DEAD_S = 2.0
BLOCKED_S = 10.0
SWEEP_S = 0.1


class Heartbeats:
    """Looks at every instance, ten times a second."""

    def __init__(self, instances: Callable[[], Iterable[Instance]]) -> None:
        self._instances = instances
        self._loop = asyncio.get_running_loop()
        self._swept_at = self._loop.time()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _sweep(self) -> None:
        """Look for instances that fell silent. A kernel that was itself held up forgives the time that it lost."""
        now = self._loop.time()
        late = now - self._swept_at - SWEEP_S
        self._swept_at = now
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        for instance in self._instances():
            instance.strays = 0
            instance.wasted_s *= 1 - FORGIVEN
            if not (instance.serving or instance.state is InstanceState.DRAINING):
                continue
            if late > SWEEP_S:
                instance.last_seen += late
            silent = now - instance.last_seen
            if silent > DEAD_S:
                instance.fail(f"hung: no heartbeat for {silent:.1f} s")
            elif instance.loop_age_s > BLOCKED_S and instance.streams:
                instance.fail(f"hung: its event loop has been blocked for {instance.loop_age_s:.0f} s")
            elif silent > SILENT_S:
                instance.degrade(f"no heartbeat for {silent * 1000:.0f} ms")
            elif instance.recovered:
                instance.advance(InstanceState.READY)
