"""A link of the kernel to a real process of a driver, sandboxed and forked as in a running kernel, and its plugin."""

import asyncio
import os
from pathlib import Path
from typing import Any

from byenatos_kernel.link import DriverLink
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import PluginEntry
from byenatos_kernel.nurseries import Nurseries
from byenatos_sandbox import Grant
from byenatos_sdk.manifest import Lifecycle, Manifest, Plugin, read_manifest
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.frames import DriverEvent, Load, Ready, Start, encode
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest

__all__ = ["RealLink", "plugin_of", "toy"]

PRELOADING = """
import os
from byenatos_sdk.driver import Driver

class Toy(Driver):
    @classmethod
    def preload(cls, model):
        return os.urandom(8).hex()
    async def start(self, model):
        self.model = model
    async def infer(self, request):
        yield f"{self.model.preloaded} {os.getpid()}"
"""
"""It answers with what was preloaded, which is another at each load, and with its process id."""


def toy(folder: Path, code: str = PRELOADING) -> PluginEntry:
    """A plugin in ``folder`` whose driver is ``toy:Toy`` and preloads its model."""
    (folder / "toy").mkdir(exist_ok=True)
    (folder / "toy" / "toy.py").write_text(code)
    manifest = Manifest(Plugin("toy", "1", "toy:Toy"), lifecycle=Lifecycle(preload_model=True))
    return PluginEntry("toy", folder / "toy", manifest, stored=folder / "toy")


def plugin_of(folder: Path) -> PluginEntry:
    """The plugin that stands in ``folder``."""
    return PluginEntry(folder.name, folder, read_manifest(folder), stored=folder)


class RealLink(DriverLink):
    """Loads a model, answers one request at a time."""

    def __init__(
        self, plugin: PluginEntry, nurseries: Nurseries, scratch: Path, file: ModelFile | None = None, **fields: Any
    ) -> None:
        files = (str(file.path),) if file is not None else ()
        usual = {"memory_mib": 4096, "threads": os.cpu_count() or 1, "writable_code": True}
        grant = Grant(
            **{"name": f"{plugin.id}/model", "plugin": str(plugin.stored), "files": files, "scratch_root": str(scratch)}
            | usual
            | fields
        )
        super().__init__(plugin, grant, nurseries)
        self.order = LoadOrder("model", *files, settings=dict(self.manifest.settings))
        self._file = file
        self._code = {path.name: path.read_bytes() for path in plugin.stored.glob("*.py")}
        self._said = ""
        self._numbers = iter(range(1, 1000))
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def start(self, *, cold: bool = False) -> "RealLink":
        """Launch it and wait until the model is loaded."""
        self.launch(self._code, file=self._file, order=None if cold else self.order)
        await self.welcomed()
        self.send(Load(), encode(self.order))
        await self._ended
        return self

    async def ask(self, request: InferenceRequest) -> str:
        """The whole answer to a request."""
        self._said, self._ended = "", self._loop.create_future()
        self.send(Start(next(self._numbers)), encode(request))
        await self._ended
        return self._said

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        assert self.process is not None
        self.fail("the test is over")
        await self.process.exited

    def _event(self, number: int, event: DriverEvent) -> None:
        if isinstance(event, Failure):
            self._ended.set_exception(RuntimeError(event.message))
        elif isinstance(event, Ready | Finish):
            self._ended.set_result(None)
        elif isinstance(event, str):
            self._said += event
        else:
            super()._event(number, event)

    def _lost(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(reason))
            self._ended.exception()
