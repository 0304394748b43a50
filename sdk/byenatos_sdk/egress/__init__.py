"""The driver's way to its vendor: connected streams from the broker, and httpx transports over them.

A driver has no network. It asks the broker for a stream on the descriptor that it inherited and speaks plain HTTP/1.1
on it; the broker checks each request against what the manifest asks for and the operator grants, puts the key in, and
speaks TLS with the vendor. The driver addresses the vendor as ever (``https://api.vendor.example/v1``)::

    client = httpx.AsyncClient(transport=async_transport(), base_url="https://api.vendor.example/v1")
    client = openai.AsyncOpenAI(api_key="-", http_client=httpx2.AsyncClient(transport=async_transport("httpx2")))

Libraries that take the path of a unix socket, and nothing else, get :data:`SOCKET` once ``plugin.toml`` says
``egress_socket = true`` under ``[permissions]``. They speak plain HTTP on it, so that the address begins with ``http:``
whatever the vendor speaks::

    client = httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET), base_url="http://api.vendor.example/v1")

Nothing lies at that path, and nothing but the broker is behind whatever address is connected to.

What the broker refuses is answered with the header ``x-byenatos-egress: refused`` and a sentence that says why.
"""

from typing import Any, Literal, TypeAlias

from byenatos_sdk.egress.dialling import EGRESS, MOST_CONNECTIONS, SOCKET, EgressUnavailable, dial, dial_async

__all__ = ["EGRESS", "SOCKET", "EgressUnavailable", "Library", "async_transport", "dial", "dial_async", "transport"]

Library: TypeAlias = Literal["httpx", "httpx2"]
"""``httpx``, or its successor, which the SDKs of OpenAI and Anthropic use."""


def transport(library: Library = "httpx", *, most_connections: int = MOST_CONNECTIONS) -> Any:
    """Return a transport for ``httpx.Client`` (or ``httpx2.Client``) that reaches the vendor through the broker."""
    from byenatos_sdk.egress.httpx_threads import transport_class  # here: most drivers have no httpx

    return transport_class(library)(most_connections)


def async_transport(library: Library = "httpx", *, most_connections: int = MOST_CONNECTIONS) -> Any:
    """Return a transport for ``httpx.AsyncClient`` (or ``httpx2.AsyncClient``), for use under asyncio."""
    from byenatos_sdk.egress.httpx_async import transport_class  # as above

    return transport_class(library)(most_connections)
