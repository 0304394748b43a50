"""A real Chromium without a window, spoken to over two pipes by its own protocol (DevTools); no package is needed."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "BYENATOS_CI" not in os.environ,
    reason="there is no Chromium on this machine (Debian, Ubuntu: apt install chromium)",
)
"""Where everything is to be tested, a missing browser is a failure."""
_LOOK_AGAIN_S = 0.05
_ABOVE = 10
_AS_3_AND_4 = 'exec 3<&$1 4>&$2; shift 2; exec "$@"'
"""The browser reads its orders at descriptor 3 and answers at 4."""


class Page:
    """One page. ``complaints`` is what the browser's console was told: errors, and what a policy forbade."""

    def __init__(self, reader: asyncio.StreamReader, out: int) -> None:
        self.complaints: list[str] = []
        self._reader = reader
        self._out = out
        self._session: str | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        while data := await self._reader.readuntil(b"\0"):
            said = json.loads(data[:-1])
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(said["params"]["exceptionDetails"]["text"])
            elif said["method"] == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = len(self._answers) + 1
        while number in self._answers:
            number += 1
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        order = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        said = await answer
        assert "error" not in said, said
        return dict(said["result"])

    async def open(self, url: str) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Page", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def evaluate(self, script: str) -> Any:
        said = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until a script's value is true; the test's ceiling ends it."""
        while not await self.evaluate(f"Boolean({script})"):
            assert not self._listening.done(), self._listening.exception()
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def press(self, key: str, text: str = "") -> None:
        """Press a key, as a person would."""
        code = {"Enter": 13, "Tab": 9, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowDown": 40}[key]
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def write(self, text: str) -> None:
        await self.call("Input.insertText", text=text)


@asynccontextmanager
async def browsing(folder: os.PathLike[str], url: str):
    """Open a page; ``folder`` is the browser's own."""
    assert CHROMIUM is not None, "expected a Chromium, found none; Debian, Ubuntu: apt install chromium"
    (theirs_in, out), (incoming, theirs_out) = os.pipe(), os.pipe()
    handed = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE) for descriptor in (theirs_in, theirs_out)]
    arguments = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
    process = subprocess.Popen(
        ["bash", "-c", _AS_3_AND_4, *map(str, ("bash", *handed)), CHROMIUM, *arguments, f"--user-data-dir={folder}"],
        pass_fds=handed,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for descriptor in (theirs_in, theirs_out, *handed):
        os.close(descriptor)
    reader = asyncio.StreamReader(limit=16 << 20)
    pipe = os.fdopen(incoming, "rb")
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    page = Page(reader, out)
    try:
        await page.open(url)
        yield page
    finally:
        page._listening.cancel()
        transport.close()
        os.close(out)
        process.terminate()
        await asyncio.to_thread(process.wait)
