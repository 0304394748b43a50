"""Ask drivers whether a model file is theirs, each in a sandboxed process of its own: the kernel never reads a file."""

import asyncio
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from byenatos_kernel.grants import Grants
from byenatos_kernel.hearsay import bounded_specification, shortened
from byenatos_kernel.link import DriverLink
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import PluginEntry
from byenatos_sdk.protocol.control import ProbeOrder, ProbeResult
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.frames import UNREADABLE, encode
from byenatos_sdk.protocol.messages import ModelSpecification, Value

__all__ = ["Prober", "Verdict", "takes"]

PROBES_AT_ONCE = 2
PROBE_TIMEOUT_S = 15.0
_decode_probe = msgspec.msgpack.Decoder(ProbeResult).decode


class Verdict(Value, frozen=True):
    """``plugin`` takes the file as ``specification``; or nobody does, for ``reason``."""

    plugin: str = ""
    specification: ModelSpecification | None = None
    reason: str = ""


class Prober:
    """Judges files, two at a time."""

    def __init__(self, grants: Grants, load: Callable[[PluginEntry], Mapping[str, bytes]]) -> None:
        self._grants = grants
        self._load = load
        self._slots = asyncio.Semaphore(PROBES_AT_ONCE)

    async def judge(
        self, file: ModelFile, plugins: list[PluginEntry], settings: Callable[[PluginEntry], dict[str, Any]]
    ) -> Verdict:
        """Ask every one of ``plugins`` that takes files of this name, one after the other.

        ``settings`` are those that the driver of a plugin would load it with.
        """
        path = file.path
        reasons: list[str] = []
        async with self._slots:
            for plugin in plugins:
                if takes(plugin, path.name):
                    result = await self._ask(plugin, file, settings(plugin))
                    if result.specification is not None:
                        return Verdict(plugin.id, bounded_specification(result.specification))
                    reasons.append(f"{plugin.id}: {shortened(result.reason)}")
        if not reasons:
            patterns = sorted(
                f"{plugin.id} takes {', '.join(plugin.manifest.permissions.model_files)}"
                for plugin in plugins
                if plugin.manifest is not None and plugin.manifest.permissions.model_files
            )
            reasons.append(f"no driver takes a file of this name ({'; '.join(patterns) or 'no driver takes files'})")
        return Verdict(reason="; ".join(reasons))

    async def _ask(self, plugin: PluginEntry, file: ModelFile, settings: dict[str, Any]) -> ProbeResult:
        assert plugin.manifest is not None
        path = file.path
        try:
            grant = self._grants.for_probe(plugin, path)
        except ByenatosError as error:
            return ProbeResult(reason=f"could not be checked: {error}")
        link = DriverLink(plugin, grant, self._grants.nurseries)
        try:
            link.launch(self._load(plugin), file=file)
            await link.welcomed()
            order = encode(ProbeOrder(str(path), settings))
            return _decode_probe(await link.call("probe", order, timeout_s=PROBE_TIMEOUT_S))
        except (ByenatosError, OverflowError, TypeError, *UNREADABLE) as error:
            return ProbeResult(reason=f"could not be checked: {error}")
        finally:
            link.fail("the probe is over")


def takes(plugin: PluginEntry, name: str) -> bool:
    """Whether the manifest asks for files of this name."""
    patterns = plugin.manifest.permissions.model_files if plugin.manifest is not None else []
    return any(fnmatch.fnmatch(name.lower(), pattern.lower()) for pattern in patterns)
