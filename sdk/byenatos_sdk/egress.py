"""The driver's way to its vendor: connected streams from the broker, and httpx transports over them.

A driver has no network. It asks the broker for a stream on the descriptor that it inherited and speaks plain HTTP/1.1
on it; the broker checks each request against what the manifest asks for and the operator grants, puts the key in, and
speaks TLS with the vendor. The driver addresses the vendor as ever (``https://api.vendor.example/v1``)::

    client = httpx.AsyncClient(transport=async_transport(), base_url="https://api.vendor.example/v1")
    client = openai.AsyncOpenAI(api_key="-", http_client=httpx2.AsyncClient(transport=async_transport("httpx2")))

Libraries that take the path of a unix socket, and nothing else, get :data:`SOCKET` once ``plugin.toml`` says
``egress_socket = true`` under ``[permissions]``. They speak plain HTTP on it, so that the address begins with ``http:``
whatever the vendor speaks::

    client = httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET), base_url="http://api.vendor.example/v1")

Nothing lies at that path, and nothing but the broker is behind whatever address is connected to.

What the broker refuses is answered with the header ``x-byenatos-egress: refused`` and a sentence that says why.
"""

import array
import asyncio
import functools
import importlib
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Literal, TypeAlias

from byenatos_sdk.protocol.errors import Unavailable

__all__ = ["EGRESS", "SOCKET", "EgressUnavailable", "Library", "async_transport", "dial", "dial_async", "transport"]

EGRESS = 4
"""The descriptor on which a driver finds its port of the broker; its channel to the kernel is 3."""

SOCKET = "/run/egress.sock"
"""The unix socket at which a driver with an egress socket finds the broker."""

DIAL_S = 10.0
MOST_CONNECTIONS = 48
KEPT_ALIVE = 16
KEPT_ALIVE_S = 120.0
_HANDED = b"+"
_LONGEST_REASON = 300
_READ = 64 << 10
_SHORT = 16 << 10

Library: TypeAlias = Literal["httpx", "httpx2"]
"""``httpx``, or its successor, which the SDKs of OpenAI and Anthropic use."""


class EgressUnavailable(Unavailable):
    """The broker hands out no stream. The message says why; a plugin without ``[[egress]]`` never gets one."""


def dial(timeout_s: float = DIAL_S) -> socket.socket:
    """Return a connected stream to the broker. May be called from any thread.

    Raises:
        EgressUnavailable: this process has no port, or the broker has no room or does not answer.
    """
    port = _port()
    with _lock:
        _drop_late_answers(port)
        try:
            port.send(b"?", socket.MSG_DONTWAIT)
            answer, stream = _answer(port, timeout_s)
        except OSError as error:
            raise EgressUnavailable(f"the egress broker cannot be asked: {error.strerror or error}") from None
    if stream is not None:
        return stream
    if not answer:
        raise EgressUnavailable(f"the egress broker does not answer within {timeout_s:g} s")
    raise EgressUnavailable(f"the egress broker hands out no stream: {answer[1:].decode(errors='replace')}")


async def dial_async(timeout_s: float = DIAL_S) -> socket.socket:
    """Return a connected stream without holding the event loop up; see :func:`dial`."""
    dialling = asyncio.ensure_future(asyncio.to_thread(dial, timeout_s))
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        dialling.add_done_callback(_close_unwanted)
        raise


def transport(library: Library = "httpx", *, most_connections: int = MOST_CONNECTIONS) -> Any:
    """Return a transport for ``httpx.Client`` (or ``httpx2.Client``) that reaches the vendor through the broker."""
    return _classes(library)[0](most_connections)


def async_transport(library: Library = "httpx", *, most_connections: int = MOST_CONNECTIONS) -> Any:
    """Return a transport for ``httpx.AsyncClient`` (or ``httpx2.AsyncClient``), for use under asyncio."""
    return _classes(library)[1](most_connections)


# ---- dialling ----------------------------------------------------------------------------------------------------

_lock = threading.Lock()


