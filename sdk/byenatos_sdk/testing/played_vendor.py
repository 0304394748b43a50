"""A vendor's driver against its vendor, played: no kernel, no sandbox, no broker and no network.

::

    vendor = PlayedVendor(folder, "acme-1")
    deltas = vendor.answer(InferenceRequest((user("hello"),)), WireResponse(b'{"choices": […]}'))
    assert vendor.requests[-1].path == "/v1/chat/completions"

Each request is held against what the manifest asks for: one that the broker would refuse fails here.
"""

import asyncio
import importlib.util
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from byenatos_sdk.driver import Model
from byenatos_sdk.formats.wire import WireRequest, WireResponse
from byenatos_sdk.http import HTTPDriver, pool
from byenatos_sdk.manifest import Manifest, read_manifest
from byenatos_sdk.protocol.messages import Delta, InferenceRequest

__all__ = ["PlayedVendor"]

CEILING_S = 30.0

T = TypeVar("T")


class PlayedVendor:
    """Plays the vendor of the plugin in ``folder``. ``requests`` are what came, their paths as the vendor sees them.

    ``settings`` come over those of the manifest and of ``model``, one of the manifest's or any other.
    """

    def __init__(self, folder: Path, model: str, settings: Mapping[str, Any] | None = None) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.requests: list[WireRequest] = []
        self._kind = _driver(folder, self.manifest)
        self._model = model
        declared = next((one.settings for one in self.manifest.models if one.id == model), {})
        self._settings = {**self.manifest.settings, **declared, "attempts": 1, **(settings or {})}
        self._answers: deque[WireResponse] = deque()

    def answer(self, request: InferenceRequest, *answers: WireResponse) -> list[str | Delta]:
        """Have the driver answer ``request``, the vendor giving ``answers``; return what it yields.

        Raises:
            ByenatosError: what the driver raises.
            AssertionError: the driver asked what its manifest does not ask for.
        """

        async def infer(driver: HTTPDriver) -> list[str | Delta]:
            return [delta async for delta in driver.infer(request)]

        return self.run(infer, *answers)

    def run(self, use: Callable[[HTTPDriver], Awaitable[T]], *answers: WireResponse) -> T:
        """Start the driver, have it used while the vendor gives ``answers``, and stop it.

        Raises:
            AssertionError: the driver asked what its manifest does not ask for.
        """
        self._answers = deque(answers)

        async def main() -> T:
            driver = self._kind(self._settings)
            await driver.start(Model(self._model, None, self._settings))
            try:
                async with asyncio.timeout(CEILING_S):
                    return await use(driver)
            finally:
                await driver.stop()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

        self._tasks: set[asyncio.Task[None]] = set()
        with mock.patch.object(pool, "dial_async", self._dial):
            found = asyncio.run(main())
        for request in self.requests:
            self._check(request)
        return found

    async def _dial(self, timeout_s: float = CEILING_S) -> socket.socket:  # noqa: ARG002 - the broker's
        ours, its = socket.socketpair()
        self._tasks.add(asyncio.ensure_future(self._serve(its)))
        return ours

    async def _serve(self, its: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=its)
        try:
            while self._answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")[:-2]
                method, path, _ = first.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(WireRequest(path, body, headers, method))
                writer.write(_written(self._answers.popleft()))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _check(self, request: WireRequest) -> None:
        """See that the broker would let a request through, and that its key is not in it already."""
        host = request.headers["host"]
        places = {host} if ":" in host else {f"{host}:443", f"{host}:80"}
        asked = [one for one in self.manifest.egress if one.anywhere or one.place in places]
        assert any(request.path.startswith(tuple(one.paths)) for one in asked), (
            f"expected a path that {self.manifest.plugin.id}'s manifest asks for at {host}, found {request.path}"
        )
        keys = {one.key.header for one in asked if one.key is not None}
        assert not keys & request.headers.keys(), "expected no key: the broker puts it in"


def _driver(folder: Path, manifest: Manifest) -> type[HTTPDriver]:
    """Import the driver's class; its module has a name of its own, as every plugin calls it ``driver``."""
    module_name, _, class_name = manifest.plugin.entry.partition(":")
    name = f"played_{manifest.plugin.id.replace('-', '_')}_{module_name}"
    spec = importlib.util.spec_from_file_location(name, folder / f"{module_name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[HTTPDriver] = getattr(module, class_name)
    return found


def _written(answer: WireResponse) -> bytes:
    headers = {"content-type": "application/json", **answer.headers, "content-length": str(len(answer.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} \r\n{lines}\r\n".encode("latin-1") + answer.body
