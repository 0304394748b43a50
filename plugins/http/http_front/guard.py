"""Who may ask: hosts and origins against DNS rebinding, keys where there are any.

A page in a browser may send requests to this machine under a name that its owner points here; the browser then says
that name in ``Host`` and the page's in ``Origin``. So only names that are known to be this machine's are answered, and
addresses, which nobody can point elsewhere. Pages are answered if they come from this machine, or from the very host
that was asked: there is no CORS. Where a browser asks without an ``Origin`` (a picture's address, say), it says whether
another site's page made it, and only following a link is answered then. A program that is no browser sends neither.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterator, Mapping

from byenatos_sdk.protocol.errors import PermissionDenied, Unauthenticated
from http_front.clients import EVERYBODY, Client, digest_of
from http_front.exchange import Request
from http_front.routes import Access

__all__ = ["Guard", "credentials"]

_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")
_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")


class Guard:
    """Looks at every request before it is answered. ``hosts`` are further names of this machine."""

    def __init__(self, clients: tuple[Client, ...], hosts: tuple[str, ...]) -> None:
        self._clients = clients
        self._hosts = _LOCAL | {host.lower() for host in hosts}

    def admit(self, request: Request, access: Access = "user") -> Client:
        """Return whose request it is: everybody's where there are no keys, or where everybody is let in (``open``).

        Raises:
            PermissionDenied: it was made under a strange name, by a strange page, or by a user where an admin must be.
            Unauthenticated: it has no key, or one that is not known.
        """
        self._check_names(request.headers)
        if not self._clients or access == "open":
            return EVERYBODY
        client = self._known(request)
        if access == "admin" and not client.is_admin:
            raise PermissionDenied(f"{client.name}: expected a key of role admin, found one of role {client.role}")
        return client

    def _check_names(self, headers: Mapping[str, str]) -> None:
        host = _name(headers.get("host", ""))
        if host not in self._hosts and not _is_address(host):
            raise PermissionDenied(
                f"host: expected a name of this machine, found {host[:80]!r}; fronts.http.settings.hosts has more"
            )
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
                raise PermissionDenied("sec-fetch-site: expected no page of another site, found cross-site")
        else:
            page = _name(origin.partition("://")[2])
            if not page or page not in self._hosts | {host}:
                raise PermissionDenied(f"origin: expected no page of another site, found {origin[:80]!r}")

    def _known(self, request: Request) -> Client:
        """Return whose key a request carries. Digests are compared, all of them, each in constant time."""
        found: Client | None = None
        for given in credentials(request.headers, request.query):
            digest = digest_of(given)
            for client in self._clients:
                if hmac.compare_digest(client.sha256, digest):
                    found = client
        if found is None:
            raise Unauthenticated("expected a key that this server knows, as `Authorization: Bearer` or in x-api-key")
        return found


def credentials(headers: Mapping[str, str], query: Mapping[str, str]) -> Iterator[str]:
    """Yield the keys that a request carries, in any vendor's style: some clients send a dummy beside the real one."""
    kind, _, bearer = headers.get("authorization", "").strip().partition(" ")
    if kind.lower() == "bearer" and bearer.strip():
        yield bearer.strip()
    for name in _HEADERS:
        if value := headers.get(name, "").strip():
            yield value
    if value := query.get("key", ""):
        yield value


def _name(host: str) -> str:
    """Return a host without its port, in lower case; nothing if it is no host."""
    found = _HOST.fullmatch(host.strip().lower())
    return found[1] if found is not None else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
