"""Addresses at which fronts listen, as the configuration writes them."""

import ipaddress

from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["split_address"]


def split_address(listen: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[host]:port``; the host is an IP address, or ``localhost`` for one.

    Raises:
        InvalidRequest: it is neither.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host)
        if port.isascii() and port.isdigit() and int(port) <= 65535:
            return host, int(port)
    except ValueError:
        pass
    raise InvalidRequest(f"expected an address like 127.0.0.1:8421, found {listen!r}")
