"""A transport for httpx's client with threads, or its successor's: httpcore, which dials the broker.

What the two libraries share are the seams that are used here.
"""

import functools
import importlib
import select
import socket
import time
from typing import Any

from byenatos_sdk.egress import dialling
from byenatos_sdk.egress.dialling import DIAL_S, KEPT_ALIVE_S, EgressUnavailable

__all__ = ["transport_class"]

KEPT_ALIVE = 16


class _NoTls:
    """Stands where the client's TLS settings stand: the broker speaks TLS, so that there is nothing to load here."""

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """Nothing is negotiated."""


@functools.cache
def transport_class(library: str) -> Any:
    """Build the transport for the package ``library``."""
    http: Any = importlib.import_module(library)
    core: Any = importlib.import_module(library.replace("httpx", "httpcore"))

    class Stream(core.NetworkStream):  # type: ignore[misc]
        """A stream to the broker."""

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

    class Backend(core.NetworkBackend):  # type: ignore[misc]
        """Dials the broker, whatever host is asked for: the broker reads that from the request."""

        def connect_tcp(self, host: str, port: int, timeout: float | None = None, **_: Any) -> Any:
            try:
                return Stream(dialling.dial(DIAL_S if timeout is None else timeout))
            except EgressUnavailable as error:
                raise core.ConnectError(error.message) from None

        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    class Transport(http.HTTPTransport):  # type: ignore[misc]
        """Requests go to the vendor through the broker."""

        # the base class's constructor loads certificates and reads proxies, neither of which is a driver's business
        def __init__(self, most_connections: int) -> None:
            self._pool = core.ConnectionPool(
                ssl_context=_NoTls(),
                max_connections=most_connections,
                max_keepalive_connections=min(KEPT_ALIVE, most_connections),
                keepalive_expiry=KEPT_ALIVE_S,
                network_backend=Backend(),
            )

    return Transport
