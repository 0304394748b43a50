"""What the driver manager tells whoever answers for the streams."""

from typing import Protocol

from byenatos_kernel.instances import Instance
from byenatos_kernel.units import Unit
from byenatos_sdk.protocol.errors import ByenatosError, DriverCrashed

__all__ = ["UnitOwner"]


class UnitOwner(Protocol):
    """Who answers for the streams; the switchboard."""

    def deliver(self, instance: Instance, frames: list[bytes]) -> None:
        """Frames came from a driver."""

    def unit_ready(self, unit: Unit, instance: Instance) -> None:
        """New streams may go to ``instance``."""

    def instance_lost(self, unit: Unit, instance: Instance, error: DriverCrashed) -> None:
        """The process is gone; ``instance.streams`` need another place."""

    def unit_died(self, unit: Unit, error: ByenatosError) -> None:
        """Nothing will come of the unit; what waits for it needs another place."""
