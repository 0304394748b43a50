"""What the tests share: the plugin's folder on the path, a server for scripted handlers, and a client of raw bytes."""

import asyncio
import inspect
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FOLDER = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(FOLDER))

from http_front.exchange import Request, Response, Stream  # noqa: E402 - the path comes first
from http_front.limits import Limits  # noqa: E402
from http_front.server import Server  # noqa: E402

CEILING_S = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine, in an event loop of its own and within a ceiling."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(CEILING_S):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


class Answer(NamedTuple):
    """One answer, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A client that sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            headers[name] = value
        return Answer(int(lines[0].split(" ")[1]), headers, b"")

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read one answer, whole; of one in chunks the body is what they hold."""
        head = await self.head()
        if bodiless:
            return head
        if head.headers.get("transfer-encoding") == "chunked":
            chunks = []
            while chunk := await self.chunk():
                chunks.append(chunk)
            return head._replace(body=b"".join(chunks))
        length = head.headers.get("content-length")
        if length is None:
            return head._replace(body=await self.rest())
        return head._replace(body=await self.reader.readexactly(int(length)))

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def rest(self) -> bytes:
        """Read to the end of the connection, however it ends."""
        data = b""
        while True:
            try:
                piece = await self.reader.read(1 << 16)
            except ConnectionResetError:
                return data
            if not piece:
                return data
            data += piece

    def reset(self) -> None:
        self.writer.transport.abort()


class Served:
    """A server that runs, and where it is reached."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self.clients: list[Client] = []

    async def connect(self, *, receive_buffer: int = 0) -> Client:
        connected = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connected.setblocking(False)
        if receive_buffer:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connected, limit=1 << 16)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop turn until a condition holds."""
        while not condition():
            await asyncio.sleep(0)

    async def ask(self, data: bytes) -> Answer:
        """Connect, send, and read one answer."""
        client = await self.connect()
        await client.send(data)
        return await client.answer()


@asynccontextmanager
async def _serving(handler: Callable[[Request], Awaitable[Response | Stream]], **limits: Any) -> AsyncIterator[Served]:
    server = Server(handler, Limits(**limits), tick_s=0.005)
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    served = Served(server, listening.sockets[0].getsockname()[1])
    try:
        yield served
    finally:
        listening.close()
        for client in served.clients:
            client.reset()
        await server.drain()
    assert server.held_bytes == 0


@pytest.fixture
def serving() -> Any:
    """``async with serving(handler, **limits) as served``."""
    return _serving
