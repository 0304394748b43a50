"""Puts a key where the rule says it goes, having thrown out whatever the driver put there itself."""

import re
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from byenatos_sandbox.broker.messages import Key, Rule
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sdk.protocol.tc3 import sign

__all__ = ["Header", "forwarded", "inject"]

Header: TypeAlias = tuple[bytes, bytes]

_HOP: Final = frozenset(
    b"connection keep-alive te trailer transfer-encoding upgrade proxy-connection forwarded x-forwarded-for "
    b"x-forwarded-host x-forwarded-proto x-real-ip via expect host accept-encoding http2-settings".split()
)
"""Between two neighbours only, or about where a request came from; ``content-length`` is kept, as it stays true."""
_CREDENTIALS: Final = frozenset(
    b"authorization x-api-key api-key x-goog-api-key cookie x-auth-token x-tc-timestamp".split()
)
_CONNECTION: Final = re.compile(rb"[ \t]*,[ \t]*")


def forwarded(headers: Iterable[Header], key: Key | None) -> list[Header]:
    """Return what of a request's headers is passed on: no credentials, nothing between neighbours."""
    headers = list(headers)
    drop = {key.header.lower().encode()} if key is not None else set()
    for name, value in headers:
        if name == b"connection":
            drop |= {one.lower() for one in _CONNECTION.split(value)}
    drop.discard(b"content-length")
    return [
        (name, value)
        for name, value in headers
        if name not in _HOP and name not in _CREDENTIALS and name not in drop and not name.startswith(b"proxy-")
    ]


def inject(
    rule: Rule, value: bytes, method: str, target: bytes, headers: Sequence[Header], body: bytes
) -> tuple[bytes, list[Header]]:
    """Return the target and the headers with the key in its place. ``body`` counts only where the key signs it.

    Raises:
        Refused: the key cannot sign, because it is not ``id:secret``.
    """
    key = rule.key
    assert key is not None
    if key.query:
        path, _, query = target.partition(b"?")
        name = key.query.encode()
        kept = [one for one in query.split(b"&") if one and urllib.parse.unquote_to_bytes(one.split(b"=")[0]) != name]
        kept.append(name + b"=" + urllib.parse.quote_from_bytes(value, safe="").encode())
        return path + b"?" + b"&".join(kept), list(headers)
    if key.scheme == "tc3":
        identity, colon, secret = value.partition(b":")
        if not (identity and colon and secret):
            raise Refused(503, f"key {key.secret!r}: expected `id:secret`, as TC3 signs with two parts")
        path, _, query = target.partition(b"?")
        content_type = next((found for name, found in headers if name == b"content-type"), b"application/json")
        signed = sign(
            identity=identity.decode(),
            key=secret,
            service=key.service,
            host=rule.host,
            method=method,
            path=path.decode(),
            query=query.decode(),
            content_type=content_type.decode("latin-1"),
            body=body,
            at=int(time.time()),
        )
        others = [one for one in headers if one[0] != b"content-type"]
        return target, [*others, (b"content-type", content_type), *signed]
    return target, [*headers, (key.header.lower().encode(), key.prefix.encode() + value)]