@functools.cache
def _port() -> socket.socket:
    try:
        found = socket.socket(fileno=EGRESS)
    except OSError:
        raise EgressUnavailable(
            "this driver has no way out: its plugin.toml has no [[egress]], or the operator granted none of it"
        ) from None
    if (found.family, found.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        found.detach()
        raise EgressUnavailable(f"expected the broker's port at descriptor {EGRESS}, found something else")
    return found


def _receive(port: socket.socket) -> tuple[bytes, socket.socket | None]:
    answer, ancillary, _, _ = port.recvmsg(_LONGEST_REASON, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            rights = array.array("i")
            rights.frombytes(data[:4])
            return answer, socket.socket(fileno=rights[0])
    return answer, None


def _answer(port: socket.socket, timeout_s: float) -> tuple[bytes, socket.socket | None]:
    """Wait for an answer. Streams are alike, so that whose question it answers does not matter."""
    poll = select.poll()
    poll.register(port, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        with suppress(BlockingIOError):
            answer, stream = _receive(port)
            if not answer:
                raise ConnectionResetError("the kernel closed the port")
            return answer, stream
    return b"", None


def _drop_late_answers(port: socket.socket) -> None:
    """A question that nobody waited for may have been answered since."""
    with suppress(BlockingIOError):
        while True:
            answer, stream = _receive(port)
            if stream is not None:
                stream.close()
            if not answer:
                return


def _close_unwanted(dialling: "asyncio.Future[socket.socket]") -> None:
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result().close()


# ---- httpx -------------------------------------------------------------------------------------------------------


class _NoTls:
    """Stands where the client's TLS settings stand: the broker speaks TLS, so that there is nothing to load here."""

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """Nothing is negotiated."""


@functools.cache
def _classes(library: Library) -> tuple[Any, Any]:
    """Build the transports for ``httpx`` and its core, or for their successors, which have the same seams."""
    http: Any = importlib.import_module(library)
    core: Any = importlib.import_module(library.replace("httpx", "httpcore"))

    class Stream(core.NetworkStream):  # type: ignore[misc]
        """A stream for a client with threads."""

        def __init__(self, stream: socket.socket) -> None:
            self._stream = stream

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            try:
                self._stream.settimeout(timeout)
                return self._stream.recv(max_bytes)
            except TimeoutError as error:
                raise core.ReadTimeout(str(error)) from None
            except OSError as error:
                raise core.ReadError(str(error)) from None

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            try:
                self._stream.settimeout(timeout)
                self._stream.sendall(buffer)
            except TimeoutError as error:
                raise core.WriteTimeout(str(error)) from None
            except OSError as error:
                raise core.WriteError(str(error)) from None

        def close(self) -> None:
            self._stream.close()

        def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Any:
            return self

        def get_extra_info(self, info: str) -> Any:
            if info == "is_readable":
                poll = select.poll()
                poll.register(self._stream, select.POLLIN)
                return bool(poll.poll(0))
            return None

    class AsyncStream(core.AsyncNetworkStream):  # type: ignore[misc]
        """A stream for a client under asyncio. What is written in one turn of the loop leaves as one write."""

        def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._reader = reader
            self._writer = writer
            self._queued: list[bytes] = []
            self._size = 0
            self._due: asyncio.Handle | None = None

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            self._flush()
            try:
                async with asyncio.timeout(timeout):
                    return await self._reader.read(max_bytes)
            except TimeoutError as error:
                raise core.ReadTimeout(str(error)) from None
            except OSError as error:
                raise core.ReadError(str(error)) from None

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self._queued.append(buffer)
            self._size += len(buffer)
            if self._size < _SHORT and not self._writer.transport.get_write_buffer_size():
                # a head, whose body follows at once
                if self._due is None:
                    self._due = asyncio.get_running_loop().call_soon(self._flush)
                return
            self._flush()
            try:
                async with asyncio.timeout(timeout):
                    await self._writer.drain()
            except TimeoutError as error:
                raise core.WriteTimeout(str(error)) from None
            except OSError as error:
                raise core.WriteError(str(error)) from None

        def _flush(self) -> None:
            if self._due is not None:
                self._due.cancel()
                self._due = None
            if self._queued:
                self._writer.write(b"".join(self._queued))
                self._queued.clear()
                self._size = 0

        async def aclose(self) -> None:
            self._flush()
            self._writer.close()

        async def start_tls(
            self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
        ) -> Any:
            return self

        def get_extra_info(self, info: str) -> Any:
            return self._reader.at_eof() if info == "is_readable" else None

    class Backend(core.NetworkBackend):  # type: ignore[misc]
        """Dials the broker, whatever host is asked for: the broker reads that from the request."""

        def connect_tcp(self, host: str, port: int, timeout: float | None = None, **_: Any) -> Any:
            try:
                return Stream(dial(DIAL_S if timeout is None else timeout))
            except EgressUnavailable as error:
                raise core.ConnectError(error.message) from None

        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    class AsyncBackend(core.AsyncNetworkBackend):  # type: ignore[misc]
        """The same under asyncio."""

        async def connect_tcp(self, host: str, port: int, timeout: float | None = None, **_: Any) -> Any:
            try:
                stream = await dial_async(DIAL_S if timeout is None else timeout)
            except EgressUnavailable as error:
                raise core.ConnectError(error.message) from None
            return AsyncStream(*await asyncio.open_connection(sock=stream, limit=_READ))

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    def options(most_connections: int, backend: Any) -> dict[str, Any]:
        return {
            "ssl_context": _NoTls(),
            "max_connections": most_connections,
            "max_keepalive_connections": min(KEPT_ALIVE, most_connections),
            "keepalive_expiry": KEPT_ALIVE_S,
            "network_backend": backend,
        }

    # the base classes' own constructors load certificates and read proxies, neither of which is a driver's business
    class Transport(http.HTTPTransport):  # type: ignore[misc]
        """Requests go to the vendor through the broker."""

        def __init__(self, most_connections: int) -> None:
            self._pool = core.ConnectionPool(**options(most_connections, Backend()))

    class AsyncTransport(http.AsyncHTTPTransport):  # type: ignore[misc]
        """The same under asyncio."""

        def __init__(self, most_connections: int) -> None:
            self._pool = core.AsyncConnectionPool(**options(most_connections, AsyncBackend()))

    return Transport, AsyncTransport
