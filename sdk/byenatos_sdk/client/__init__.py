"""Talk to a kernel: :class:`AsyncClient` for asyncio, :class:`Client` for everything else.

::

    with Client() as client:
        for delta in client.stream("Why is the sky blue?"):
            ...

Both are thin shells over ``core``, which does no I/O.
"""

from byenatos_sdk.client.aio import AsyncClient, AsyncSession
from byenatos_sdk.client.aio_streams import AsyncEvents, AsyncStream
from byenatos_sdk.client.blocking import Client, Session
from byenatos_sdk.client.blocking_streams import Events, Stream
from byenatos_sdk.client.core import KernelNotRunning
from byenatos_sdk.client.request import Options, Prompt

__all__ = [
    "AsyncClient",
    "AsyncEvents",
    "AsyncSession",
    "AsyncStream",
    "Client",
    "Events",
    "KernelNotRunning",
    "Options",
    "Prompt",
    "Session",
    "Stream",
]
