"""The way to one vendor: requests as HTTP, answers by their status, refusals of the broker, tries after a failure.

What the broker refuses has the header ``x-byenatos-egress`` and a sentence that says what is missing where; everything
else is the vendor's own, and its format reads it.
"""

import asyncio
import math
from urllib.parse import urlsplit

from byenatos_sdk.egress.connection import Connection
from byenatos_sdk.egress.framing import Head
from byenatos_sdk.egress.pool import Pool
from byenatos_sdk.formats.contract import Format
from byenatos_sdk.formats.failures import body_of
from byenatos_sdk.formats.uploads import HeldBack
from byenatos_sdk.formats.wire import MAX_BODY, Encoded, WireRequest, WireResponse
from byenatos_sdk.http.answer import Answer, Shape
from byenatos_sdk.http.retries import Retries
from byenatos_sdk.http.settings import HTTPSettings
from byenatos_sdk.protocol.answer import deltas_of, error_from
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    InvalidRequest,
    PermissionDenied,
    RequestTooLarge,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from byenatos_sdk.protocol.messages import Delta, Failure

__all__ = ["Opened", "Vendor"]

MAX_ERROR = 1 << 20
"""Bytes of an error's body that are read."""

_REFUSALS: dict[int, type[ByenatosError]] = {
    400: InvalidRequest,
    403: PermissionDenied,
    405: PermissionDenied,
    413: RequestTooLarge,
    414: InvalidRequest,
    502: UpstreamFailed,
    503: Unavailable,
    504: UpstreamTimeout,
}
_PASSING = frozenset({502, 504})
"""Refusals that another try may not meet: the vendor could not be reached."""


class Opened:
    """An answer that has begun: its first deltas, and what follows, ``None`` if that was all."""

    def __init__(self, first: list[str | Delta], rest: Answer | None = None) -> None:
        self.first = first
        self.rest = rest

    def close(self) -> None:
        """Break it off if it is not over."""
        if self.rest is not None:
            self.rest.close()


