"""Who may ask: hosts and origins against DNS rebinding, keys where there are any.

A page in a browser may send requests to this machine under a name that its owner points here; the browser then says
that name in ``Host`` and the page's in ``Origin``. So only this machine's own names are answered, and pages of others
are refused: there is no CORS. A program that is no browser sends no ``Origin`` and the address that it was given.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping

from msgspec import Struct

from byenatos_sdk.protocol.errors import PermissionDenied, RateLimited, Unauthenticated
from http_front.exchange import Request

__all__ = ["Guard", "Key", "digest_of"]

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """A client's key: its SHA-256 in hexadecimal, never itself.

    ``slots`` may be asked (empty: all); ``admin`` may swap and manage; ``per_minute`` requests are answered (0: any
    number).
    """

    name: str
    sha256: str
    admin: bool = False
    slots: tuple[str, ...] = ()
    per_minute: int = 0


def digest_of(key: str) -> str:
    """Return what stands for a key in the operator's file."""
    return hashlib.sha256(key.encode()).hexdigest()


class Guard:
    """Looks at every request before it is answered. ``hosts`` are further names of this machine."""

    def __init__(self, keys: tuple[Key, ...], hosts: tuple[str, ...]) -> None:
        self._keys = keys
        self._hosts = _LOCAL | {host.lower() for host in hosts}
        self._spent: dict[str, tuple[int, int]] = {}

    def admit(self, request: Request) -> Key | None:
        """Return whose request it is; ``None`` where no keys are asked for.

        Raises:
            PermissionDenied: it was made under a strange name, or by a strange page.
            Unauthenticated: it has no key, or one that is not known.
            RateLimited: its key was used too often in this minute.
        """
        host = _name(request.headers.get("host", ""))
        if host not in self._hosts:
            raise PermissionDenied(f"host: expected a name of this machine, found {host!r}; add it to `hosts`")
        origin = request.headers.get("origin")
        if origin is not None and _name(origin.partition("://")[2]) not in self._hosts:
            raise PermissionDenied(f"origin: expected no page of another site, found {origin!r}")
        if not self._keys:
            return None
        given = credential(request.headers, request.query)
        digest = digest_of(given)
        found = [key for key in self._keys if hmac.compare_digest(key.sha256.lower(), digest)]
        if not given or not found:
            raise Unauthenticated("expected a key that this server knows, as `Authorization: Bearer` or in x-api-key")
        self._count(found[0])
        return found[0]

    def _count(self, key: Key) -> None:
        if not key.per_minute:
            return
        minute = int(time.time() // 60)
        begun, count = self._spent.get(key.name, (minute, 0))
        if begun != minute:
            count = 0
        if count >= key.per_minute:
            wait = 60 - time.time() % 60
            raise RateLimited(f"{key.name}: more than {key.per_minute} requests in a minute", retry_after_s=wait)
        self._spent[key.name] = (minute, count + 1)


def credential(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Return the key that a request carries, in any vendor's style; empty if it has none."""
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    if bearer and kind.lower() == "bearer":
        return bearer.strip()
    for name in ("x-api-key", "api-key", "x-goog-api-key"):
        if value := headers.get(name):
            return value
    return query.get("key", "")


def _name(host: str) -> str:
    """Return a host without its port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
