"""Makes a connection to a vendor: to an address that was judged, by TLS, through a proxy if the environment names one.

A proxy (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, in either case) is the operator's own choice, so
its address is not judged; and it looks the vendor's name up itself, so that the vendor's is not either, unless it is
written as an address. The certificate is checked through it all the same.
"""

import asyncio
import base64
import re
import socket
import ssl
import sys
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import suppress

import h11

from byenatos_sandbox.broker.addresses import Network, Resolve, judge, public_addresses, resolve
from byenatos_sandbox.broker.http1 import Http1
from byenatos_sandbox.broker.http2 import Http2
from byenatos_sandbox.broker.messages import Rule
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.upstream import Upstream, UpstreamError
from byenatos_sandbox.broker.wire import Wire

__all__ = ["Connector", "proxy_ports", "trust", "warn_about_proxies"]

CONNECT_S = 15.0
ONE_ADDRESS_S = 6.0
_MAX_PROXY_ANSWER = 16 << 10
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what is an address, in whichever spelling the C library takes."""


def trust(certificates: str | None = None) -> ssl.SSLContext:
    """Return what TLS is spoken with: TLS 1.2 or newer, the certificate and the host name checked.

    ``certificates`` (PEM) are trusted instead of the system's.

    Raises:
        ssl.SSLError: there is no certificate in them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificates is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=certificates)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def proxy_ports() -> list[int]:
    """The ports of the proxies that the environment names."""
    return sorted({port for url in urllib.request.getproxies_environment().values() if (port := _proxy(url)[1])})


def _proxy(url: str) -> tuple[str, int, bytes]:
    """Host, port and, if it wants any, credentials of a proxy; no port if it cannot be used."""
    with suppress(ValueError):
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme == "http" and parts.hostname:
            user, password = (urllib.parse.unquote(one or "") for one in (parts.username, parts.password))
            credentials = base64.b64encode(f"{user}:{password}".encode()) if parts.username else b""
            return parts.hostname, parts.port or 80, credentials
    return "", 0, b""


class Connector:
    """Connects for one driver: what it may resolve to and whom it trusts."""

    def __init__(self, addresses: Sequence[Network], context: ssl.SSLContext, look_up: Resolve = resolve) -> None:
        self._addresses = addresses
        self._context = context
        self._look_up = look_up

    async def connect(self, rule: Rule) -> Upstream:
        """Connect to where ``rule`` leads.

        Raises:
            Refused: no address may be connected to, or nobody answers there as they should.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                raw = await self._reach(rule)
                return await self._speak(rule, raw)
        except TimeoutError:
            raise Refused(504, f"{rule.host}:{rule.port} does not answer within {CONNECT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise Refused(502, f"{rule.host}: its certificate is not trusted: {error.verify_message:.200}") from None
        except ssl.SSLError as error:
            raise Refused(502, f"{rule.host}: TLS failed: {error.reason or 'the connection broke'}") from None
        except UpstreamError as error:
            raise Refused(502, f"{rule.host}: {error}") from None
        except OSError as error:
            raise Refused(502, f"{rule.host}:{rule.port} cannot be reached: {error.strerror or 'it hung up'}") from None

    async def _speak(self, rule: Rule, raw: socket.socket) -> Upstream:
        loop = asyncio.get_running_loop()
        secure = rule.scheme == "https"
        try:
            transport, wire = await loop.create_connection(
                Wire,
                sock=raw,
                ssl=self._context if secure else None,
                server_hostname=rule.host if secure else None,
            )
        except BaseException:
            raw.close()
            raise
        spoken = transport.get_extra_info("ssl_object")
        if spoken is not None and spoken.selected_alpn_protocol() == "h2":
            return Http2(wire)
        return Http1(wire)

    async def _reach(self, rule: Rule) -> socket.socket:
        proxy = _proxy_for(rule)
        if proxy is not None:
            return await self._tunnel(rule, *proxy)
        addresses = await public_addresses(rule.host, rule.port, self._addresses, self._look_up)
        return await _first(addresses, rule.port)

    async def _tunnel(self, rule: Rule, host: str, port: int, credentials: bytes) -> socket.socket:
        """Have a proxy connect to the vendor (``CONNECT``)."""
        if _NUMBER.fullmatch(rule.host.rpartition(".")[2]) and (wrong := judge(rule.host, self._addresses)):
            raise Refused(403, f"{rule.host} is {wrong}")
        loop = asyncio.get_running_loop()
        try:
            found = await resolve(host, port)
        except (OSError, UnicodeError):
            raise Refused(502, "the proxy that the environment names cannot be looked up") from None
        try:
            raw = await _first(found, port)
        except (OSError, TimeoutError):
            raise Refused(502, "the proxy that the environment names does not answer") from None
        try:
            authority = f"{rule.host}:{rule.port}".encode()
            headers = [(b"host", authority)]
            if credentials:
                headers.append((b"proxy-authorization", b"Basic " + credentials))
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_PROXY_ANSWER)
            asked = http.send(h11.Request(method="CONNECT", target=authority, headers=headers))
            await loop.sock_sendall(raw, (asked or b"") + (http.send(h11.EndOfMessage()) or b""))
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await loop.sock_recv(raw, 4096))
            if not isinstance(event, h11.Response) or not 200 <= event.status_code < 300 or http.trailing_data[0]:
                said = f"status {event.status_code}" if isinstance(event, h11.Response) else "no answer"
                raise Refused(502, f"the proxy does not connect to {rule.host}: {said}")  # noqa: TRY301 - closes `raw`
        except h11.ProtocolError:
            raw.close()
            raise Refused(502, "the proxy that the environment names does not speak HTTP/1.1") from None
        except BaseException:
            raw.close()
            raise
        return raw


async def _first(addresses: Sequence[str], port: int) -> socket.socket:
    """Connect to the first of several addresses that answers.

    Raises:
        OSError, TimeoutError: none does.
    """
    failure: OSError | TimeoutError = ConnectionError("there is no address")
    for address in addresses:
        try:
            async with asyncio.timeout(ONE_ADDRESS_S):
                return await _connect(address, port)
        except (OSError, TimeoutError) as error:
            failure = error
    raise failure


async def _connect(address: str, port: int) -> socket.socket:
    raw = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(raw, (address, port))
    except BaseException:
        raw.close()
        raise
    return raw


def _proxy_for(rule: Rule) -> tuple[str, int, bytes] | None:
    """The proxy for a rule's host, if the environment names one that is not bypassed for it."""
    proxies = urllib.request.getproxies_environment()
    url = proxies.get(rule.scheme) or proxies.get("all")
    if not url or urllib.request.proxy_bypass_environment(f"{rule.host}:{rule.port}", proxies):  # type: ignore[attr-defined]  # typeshed lacks it
        return None
    host, port, credentials = _proxy(url)
    if not port:
        raise Refused(502, f"expected {rule.scheme.upper()}_PROXY to be http://host:port, found something else")
    return host, port, credentials


def warn_about_proxies() -> None:
    """Say at start which proxies of the environment cannot be used."""
    for name, url in urllib.request.getproxies_environment().items():
        if name in {"http", "https", "all"} and not _proxy(url)[1]:
            sys.stderr.write(f"broker: {name.upper()}_PROXY: expected http://host:port, found something else\n")
