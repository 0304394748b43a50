"""Ask every instance regularly how it feels. What is asked is the driver's own ``health``; death is seen elsewhere."""

import asyncio

import msgspec

from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.hearsay import bounded_health
from byenatos_kernel.instances import Instance
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.frames import UNREADABLE
from byenatos_sdk.protocol.messages import ModelHealthStatus

__all__ = ["HealthWatch"]

_decode = msgspec.msgpack.Decoder(ModelHealthStatus).decode


class HealthWatch:
    """Checks the serving instances every ``interval_s`` seconds; 0 means never."""

    def __init__(self, drivers: DriverManager, interval_s: float) -> None:
        self._drivers = drivers
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check."""
        if self._interval_s:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Check no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await asyncio.gather(*(self._check(one) for one in self._drivers.instances if one.serving))

    async def _check(self, instance: Instance) -> None:
        try:
            said = await instance.call("health", timeout_s=max(self._interval_s, 1.0))
            instance.health = bounded_health(_decode(said))
        except (ByenatosError, *UNREADABLE) as error:
            instance.health = ModelHealthStatus("degraded", f"the health check failed: {error}")
        if instance.health.status != "ok":
            instance.degrade(instance.health.detail or instance.health.status)
