r"""What the author of a front writes: a class that speaks an outside protocol to applications.

A front is a plugin of kind ``front``. It runs in a sandbox as drivers do, holds no key and no model, and can connect to
nothing: the kernel gives it a listening socket that is bound already, and one connection to itself as a client. What a
front learns of the kernel is what any application may ask. Its settings are the manifest's with the operator's over
them, and two of the kernel's: ``clients``, the tables of ``access.toml`` by which applications are known (none: whoever
can connect may ask), and ``worker``, this process's number among those of the front, from 1.

**Who may ask is the front's to decide**, for the kernel sees one client, which may do everything. Where there are
``clients``, answer nobody without the key of one: its ``sha256`` is ``hashlib.sha256(key.encode()).hexdigest()``. Keep
it to its ``slots`` (empty: all) and its ``role`` (``user`` manages nothing and sees no session but its own), and count
each request by ``await kernel.admit(name)``, which raises ``RateLimited``.

::

    class Lines(Front):
        async def start(self, listener, kernel):
            self.kernel = kernel
            self.server = await asyncio.start_server(self.serve, sock=listener)

        async def stop(self):
            self.server.close()

        async def serve(self, reader, writer):
            while line := await reader.readline():
                answer = await self.kernel.infer(line.decode().strip())
                writer.write(answer.text.encode() + b"\n")
            writer.close()

Its manifest says ``kind = "front"`` and ``entry = "front:Lines"``; it serves where ``config.json`` says
``"fronts": {"lines": {"listen": "127.0.0.1:7000"}}``, and ``byenatos status`` tells why it does not.
"""

import socket
from abc import ABC, abstractmethod
from typing import Any

from byenatos_sdk.client import AsyncClient

__all__ = ["Front"]


class Front(ABC):
    """Serves applications from one event loop. Several processes of the same front may share one listening socket."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @abstractmethod
    async def start(self, listener: socket.socket, kernel: AsyncClient) -> None:
        """Begin to accept from ``listener`` (bound, listening, not blocking); return once it does.

        ``kernel`` is connected. If it goes away, the process ends.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Accept nothing more, let what is answered now come to its end, and return.

        Whoever waits for longer than the kernel's grace is cut off.
        """
