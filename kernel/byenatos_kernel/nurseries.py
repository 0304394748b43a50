"""Sandboxed templates for drivers that have something slow to import: one for each version of a driver that runs.

The manifest names the modules (``[lifecycle] preload``). Where the machine has all that a sandboxed template stands
on, and the driver is granted no files, its processes are forked from one that has imported them; elsewhere each imports
them itself. A template that nobody has used for a while is ended.
"""

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from byenatos_kernel.models import PluginEntry
from byenatos_sandbox import Grant, Nursery, Preload, Process, Templates, open_nursery
from byenatos_sandbox.layers import missing
from byenatos_sandbox.namespaces import NAMESPACES

__all__ = ["Nurseries"]

log = logging.getLogger("byenatos")

IDLE_S = 60.0
_LAST_LINES = 10
_INSTANCES = 16
_NEEDED = frozenset({*NAMESPACES, "seccomp", "cgroup"})
"""A template can fork, and only a control group counts the memory of its forks together."""


class Nurseries:
    """Keeps them, and the ``templates`` that every process is made from. :meth:`close` it at the end."""

    def __init__(self, templates: Templates) -> None:
        self.templates = templates
        self._open: dict[tuple[str, bytes], Nursery] = {}
        self._users: dict[Nursery, int] = {}
        self._idle: dict[Nursery, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()

    def take(self, plugin: PluginEntry, grant: Grant, code: Mapping[str, bytes]) -> Nursery | None:
        """The template for a process of ``plugin``, to be given back when that is gone; nothing where none can be.

        Raises:
            LaunchError: it cannot be started.
        """
        assert plugin.manifest is not None
        preload = plugin.manifest.lifecycle.preload
        if not preload or grant.files or _NEEDED & missing().keys():
            return None
        shared = msgspec.structs.replace(grant, name=f"{plugin.id} (template)", instances=_INSTANCES)
        key = (plugin.digest, msgspec.msgpack.encode(shared, order="deterministic"))
        nursery = self._open.get(key)
        if nursery is None or not nursery.alive or self._users[nursery] >= _INSTANCES:
            paths = (str(plugin.stored), *map(str, plugin.imports))
            nursery = open_nursery(
                shared,
                preload=Preload(tuple(preload), paths),
                code=code,
                templates=self.templates,
                on_exit=self._exited,
            )
            self._open[key] = nursery
            self._users[nursery] = 0
        self._users[nursery] += 1
        if timer := self._idle.pop(nursery, None):
            timer.cancel()
        return nursery

    def give_back(self, nursery: Nursery, *, made: bool) -> None:
        """A process that was to be forked from it is gone; one that never was there condemns the template."""
        if nursery not in self._users:
            return
        self._users[nursery] -= 1
        if not made:
            self._end(nursery)
        elif not self._users[nursery]:
            self._idle[nursery] = self._loop.call_later(IDLE_S, self._end, nursery)

    def close(self) -> None:
        """End all of them, and the templates that they were made from."""
        for timer in self._idle.values():
            timer.cancel()
        for nursery in list(self._users):
            self._end(nursery)
        self.templates.close()

    def _exited(self, process: Process) -> None:
        if any(nursery.process is process for nursery in self._users):  # nobody has ended it
            said = "".join(f"\n  | {line}" for line in process.output()[-_LAST_LINES:])
            log.warning("%s %s%s", process.name, process.exited.result().describe(), said)
        process.close()

    def _end(self, nursery: Nursery) -> None:
        del self._users[nursery]
        nursery.close()
        self._idle.pop(nursery, None)
        for key in [key for key, one in self._open.items() if one is nursery]:
            del self._open[key]
