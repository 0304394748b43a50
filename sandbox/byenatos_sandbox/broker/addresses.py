"""Which addresses may be connected to: public ones, and what the operator granted.

The name is resolved here, the answers are judged, and the connection is made to the very address that was judged, so
that a name server which answers differently the next time gains nothing.

Source: the IANA registries of special-purpose addresses for IPv4 and IPv6; the metadata services of the large clouds.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from byenatos_sandbox.broker.refusal import Refused

__all__ = ["Network", "Resolve", "judge", "public_addresses", "resolve"]

Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Look a host up; the addresses as text, best first."""

RESOLVE_S = 10.0

_NOT_PUBLIC: Final = {
    "this network": ["0.0.0.0/8", "::/128"],
    "private": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"],
    "shared by a carrier": ["100.64.0.0/10"],
    "loopback": ["127.0.0.0/8", "::1/128"],
    "link-local": ["169.254.0.0/16", "fe80::/10"],
    "a cloud's metadata service": ["168.63.129.16/32"],
    "multicast": ["224.0.0.0/4", "ff00::/8"],
    "an IPv4 address in another form": ["::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16"],
    "for documentation": ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"],
    "reserved": ["192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "100::/64", "2001::/23"],
}
_KINDS: Final = [(ip_network(text), kind) for kind, texts in _NOT_PUBLIC.items() for text in texts]
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def judge(text: str, granted: Sequence[Network] = ()) -> str:
    """Say what is wrong with connecting to an address; empty if nothing is."""
    try:
        address = ip_address(text)
    except ValueError:
        return "no address"
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "bound to an interface"
    if any(address in network for network in granted):
        return ""
    for network, kind in _KINDS:
        if address in network:
            return kind
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL_UNICAST:
            return "reserved"
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return "an IPv4 address in another form"
    return "" if address.is_global else "not public"


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system; it may take a thread and a while.

    Raises:
        OSError: the name is not known, or nobody answers.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_S):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def public_addresses(host: str, port: int, granted: Sequence[Network], look_up: Resolve = resolve) -> list[str]:
    """Look ``host`` up and return the addresses that may be connected to.

    Raises:
        Refused: there is none.
    """
    try:
        found = await look_up(host, port)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "nobody answers"
        raise Refused(502, f"{host} cannot be looked up: {reason}") from None
    verdicts = {text: judge(text, granted) for text in found}
    allowed = [text for text, verdict in verdicts.items() if not verdict]
    if not allowed:
        text, verdict = next(iter(verdicts.items()), ("nothing", "no address"))
        raise Refused(
            403,
            f"{host} resolves to {text:.45}, which is {verdict}; "
            "if that is meant, the operator grants it by `addresses` in access.toml",
        )
    return allowed
