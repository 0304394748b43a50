"""The broker's server: takes ports from the kernel and keys from the keeper, and relays what drivers ask for.

It is the process that reads what drivers and vendors send, so it is the one that is confined (``confinement.py``). It
ends with its keeper; a message of the kernel's that cannot be read ends it as well, for what comes next is not safe.
"""

import asyncio
import gc
import os
import socket
import ssl
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from byenatos_sandbox.broker import confinement
from byenatos_sandbox.broker.audit import Audit
from byenatos_sandbox.broker.connect import proxy_ports, trust, warn_about_proxies
from byenatos_sandbox.broker.messages import (
    MAX_PACKET,
    AmendPort,
    ClosePort,
    OpenLine,
    OpenPort,
    Serving,
    Settings,
    decode_from_kernel,
    encode,
)
from byenatos_sandbox.broker.port import Port
from byenatos_sandbox.broker.room import Room
from byenatos_sandbox.broker.vault import Vault
from byenatos_sandbox.linux import prctl

__all__ = ["Server", "serve"]

TIDY_S = 2.0
MAX_CERTIFICATES = 1 << 20
_RESOLVERS = 8
_PR_SET_NAME = 15


def serve(control: socket.socket, keeper: socket.socket, settings: Settings) -> NoReturn:
    """Lock this process in and serve for ever."""
    prctl_name("byen-broker")
    context = trust()
    warn_about_proxies()
    for sentence in confinement.lock_in(Path(settings.audit), [*settings.ports, *proxy_ports()]):
        sys.stderr.write(f"broker: it runs less confined than it should: {sentence}\n")
    gc.collect()
    gc.freeze()  # what was imported is not looked through again while requests wait
    asyncio.run(_run(control, keeper, settings, context))
    os._exit(0)


def prctl_name(name: str) -> None:
    """Name this process for `ps` and `top`."""
    import ctypes

    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(_PR_SET_NAME, ctypes.addressof(buffer))


async def _run(control: socket.socket, keeper: socket.socket, settings: Settings, context: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS, "resolver"))
    loop.set_exception_handler(_complain)
    server = Server(control, Vault(keeper), Audit(Path(settings.audit)), context)
    await server.run()


class Server:
    """The ports, and the socket on which the kernel opens and closes them."""

    def __init__(self, control: socket.socket, vault: Vault, audit: Audit, context: ssl.SSLContext) -> None:
        self.ports: dict[int, Port] = {}
        self._control = control
        self._vault = vault
        self._audit = audit
        self._context = context
        self._room = Room()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Serve until the kernel hangs up."""
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._ordered)
        await self._loop.sock_sendall(self._control, encode(Serving(os.getpid())))
        tidy = self._loop.create_task(self._tidy())
        try:
            await self._ended
        finally:
            tidy.cancel()
            self._loop.remove_reader(self._control)
            for port in self.ports.values():
                port.close()
            self._audit.close()

    # ---- private -----------------------------------------------------------------------------------------------

    def _ordered(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, MAX_PACKET, 2)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._end()
            return
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        try:
            message = decode_from_kernel(packet)
            if isinstance(message, ClosePort):
                self._close(message.port)
                unclaimed = descriptors
            elif isinstance(message, AmendPort):
                self._amend(message)
                unclaimed = descriptors
            elif isinstance(message, OpenLine):
                unclaimed = self._serve(message.port, descriptors)
            else:
                unclaimed = self._open(message, descriptors)
        except (msgspec.MsgspecError, ValueError, OSError) as error:
            sys.stderr.write(f"broker: an order of the kernel's is not understood: {type(error).__name__}\n")
            self._end()
            return
        for descriptor in unclaimed:
            os.close(descriptor)

    def _open(self, order: OpenPort, descriptors: list[int]) -> list[int]:
        expected = 2 if order.ca else 1
        if len(descriptors) != expected:
            raise ValueError(f"expected {expected} descriptors, found {len(descriptors)}")
        if order.port in self.ports:  # sent to the server before this one, and again to this one
            return descriptors
        context = self._context
        port = socket.socket(fileno=descriptors[0])
        if order.ca:
            try:
                context = trust(os.pread(descriptors[1], MAX_CERTIFICATES, 0).decode("ascii"))
            except (OSError, ValueError):
                sys.stderr.write(f"broker: {order.driver}: `ca` has no certificates: nothing is trusted for it\n")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ports[order.port] = Port(
            order, port, vault=self._vault, audit=self._audit, context=context, room=self._room
        )
        return descriptors[1:]

    def _amend(self, order: AmendPort) -> None:
        port = self.ports.get(order.port)
        if port is not None:
            port.amend(order.rules)

    def _serve(self, number: int, descriptors: list[int]) -> list[int]:
        if len(descriptors) != 1:
            raise ValueError(f"expected 1 descriptor, found {len(descriptors)}")
        port = self.ports.get(number)
        if port is None:  # closed since
            return descriptors
        port.serve(socket.socket(fileno=descriptors[0]))
        return []

    def _close(self, number: int) -> None:
        port = self.ports.pop(number, None)
        if port is not None:
            port.close()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            for port in list(self.ports.values()):
                port.tidy()


def _complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report a fault without its message, which may quote what was sent."""
    error = context.get("exception")
    if isinstance(error, ConnectionError | ssl.SSLError):
        return
    where = "".join(
        f" {Path(one.filename).name}:{one.lineno}" for one in traceback.extract_tb(error and error.__traceback__)
    )
    sys.stderr.write(f"broker: fault: {type(error).__name__}{where}\n")
