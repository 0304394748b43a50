"""Runs a front in the process that otherwise runs a driver: the same handshake, the same beats, the same way out."""

import socket
from collections.abc import AsyncIterator
from typing import Any

from byenatos_sdk import files
from byenatos_sdk.client import AsyncClient
from byenatos_sdk.driver import Driver, Model
from byenatos_sdk.front import Front
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest

__all__ = ["driver_of"]


class _Listener(socket.socket):
    """A front's listening socket. Servers tell theirs to listen; this one does, and its process may not say so."""

    def listen(self, backlog: int = 0, /) -> None:
        """Do nothing."""


def driver_of(front: Any, sockets: int) -> type[Driver]:
    """Return the driver whose model is ``front``: loading it is starting to serve.

    Raises:
        TypeError: ``front`` is no front, or lacks something.
    """
    if not (isinstance(front, type) and issubclass(front, Front)):
        raise TypeError(f"expected the entry to name a subclass of byenatos_sdk.front.Front, found {front!r:.200}")
    missing = sorted(getattr(front, "__abstractmethods__", ()))
    if missing:
        raise TypeError(f"expected {front.__name__} to define {', '.join(missing)}, found a class that does not")

    class FrontDriver(Driver):
        """One worker of a front."""

        def __init__(self, settings: dict[str, Any]) -> None:
            super().__init__(settings)
            self._front = front(settings)
            self._kernel: AsyncClient | None = None

        async def start(self, model: Model) -> None:
            """Take the two sockets that were handed over, and serve."""
            if sockets != 2:
                raise InvalidRequest(f"{model.id}: expected a connection to the kernel and a listening socket")
            client, server = files.sockets(sockets)
            connected, listener = socket.socket(fileno=client), _Listener(fileno=server)
            listener.setblocking(False)
            self._kernel = AsyncClient.over(connected, name=f"front:{model.id}")
            await self._kernel.connect()
            await self._front.start(listener, self._kernel)

        async def stop(self) -> None:
            """Let what is answered now come to its end."""
            await self._front.stop()
            if self._kernel is not None:
                await self._kernel.close()

        def infer(self, request: InferenceRequest) -> AsyncIterator[str]:
            """Refuse: a front answers applications, not the kernel.

            Raises:
                InvalidRequest: always.
            """
            raise InvalidRequest(f"{request.model} is a front; it has no model")

    return FrontDriver
