"""Puts a key where the rule says it goes, having thrown out whatever the driver put there itself.

A driver's own credentials would have a vendor write down under somebody else's account what this one was asked. What
tells a server to take a request for another one than it is (another method, another path, another place that it came
from) is refused or thrown out: the check would have been of something else. Servers that speak to their programs by
variables take ``X_API_KEY`` for ``X-Api-Key``, so both spellings count as one here.
"""

import re
import time
import urllib.parse
from collections.abc import Container, Iterable, Sequence
from typing import Final, TypeAlias

from byenatos_sandbox.broker.messages import Key, Rule
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sdk.protocol.tc3 import sign

__all__ = ["Header", "forwarded", "inject", "own_query"]

Header: TypeAlias = tuple[bytes, bytes]

_HOP: Final = frozenset(
    b"connection keep-alive te trailer transfer-encoding upgrade proxy-connection forwarded x-real-ip x-client-ip "
    b"true-client-ip x-host x-original-host via expect host accept-encoding http2-settings".split()
)
"""Between two neighbours only, or about where a request came from; ``content-length`` is kept, as it stays true."""
_CREDENTIALS: Final = frozenset(
    b"authorization x-api-key api-key apikey x-apikey x-goog-api-key x-goog-iam-authorization-token cookie "
    b"x-auth-token x-access-token x-amz-security-token x-functions-key ocp-apim-subscription-key x-tc-timestamp".split()
)
_OVERRIDES: Final = frozenset(
    b"x-http-method x-http-method-override x-method-override x-original-method x-original-url x-original-uri "
    b"x-original-path x-override-url x-rewrite-url".split()
)
_IN_PARTS: Final = frozenset(b"range if-range".split())
"""What would have an answer come in parts, and an echo of a key with it, in which no key is seen."""
_KEYS_IN_QUERIES: Final = frozenset(
    b"key $key api_key api-key apikey access_token oauth_token auth_token x-api-key x-goog-api-key "
    b"subscription-key".split()
)
_OVERRIDES_IN_QUERIES: Final = frozenset(b"_method $httpmethod $httpheaders x-http-method-override".split())
_CONNECTION: Final = re.compile(rb"[ \t]*,[ \t]*")


def forwarded(headers: Iterable[Header], key: Key | None) -> list[Header]:
    """Return what of a request's headers is passed on: no credentials, nothing between neighbours.

    Raises:
        Refused: one of them asks for another request than this one.
    """
    headers = list(headers)
    drop = {_plain(key.header.lower().encode()), *_IN_PARTS} if key is not None else set()
    for name, value in headers:
        if name == b"connection":
            drop |= {_plain(one.lower()) for one in _CONNECTION.split(value)}
        elif _plain(name) in _OVERRIDES:
            raise Refused(403, f"the header {name.decode()} asks for another method or path than the request's own")
    drop |= _HOP | _CREDENTIALS
    drop.discard(b"content-length")
    return [(name, value) for name, value in headers if _passes(name, drop)]


def _passes(name: bytes, drop: Container[bytes]) -> bool:
    plain = _plain(name)
    if plain in drop or plain.startswith((b"proxy-", b"x-forwarded-")):
        return False
    return plain != b"content-length" or name == plain


def _plain(name: bytes) -> bytes:
    return name.replace(b"_", b"-")


def own_query(target: bytes, key: Key | None) -> bytes:
    """Return a target without the credentials that a driver put into its query, where a ``key`` of ours goes along.

    Raises:
        Refused: the query asks for another method than the request's own.
    """
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    kept, dropped = [], False
    for part in query.split(b"&"):
        pieces = part.split(b";")  # which some servers take for another &
        names = [urllib.parse.unquote_to_bytes(piece.partition(b"=")[0]).lower() for piece in pieces]
        if not _OVERRIDES_IN_QUERIES.isdisjoint(names):
            raise Refused(403, "the query asks for another method, or other headers, than the request's own")
        if key is not None and not _KEYS_IN_QUERIES.isdisjoint(names):
            dropped = True
            pieces = [piece for piece, name in zip(pieces, names, strict=True) if name not in _KEYS_IN_QUERIES]
        if pieces:
            kept.append(b";".join(pieces))
    return path + mark + b"&".join(kept) if dropped else target


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
