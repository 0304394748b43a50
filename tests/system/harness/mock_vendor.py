"""Vendors of models, played: TLS with the tests' own authority, answers and faults as a test has them queued.

A server in a thread of its own, so that it outlives the loops of single tests. It stands for any number of hosts: a
proxy beside it leads every host to it, so that drivers that ship are tested as they ship, with their vendors' real
names, through the real broker (which is told of the proxy by ``HTTPS_PROXY``).
"""

import asyncio
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import msgspec
from vendor import AUTHORITY

from byenatos_sdk.formats.wire import WireRequest

__all__ = ["MockVendor", "Script"]

CEILING_S = 60.0
Ending = Literal["end", "reset", "stall", "close"]
_ORDINARY = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.LimitOverrunError)


class Script(NamedTuple):
    """What one request gets: ``pieces`` are written one by one. Then the answer is ended as it should be, or not.

    ``reset``: the connection breaks, after pieces once the test says so (``MockVendor.release``); ``stall``: nothing
    more comes until the other side leaves; ``close``: it is closed in the middle. Without ``status`` nothing is
    answered at all before that.
    """

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = {}
    ending: Ending = "end"

    @classmethod
    def json(cls, body: Any, status: int = 200, **headers: str) -> Self:
        """A whole answer."""
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else msgspec.json.encode(body)
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls((data,), status, {"content-type": "application/json", **named})

    @classmethod
    def stream(cls, *pieces: bytes, content_type: str = "text/event-stream", ending: Ending = "end") -> Self:
        """An answer in pieces."""
        return cls(pieces, 200, {"content-type": content_type}, ending)


class MockVendor:
    """The server, for use in ``with``. ``requests`` are what came; ``left`` is set when a client leaves a stall."""

    def __init__(self, *names: str, http2: bool = False) -> None:
        self.names = names or ("localhost",)
        self.requests: list[WireRequest] = []
        self.hosts: list[str] = []
        self.left = threading.Event()
        self.begun = threading.Event()
        self._released = asyncio.Event()
        self._scripts: deque[Script] = deque()
        self._http2 = http2
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.port = self.proxy = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(CEILING_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CEILING_S)

    def queue(self, *scripts: Script) -> None:
        """Queue what the next requests get, one each; an empty queue is answered by an error of the test."""
        self.left.clear()
        self.begun.clear()
        self._scripts.extend(scripts)

    def release(self) -> None:
        """Let the connection that waits for it break: what was sent before has arrived."""
        self._loop.call_soon_threadsafe(self._released.set)

    def forget(self) -> None:
        """Begin anew."""
        self._scripts.clear()
        self.requests.clear()
        self.hosts.clear()

    def trust(self, path: Path) -> Path:
        """Write the certificate of the authority to ``path``, which the driver's ``ca`` is to name."""
        AUTHORITY.cert_pem.write_to_path(path)
        return path

    @property
    def environment(self) -> dict[str, str]:
        """What leads a kernel's broker here."""
        return {"HTTPS_PROXY": f"http://127.0.0.1:{self.proxy}", "NO_PROXY": "127.0.0.1,localhost"}

    # ---- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        for _ in range(4):  # turns in which TLS and its sockets are let go
            self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(*self.names).configure_cert(context)
        context.set_alpn_protocols(["h2"] if self._http2 else ["http/1.1"])
        vendor = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context, limit=64 << 20)
        proxy = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self._servers = (vendor, proxy)
        self.port, self.proxy = (server.sockets[0].getsockname()[1] for server in self._servers)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(*_ORDINARY):
                if self._http2:
                    from http2_vendor import Http2Connection  # here: it knows this module

                    await Http2Connection(reader, writer, self._take, self.left.set, self._release).serve()
                while not self._http2 and await self._serve(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        script = self._take(WireRequest(path, body, headers, method))
        if script.status:
            fields = "".join(f"{name}: {value}\r\n" for name, value in script.headers.items())
            writer.write(f"HTTP/1.1 {script.status} X\r\n{fields}transfer-encoding: chunked\r\n\r\n".encode())
        for piece in script.pieces:
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
        if script.ending == "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        if script.ending == "stall":
            await reader.read(1)
            self.left.set()
        elif script.ending == "reset":
            if script.pieces:
                await self._release()
            raw = writer.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            writer.close()
            with suppress(*_ORDINARY):
                await writer.wait_closed()
        return False

    def _take(self, request: WireRequest) -> Script:
        """Note a request and return what it gets."""
        self.requests.append(request)
        self.hosts.append(request.headers["host"])
        self.begun.set()
        return self._scripts.popleft() if self._scripts else Script.json({"error": "the test queued no answer"}, 500)

    async def _release(self) -> None:
        """Wait for the test's word."""
        await self._released.wait()
        self._released.clear()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the proxy: lead a connection to the vendor, whatever host it is for."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(*_ORDINARY):
            await reader.readuntil(b"\r\n\r\n")
            onward, back = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            ways = {asyncio.ensure_future(_pass_on(reader, back)), asyncio.ensure_future(_pass_on(onward, writer))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                back.transport.abort()
        writer.transport.abort()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(*_ORDINARY):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
