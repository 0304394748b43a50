"""A vendor's driver against its vendor, played: no kernel, no sandbox, no broker and no network.

::

    vendor = PlayedVendor(folder, "acme-1")
    deltas = vendor.answer(InferenceRequest((user("hello"),)), WireResponse(b'{"choices": […]}'))
    assert vendor.requests[-1].path == "/v1/chat/completions"

Whatever asks for its stream by ``byenatos_sdk.egress`` is answered: an ``HTTPDriver``, or a vendor's own SDK over
``transport`` or ``async_transport``. Each request is held against what the manifest asks for: one that the broker would
refuse fails here.
"""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from unittest import mock

from byenatos_sdk.driver import Driver, Model
from byenatos_sdk.egress import dialling
from byenatos_sdk.formats.wire import WireRequest, WireResponse
from byenatos_sdk.http import HTTPDriver
from byenatos_sdk.manifest import Manifest, read_manifest
from byenatos_sdk.protocol.egress_paths import is_below
from byenatos_sdk.protocol.messages import Delta, InferenceRequest
from byenatos_sdk.testing.plugin_modules import PluginModules

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
        self._modules = PluginModules(folder)
        with self._modules:
            self._kind: type[Driver] = self._modules.entry(self.manifest.plugin.entry)
        self._model = model
        declared = next((one.settings for one in self.manifest.models if one.id == model), {})
        once = {"attempts": 1} if issubclass(self._kind, HTTPDriver) else {}
        self._settings = {**self.manifest.settings, **declared, **once, **(settings or {})}
        self._answers: deque[WireResponse] = deque()

    def answer(self, request: InferenceRequest, *answers: WireResponse) -> list[str | Delta]:
        """Have the driver answer ``request``, the vendor giving ``answers``; return what it yields.

        Raises:
            ByenatosError: what the driver raises.
            AssertionError: the driver asked what its manifest does not ask for.
        """

        async def infer(driver: Driver) -> list[str | Delta]:
            return [delta async for delta in driver.infer(request)]

        return self.run(infer, *answers)

    def run(self, use: Callable[[Any], Awaitable[T]], *answers: WireResponse) -> T:
        """Start the driver, have it used while the vendor gives ``answers``, and stop it.

        Raises:
            AssertionError: the driver asked what its manifest does not ask for.
        """
        self._answers = deque(answers)
        self._lines: list[tuple[socket.socket, threading.Thread]] = []

        async def main() -> T:
            driver = self._kind(self._settings)
            await driver.start(Model(self._model, None, self._settings))
            try:
                async with asyncio.timeout(CEILING_S):
                    return await use(driver)
            finally:
                await driver.stop()

        try:
            with self._modules, mock.patch.object(dialling, "dial", self._dial):
                found = asyncio.run(main())
        finally:
            self._hang_up()
        for request in self.requests:
            self._check(request)
        return found

    def _dial(self, timeout_s: float = CEILING_S) -> socket.socket:  # noqa: ARG002 - the broker's
        ours, its = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(its,), name="played-vendor", daemon=True)
        self._lines.append((its, thread))
        thread.start()
        return ours

    def _hang_up(self) -> None:
        for its, thread in self._lines:
            with suppress(OSError):  # the driver was first
                its.shutdown(socket.SHUT_RDWR)  # whoever reads from it hears of that
            thread.join(CEILING_S)
            its.close()

    def _serve(self, its: socket.socket) -> None:
        with its.makefile("rb") as reader, suppress(OSError):  # the driver may leave at any time
            while self._answers and (request := _read(reader)) is not None:
                self.requests.append(request)
                its.sendall(_written(self._answers.popleft()))
            its.shutdown(socket.SHUT_RDWR)

    def _check(self, request: WireRequest) -> None:
        """See that the broker would let a request through, and that its key is not in it already."""
        host = request.headers["host"]
        places = {host} if ":" in host else {f"{host}:443", f"{host}:80"}
        asked = [one for one in self.manifest.egress if one.anywhere or one.place in places]
        path = request.path.partition("?")[0]
        under = [one for one in asked if any(is_below(path, prefix) for prefix in one.paths)]
        assert under, (
            f"expected a path that {self.manifest.plugin.id}'s manifest asks for at {host}, found {request.path}"
        )
        assert any(request.method in one.methods for one in under), (
            f"expected a method that {self.manifest.plugin.id}'s manifest asks for at {host}, found {request.method}"
        )
        keys = {one.key.header.lower() for one in asked if one.key is not None}
        found = [value for name, value in request.headers.items() if name in keys]
        assert all(value.rpartition(" ")[2] in {"", "-"} for value in found), (
            "expected no key: the broker puts it in; a library that insists on one gets '-'"
        )


def _read(reader: BinaryIO) -> WireRequest | None:
    """Read one request, ``None`` if there is no more."""
    lines = []
    while (line := reader.readline().decode("latin-1")) not in {"\r\n", ""}:
        lines.append(line.rstrip("\r\n"))
    if not lines:
        return None
    method, path, _ = lines[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return WireRequest(path, reader.read(int(headers.get("content-length", 0))), headers, method)


def _written(answer: WireResponse) -> bytes:
    headers = {"content-type": "application/json", **answer.headers, "content-length": str(len(answer.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {answer.status} \r\n{lines}\r\n".encode("latin-1") + answer.body
