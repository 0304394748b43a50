"""What the egress broker is to hold a driver to: the requests of its manifest, as far as the operator grants them.

What a manifest asks for and the operator does not grant is not left out of the rules but marked as refused, so that the
broker can say what is missing when it is asked for.
"""

from collections.abc import Iterator

import msgspec

from byenatos_kernel.access import DriverRules
from byenatos_sandbox.broker import Key, Rule
from byenatos_sdk.manifest import Egress as Asked
from byenatos_sdk.manifest import Manifest

__all__ = ["granted_rules"]


def granted_rules(manifest: Manifest, granted: DriverRules, closed: str = "") -> tuple[Rule, ...]:
    """Return what the broker is to hold a driver to: the manifest's requests, those that are not granted refused.

    ``closed`` says why all of them are, if they are.
    """
    named = {asked.place for asked in manifest.egress if not asked.anywhere}
    rules: list[Rule] = []
    for asked in manifest.egress:
        if asked.anywhere:
            rules += (_rule(manifest.plugin.id, one, granted, closed) for one in _anywhere(asked, named, granted))
        else:
            rules.append(_rule(manifest.plugin.id, asked, granted, closed))
    return tuple(rules)


def _anywhere(asked: Asked, named: set[str], granted: DriverRules) -> Iterator[Asked]:
    """Yield what a request for any host comes to: the places that are granted and that no other request names."""
    key = asked.key if asked.key is not None and asked.key.secret in granted.secrets else None
    for place in granted.network:
        plain = place.startswith("http://")
        host, _, port = place.removeprefix("http://").rpartition(":")
        if plain == (asked.scheme == "http") and f"{host}:{port}" not in named:
            yield msgspec.structs.replace(asked, host=host, port=int(port), key=key)


def _granted(asked: Asked, granted: DriverRules) -> bool:
    """Whether the operator grants the place; written as plain HTTP only where that is what is asked for."""
    return asked.place in granted.network or (asked.scheme == "http" and f"http://{asked.place}" in granted.network)


def _rule(driver: str, asked: Asked, granted: DriverRules, closed: str) -> Rule:
    refused = closed
    key = asked.key
    if refused:
        pass
    elif not _granted(asked, granted):
        refused = f"{asked.place} is not granted: it is missing in `network` of [drivers.{driver}] in access.toml"
    elif key is not None and key.secret not in granted.secrets:
        refused = f"key {key.secret!r} is not granted: it is missing in `secrets` of [drivers.{driver}] in access.toml"
    return Rule(
        host=asked.host,
        port=int(asked.place.rpartition(":")[2]),
        scheme=asked.scheme,
        methods=tuple(asked.methods),
        paths=tuple(asked.paths),
        max_request_mib=asked.max_request_mib,
        max_response_mib=asked.max_response_mib,
        key=Key(key.secret, key.header, key.prefix, key.query, key.scheme, key.service) if key is not None else None,
        refused=refused,
    )
