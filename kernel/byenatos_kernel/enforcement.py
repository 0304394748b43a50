"""What becomes of drivers that run when the operator's rules change: held to them as far as a process can be.

Hosts and keys are the broker's affair and change under a running driver. What stands around a process does not change
any more: one that lacks what must be around it now is stopped, any other runs on by the rules of its start, which is
reported until it is swapped.
"""

from byenatos_kernel.access import Access
from byenatos_kernel.drivers import DriverManager
from byenatos_kernel.egress import Egress
from byenatos_kernel.grants import Grants
from byenatos_kernel.models import PluginEntry
from byenatos_sdk.protocol.errors import ByenatosError

__all__ = ["Enforcement"]


class Enforcement:
    """Applies changed rules to ``drivers``."""

    def __init__(self, drivers: DriverManager, grants: Grants, egress: Egress) -> None:
        self._drivers = drivers
        self._grants = grants
        self._egress = egress

    @property
    def warnings(self) -> list[str]:
        """Which drivers run by rules that have changed since they were started."""
        found = []
        for unit in self._drivers.units:
            instance = unit.instance
            if instance is None or not instance.serving:
                continue
            name = f"{instance.grant.name} (epoch {instance.epoch})"
            try:
                same = self._grants.for_model(unit.plugin, unit.model) == instance.grant
            except ByenatosError as error:
                found.append(f"{name} runs on, but could not be started again: {error.message}")
                continue
            if not same:
                swaps = [f"byenatos swap {slot} {unit.model.id}" for slot in sorted(unit.slots) if slot[0] != "("]
                what = "; ".join(swaps or [f"byenatos models unload {unit.model.id}, then load it again"])
                found.append(f"{name} runs by rules of policies/ that have changed since it was started: {what}")
        return found

    def enforce(self, access: Access) -> None:
        """Hold what runs to ``access``."""
        self._grants.access = access
        self._egress.adopt(access)
        for instance in self._drivers.instances:
            if instance.port is not None:
                self._egress.amend(instance.port, instance.manifest, self._closed_network(instance.plugin))
            open_now = instance.process.open.keys() if instance.process is not None else set()
            if lacking := self._grants.required & open_now:
                kinds = " and ".join(sorted(lacking))
                instance.fail(
                    f"was stopped: policies/access.toml requires {kinds} isolation now, which it does not have"
                )

    def _closed_network(self, plugin: PluginEntry) -> str:
        try:
            return self._grants.closed_network(plugin)
        except ByenatosError as error:
            return error.message
