"""A plugin's modules in a process that is not its own: found as in its process, and nobody else's.

Every plugin may call its modules ``driver`` or ``format``, and bring packages in ``vendor/``. Within ``with`` these
are the modules of one plugin; outside of it they are what they were before.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

__all__ = ["VENDOR", "PluginModules"]

VENDOR = "vendor"
"""The folder in a plugin's folder that holds packages of its own."""


class PluginModules:
    """The modules in ``folder`` and its ``vendor/``, for use in ``with``, several times."""

    def __init__(self, folder: Path) -> None:
        self._places = [str(place) for place in (folder, folder / VENDOR) if place.is_dir()]
        self._names = {one.name.partition(".")[0] for place in self._places for one in Path(place).iterdir()}
        self._names -= {VENDOR, "tests"}
        self._own: dict[str, ModuleType] = {}
        self._others: dict[str, ModuleType] = {}

    def entry(self, entry: str) -> Any:
        """Return what an ``entry`` of a manifest, ``module:Class``, names."""
        module, _, name = entry.partition(":")
        return getattr(importlib.import_module(module), name)

    def __enter__(self) -> None:
        self._others = self._take()
        sys.modules.update(self._own)
        sys.path[:0] = self._places
        importlib.invalidate_caches()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self._places:
            sys.path.remove(place)
        self._own = self._take()
        sys.modules.update(self._others)

    def _take(self) -> dict[str, ModuleType]:
        """Take the modules of these names out of the process."""
        found = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in self._names}
        for name in found:
            del sys.modules[name]
        return found
