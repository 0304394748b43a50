"""Sandboxed templates for drivers that do something slow before they can answer.

Two kinds, both named by the manifest: modules that take long to import (``[lifecycle] preload``), one template for each
version of a driver that runs; and models that are loaded ahead (``preload_model``), one template for each model, from
which all its processes are forked: the first one, those that replace it after a crash or in a swap, and further ones.
Where the machine has all that a sandboxed template stands on, the processes are forked from one; elsewhere, and where
a template fails, each process does it all itself.

A template holds memory of its own: for a model, the context that its processes share until they write to it. One that
nobody uses any more is kept for a while (``[templates]`` in ``access.toml``): until its time is over, or those that are
idle hold too much memory together (then the longest idle goes first), or its model is unloaded or removed.
"""

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from byenatos_kernel.access import TemplateRules
from byenatos_kernel.models import PluginEntry
from byenatos_sandbox import Grant, Nursery, Preload, Process, Templates, open_nursery
from byenatos_sandbox.layers import missing
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.parts import SENDERS, missing_parts

__all__ = ["Nurseries"]

log = logging.getLogger("byenatos")

UNFIT_S = 300.0
"""For how long nothing is forked from a template that failed before it was ready."""

_LAST_LINES = 10
_INSTANCES = 16
_NEEDED = frozenset({*NAMESPACES, "seccomp", "cgroup", SENDERS})
"""A template can fork: only a control group counts the memory of its forks together, and the system says who is one."""

_PRELOAD = "byenatos_sdk.runtime:preload"
_Key = tuple[str, bytes, bytes]


class _Kept:
    """A template: what it is for, how many use it, and, while nobody does, when its time is over."""

    def __init__(self, key: _Key, name: str, nursery: Nursery) -> None:
        self.key = key
        self.name = name
        self.nursery = nursery
        self.users = 0
        self.wanted = True
        self.timer: asyncio.TimerHandle | None = None
        self.memory_mib = 0


class Nurseries:
    """Keeps them, and the ``templates`` that every process is made from. :meth:`close` it at the end."""

    def __init__(self, templates: Templates, rules: TemplateRules | None = None) -> None:
        self.templates = templates
        self._rules = rules or TemplateRules()
        self._newest: dict[_Key, _Kept] = {}
        self._kept: dict[Nursery, _Kept] = {}  # the idle ones in the order in which they became so
        self._unfit: dict[_Key, float] = {}
        self._loop = asyncio.get_running_loop()

    def take(
        self,
        plugin: PluginEntry,
        grant: Grant,
        code: Mapping[str, bytes],
        opened: Mapping[str, int] | None = None,
        preload: bytes = b"",
    ) -> Nursery | None:
        """The template for a process of ``plugin``, to be given back when that is gone; nothing where none can be.

        ``preload`` is what its processes will load (a ``PreloadConfig``), from files that are ``opened`` already.

        Raises:
            LaunchError: it cannot be started.
        """
        assert plugin.manifest is not None
        modules = plugin.manifest.lifecycle.preload
        if not self._rules.models:
            preload = b""
        if not (preload or (modules and not grant.files)) or _NEEDED & (missing().keys() | missing_parts().keys()):
            return None
        shared = msgspec.structs.replace(grant, name=f"{grant.name} (template)", instances=_INSTANCES)
        if not preload:
            shared = msgspec.structs.replace(shared, name=f"{plugin.id} (template)")
        key = (plugin.digest, msgspec.msgpack.encode(shared, order="deterministic"), preload)
        if self._unfit.get(key, 0) > self._loop.time():
            return None
        kept = self._newest.get(key)
        if kept is None or not kept.nursery.alive or kept.users >= _INSTANCES:
            paths = (str(plugin.stored), *map(str, plugin.imports))
            nursery = open_nursery(
                shared,
                preload=Preload(tuple(modules), paths, _PRELOAD if preload else "", preload),
                code=code,
                opened=opened,
                templates=self.templates,
                on_exit=self._exited,
            )
            kept = self._newest[key] = self._kept[nursery] = _Kept(key, grant.name, nursery)
        kept.users += 1
        kept.wanted = True
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        return kept.nursery

    def give_back(self, nursery: Nursery, *, made: bool) -> None:
        """A process that was to be forked from it is gone; one that never was there condemns the template."""
        kept = self._kept.get(nursery)
        if kept is None:
            return
        kept.users -= 1
        if not made:
            if not nursery.alive and kept.key[2]:
                self._unfit[kept.key] = self._loop.time() + UNFIT_S
            self._end(kept)
        elif not kept.users:
            self._rest(kept)

    def forget(self, name: str) -> None:
        """The model of the processes called ``name`` is unloaded: its template goes as soon as nobody uses it."""
        for kept in [kept for kept in self._kept.values() if kept.name == name and kept.key[2]]:
            kept.wanted = False
            if not kept.users:
                self._end(kept)

    @property
    def idle_bytes(self) -> int:
        """What the templates that nobody uses hold of memory, as of when they became idle."""
        return sum(kept.memory_mib << 20 for kept in self._kept.values() if kept.timer is not None)

    async def end_idle(self) -> bool:
        """End the templates that nobody uses, to have their memory; return, when they are gone, if there were any."""
        idle = [kept for kept in self._kept.values() if kept.timer is not None]
        for kept in idle:
            self._end(kept)
        if idle:
            await asyncio.wait([kept.nursery.process.exited for kept in idle])
        return bool(idle)

    def close(self) -> None:
        """End all of them, and the templates that they were made from."""
        for kept in list(self._kept.values()):
            self._end(kept)
        self.templates.close()

    # ---- private -----------------------------------------------------------------------------------------------

    def _rest(self, kept: _Kept) -> None:
        """Nobody uses it any more: keep it for a while, if there is room for it."""
        if not (kept.wanted and kept.nursery.alive):
            self._end(kept)
            return
        self._kept[kept.nursery] = self._kept.pop(kept.nursery)  # the last one in the order
        kept.memory_mib = kept.nursery.memory_mib
        kept.timer = self._loop.call_later(self._rules.idle_s, self._end, kept)
        idle = [one for one in self._kept.values() if one.timer is not None]
        while idle and sum(one.memory_mib for one in idle) > self._rules.idle_mib:
            self._end(idle.pop(0))

    def _exited(self, process: Process) -> None:
        if any(nursery.process is process for nursery in self._kept):  # nobody has ended it
            said = "".join(f"\n  | {line}" for line in process.output()[-_LAST_LINES:])
            log.warning("%s %s%s", process.name, process.exited.result().describe(), said)
        process.close()

    def _end(self, kept: _Kept) -> None:
        del self._kept[kept.nursery]
        if kept.timer is not None:
            kept.timer.cancel()
        if self._newest.get(kept.key) is kept:
            del self._newest[kept.key]
        kept.nursery.close()