class Vendor:
    """Where requests go. ``failures`` counts those since the last that went well; ``last_failure`` says how."""

    def __init__(self, base_url: str, headers: dict[str, str], settings: HTTPSettings) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise InvalidRequest(
                f"base_url: expected an address like 'https://api.vendor.example/v1', found {base_url!r}"
            )
        self._prefix = parts.path.rstrip("/")
        self._settings = settings
        self._pool = Pool()
        self._loop = asyncio.get_running_loop()
        fixed = {"host": parts.netloc.rpartition("@")[2], "accept-encoding": "identity", **headers, **settings.headers}
        self._headers = {name.lower(): value for name, value in fixed.items()}
        self.requests = self.failures = 0
        self.last_failure = ""

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def due(self, timeout_s: float | None) -> float:
        """Return when a request that may take ``timeout_s`` must be answered, in the loop's time."""
        return math.inf if timeout_s is None else self._loop.time() + timeout_s

    async def fetch(self, wire: WireRequest, format: Format, due: float = math.inf) -> WireResponse:
        """Send a request and return its whole answer.

        Raises:
            ByenatosError: what the vendor or the broker says instead.
        """
        retries = Retries(self._settings.attempts, self._settings.most_wait_s, due)
        while True:
            try:
                connection = await self._send(wire, due)
                try:
                    head = await self._head(connection, format, due)
                    answer = WireResponse(await self._body(connection, due, MAX_BODY), head.status, head.headers)
                    connection.leave()
                except BaseException:
                    connection.drop()
                    raise
            except ByenatosError as error:
                await self._again(retries, error)
            else:
                self._went_well()
                return answer

    async def open(self, encoded: Encoded, format: Format, due: float, held: HeldBack | None = None) -> Opened:
        """Send a request and return its answer as soon as it has begun. ``held``: what was held back of it.

        Raises:
            ByenatosError: what the vendor or the broker says instead.
        """
        retries = Retries(self._settings.attempts, self._settings.most_wait_s, due)
        while True:
            try:
                opened = await self._try(encoded, format, due, held)
            except ByenatosError as error:
                await self._again(retries, error)
            else:
                self._went_well()
                return opened

    # ---- one try -----------------------------------------------------------------------------------------------

    async def _try(self, encoded: Encoded, format: Format, due: float, held: HeldBack | None) -> Opened:
        connection = await self._send(encoded.wire, due, held)
        try:
            head = await self._head(connection, format, min(due, self._loop.time() + self._settings.first_s))
            shape = Shape(encoded)
            if head.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
                body = await self._body(connection, due, MAX_BODY)
                connection.leave()
                found = _whole(WireResponse(body, head.status, head.headers), format)
                return Opened(_without_failure(shape.take(found)))
            decoder = format.stream_decoder()
            answer = Answer(connection, decoder, shape, self._settings.first_s, self._settings.gap_s, due)
            first = _without_failure(await answer.more())
            return Opened(first, None if answer.over else answer)
        except BaseException:
            connection.drop()
            raise

    async def _send(self, wire: WireRequest, due: float, held: HeldBack | None = None) -> Connection:
        """Send a request on a connection of the pool."""
        body = wire.body if held is None else held.body(wire.body)
        head = self._request_head(wire, len(body))
        self.requests += 1
        try:
            connection = await self._pool.get(min(due, self._loop.time() + self._settings.connect_s))
        except TimeoutError:
            raise Unavailable(f"no connection to the broker is free within {self._settings.connect_s:g} s") from None
        except OSError as error:
            raise Unavailable(f"the broker cannot be reached: {error.strerror or error}") from None
        connection.send(head, body)
        return connection

    async def _head(self, connection: Connection, format: Format, due: float) -> Head:
        """Wait for the answer's head; one that says no is read to its end and raised."""
        try:
            head = await connection.head(due)
        except TimeoutError:
            error = UpstreamTimeout("the vendor did not begin to answer in time (first_s)")
            error.retryable = False  # the next try would take as long
            raise error from None
        except ConnectionError as error:
            raise UpstreamFailed(f"the connection broke before the vendor answered: {error}") from None
        if 200 <= head.status < 300:
            return head
        body = await self._body(connection, due, MAX_ERROR)
        connection.leave()
        wire = WireResponse(body, head.status, head.headers)
        if "x-byenatos-egress" in head.headers:
            raise _refusal(wire)
        error_ = format.decode_error(wire)
        wanted = head.headers.get("x-should-retry", "").lower()
        if wanted in {"true", "false"}:
            error_.retryable = wanted == "true"
        raise error_

    async def _body(self, connection: Connection, due: float, most: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := await connection.read(min(due, self._loop.time() + self._settings.first_s)):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise UpstreamFailed(f"expected an answer of at most {most} bytes, found a longer one")
        except TimeoutError:
            raise UpstreamTimeout("the answer was not complete in time (first_s)") from None
        except ConnectionError as error:
            raise UpstreamFailed(f"the connection broke in the middle of the answer: {error}") from None
        return b"".join(pieces)

    def _request_head(self, wire: WireRequest, size: int) -> bytes:
        headers = self._headers
        if wire.headers or wire.body:
            headers = {**headers, **wire.headers}
        if wire.body:
            headers.setdefault("content-type", "application/json")
        if wire.body or wire.method == "POST":
            headers = {**headers, "content-length": str(size)}
        path = wire.path if wire.path.startswith("/") else f"/{wire.path}"
        lines = [
            f"{wire.method} {self._prefix}{path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        block = "\r\n".join(lines)
        if block.count("\n") != len(lines) - 1 or block.count("\r") != len(lines) - 1:
            raise InvalidRequest("expected a path and headers of one line each, found a line break in them")
        return block.encode("latin-1", "replace") + b"\r\n\r\n"

    # ---- what came of it ---------------------------------------------------------------------------------------

    async def _again(self, retries: Retries, error: ByenatosError) -> None:
        try:
            await retries.after(error)
        except ByenatosError:
            self._went_wrong(error)
            raise

    def _went_well(self) -> None:
        self.failures = 0

    def _went_wrong(self, error: ByenatosError) -> None:
        """Count what says something about the vendor, and not about the request."""
        if not isinstance(error, InvalidRequest):
            self.failures += 1
            self.last_failure = error.message


def _whole(wire: WireResponse, format: Format) -> list[Delta]:
    """Read an answer that came whole; a list in JSON is a stream, as Gemini writes it where nobody asks for events."""
    if wire.body.lstrip()[:1] != b"[":
        return deltas_of(format.decode_response(wire))
    decoder = format.stream_decoder()
    return [*decoder.feed(wire.body), *decoder.end()]


def _without_failure(first: list[str | Delta]) -> list[str | Delta]:
    """Return the first deltas; raise a failure that comes before them."""
    if isinstance(first[0], Failure):
        raise error_from(first[0])
    return first


def _refusal(wire: WireResponse) -> ByenatosError:
    """Build the error for what the broker refused."""
    body = body_of(wire)
    found = body.get("error") if isinstance(body, dict) else None
    said = found.get("message") if isinstance(found, dict) else None
    error = _REFUSALS.get(wire.status, Unavailable)(
        f"the egress broker: {said or wire.status}", vendor_status=wire.status
    )
    error.retryable = wire.status in _PASSING
    return error
