"""A transport for httpx's client under asyncio, or its successor's: the driver's own connections to the broker.

Why not httpcore: it can speak with any server, and takes the longer for it; ``framing`` has the figures. Of the two
libraries, what they share is used here.
"""

import asyncio
import functools
import importlib
import math
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from byenatos_sdk.egress.connection import Connection
from byenatos_sdk.egress.dialling import DIAL_S
from byenatos_sdk.egress.framing import Violation
from byenatos_sdk.egress.pool import Pool
from byenatos_sdk.protocol.errors import Unavailable

__all__ = ["transport_class"]

_UNFIT: Final = re.compile(rb"[\r\n\0]")
"""What would end a line of a head where it should not end."""


@functools.cache
def transport_class(library: str) -> Any:
    """Build the transport for the package ``library``."""
    http: Any = importlib.import_module(library)

    class Answer(http.AsyncByteStream):  # type: ignore[misc]
        """The body of an answer. One that is closed before its end is broken off at the vendor at once."""

        def __init__(self, connection: Connection, request: Any, read_s: float) -> None:
            self._connection: Connection | None = connection
            self._request = request
            self._read_s = read_s

        async def __aiter__(self) -> AsyncIterator[bytes]:
            connection = self._connection
            if connection is None:
                return
            try:
                while data := await connection.read(connection.time() + self._read_s):
                    yield data
            except TimeoutError:
                raise http.ReadTimeout("the vendor was silent for too long", request=self._request) from None
            except ConnectionError as error:
                raise _broken(error, self._request) from None
            self._connection = None
            connection.leave()

        async def aclose(self) -> None:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.drop()

    class AsyncTransport(http.AsyncBaseTransport):  # type: ignore[misc]
        """Requests go to the vendor through the broker."""

        def __init__(self, most_connections: int) -> None:
            self._most = most_connections
            self._pool: Pool | None = None

        async def handle_async_request(self, request: Any) -> Any:
            limits = request.extensions.get("timeout", {})
            head = _head(request)
            connection = await self._connection(request, limits)
            try:
                await _send(connection, request, head, _seconds(limits, "write"))
                read_s = _seconds(limits, "read")
                try:
                    answer = await connection.head(connection.time() + read_s)
                except TimeoutError:
                    raise http.ReadTimeout("the vendor did not answer in time", request=request) from None
            except ConnectionError as error:
                connection.drop()
                raise _broken(error, request) from None
            except BaseException:
                connection.drop()
                raise
            return http.Response(answer.status, headers=answer.fields, stream=Answer(connection, request, read_s))

        async def aclose(self) -> None:
            if self._pool is not None:
                self._pool.close()

        async def _connection(self, request: Any, limits: Mapping[str, float | None]) -> Connection:
            if self._pool is None:
                self._pool = Pool(self._most)
            due = asyncio.get_running_loop().time() + _seconds(limits, "pool")
            connect_s = limits.get("connect")
            try:
                return await self._pool.get(due, DIAL_S if connect_s is None else connect_s)
            except TimeoutError:
                message = f"all {self._most} connections to the egress broker were busy for too long"
                raise http.PoolTimeout(message, request=request) from None
            except Unavailable as error:
                raise http.ConnectError(error.message, request=request) from None

    async def _send(connection: Connection, request: Any, head: bytes, write_s: float) -> None:
        bodiless = request.method == "HEAD"
        if isinstance(request.stream, http.ByteStream):  # which has one piece
            connection.send(head, b"".join([piece async for piece in request.stream]), bodiless=bodiless)
            return
        connection.begin(head, bodiless=bodiless)
        chunked = "content-length" not in request.headers
        try:
            async for piece in request.stream:
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece
                if not await connection.write(framed, connection.time() + write_s):
                    return
        except TimeoutError:
            raise http.WriteTimeout("the egress broker did not take the request in time", request=request) from None
        connection.end(b"0\r\n\r\n" if chunked else b"")

    def _head(request: Any) -> bytes:
        lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
        lines += [b"%b: %b" % field for field in request.headers.raw]
        if any(map(_UNFIT.search, lines)):
            raise http.LocalProtocolError("a header, or the address, has a line's end in it", request=request)
        return b"\r\n".join((*lines, b"", b""))

    def _broken(error: ConnectionError, request: Any) -> Exception:
        kind = http.RemoteProtocolError if isinstance(error, Violation) else http.ReadError
        return kind(str(error), request=request)  # type: ignore[no-any-return]

    return AsyncTransport


def _seconds(limits: Mapping[str, float | None], which: str) -> float:
    found = limits.get(which)
    return math.inf if found is None else found
