"""The bus: all connections of clients, driven by the event loop without a Task or Future per message.

Clients use stock ZeroMQ (a DEALER); the kernel's end of each connection is the same strict ZMTP peer as towards drivers
(see ``channel``), so that no byte that a client sends can make the kernel hold more than one message, and no I/O thread
stands between a client and the event loop.

The message is the unit of cost, not the token, so events leave in batches: whatever one read of a driver's
channel produced goes out as one frame per client, at the end of that read. Batching adds no delay. And nothing is lost:
each client's window of unacknowledged frames bounds what is on its way, and what does not fit waits in its streams.

Only this user's processes (and root's) are served: the socket lies in a 0700 folder, and the credentials that the
operating system reports for each peer are checked besides. A connection that does not introduce itself is closed after
a while; one too many is closed at once, so that descriptors are left for drivers and files.
"""

import asyncio
import errno
import logging
import math
import os
import resource
import socket
import struct
import time
from functools import partial
from pathlib import Path
from typing import Protocol

from byenatos_kernel.channel import CLIENT, Channel, ChannelFull
from byenatos_kernel.clients import ClientState
from byenatos_sandbox.channel import refuse_descriptors
from byenatos_sdk.protocol.errors import ByenatosError, Cancelled, InvalidRequest, Unavailable
from byenatos_sdk.protocol.frames import (
    UNREADABLE,
    Ack,
    Bye,
    Call,
    Cancel,
    ClientEvent,
    ClientHeader,
    Hello,
    Open,
    Pause,
    Refused,
    Reply,
    Welcome,
    decode_client_header,
    encode,
)
from byenatos_sdk.protocol.versions import negotiate

__all__ = ["Bus", "ClientOwner"]

BACKLOG = 1024
ACCEPTS_PER_TURN = 32
ACCEPT_AGAIN_S = 0.5
"""How long no connection is taken after the system had no descriptor left."""
UNREAD_LIMIT = 4096
UNREAD_BYTES = 16 << 20
INTRODUCTION_S = 30.0
"""A connection must have said something sensible by then."""
RESERVED_DESCRIPTORS = 256
LINGER_S = 0.5

log = logging.getLogger("byenatos")


class ClientOwner(Protocol):
    """What becomes of the clients' messages; the daemon joins the switchboard and the control plane to it."""

    def hold(self) -> bool:
        """A batch begins: collect what it sends to drivers; returns whether :meth:`release` is owed."""

    def release(self) -> None:
        """The batch is over: send what was collected."""

    def open(self, client: ClientState, header: Open, body: bytes) -> None:
        """A request; raises ``InvalidRequest`` if the client broke the protocol."""

    def cancel(self, client: ClientState, number: int) -> None:
        """Stop a stream or a call."""

    def pause(self, client: ClientState, number: int, *, on: bool) -> None:
        """Hold a stream back or let it go on."""

    def call(self, client: ClientState, header: Call, body: bytes) -> None:
        """A control method; raises ``InvalidRequest`` if the client broke the protocol."""

    def gone(self, client: ClientState, error: ByenatosError) -> None:
        """The client left or is sent away: end its streams with ``error``."""


class Bus:
    """The clients' side of the kernel. ``clients`` are the connections that have introduced themselves."""

    def __init__(self, socket_path: Path, version: str) -> None:
        self.clients: dict[ClientState, Channel] = {}
        self.dirty: dict[ClientState, None] = {}
        self.flush_due = False
        self.owner: ClientOwner | None = None
        self._strangers: dict[ClientState, Channel] = {}
        self._path = socket_path
        self._version = version
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._most = max(RESERVED_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS)

    def start(self) -> None:
        """Bind the socket and begin to serve.

        Raises:
            Unavailable: if something stands in its place that cannot be removed.
        """
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        before = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
        except OSError as error:
            raise Unavailable(f"{self._path}: applications cannot be served there: {error}") from None
        finally:
            os.umask(before)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept)
        self._sweep_timer = self._loop.call_later(INTRODUCTION_S, self._sweep)

    def close(self) -> None:
        """Send what waits, as far as it goes in a moment, and close all connections."""
        if self._listener is None:
            return
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        self.flush()
        end = time.monotonic() + LINGER_S
        for channel in (*self.clients.values(), *self._strangers.values()):
            channel.close(end - time.monotonic())
        self._path.unlink(missing_ok=True)

    def adopt(self, connected: socket.socket) -> None:
        """Serve a connection that the kernel made itself, for a front: what it asks is asked by this user."""
        refuse_descriptors(connected)
        client = ClientState(f"uid:{os.getuid()}", os.getpid())
        client.since = math.inf  # it speaks when it has started
        self._strangers[client] = Channel(connected, partial(self._take, client), partial(self._closed, client), CLIENT)

    # ---- towards clients ---------------------------------------------------------------------------------------

    def tell(self, client: ClientState, number: int, event: ClientEvent) -> None:
        """Queue an event that belongs to no stream."""
        client.control.append((number, event))
        if isinstance(event, Reply):
            client.control_bytes += len(event.body)
        self.dirty[client] = None
        self.schedule_flush()

    def schedule_flush(self) -> None:
        """Flush at the end of this turn of the loop."""
        if not self.flush_due:
            self.flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits for the dirty clients, as far as their windows are open."""
        self.flush_due = False
        dirty = self.dirty
        if dirty:
            self.dirty = {}
            for client in dirty:
                self._flush_client(client)

    def _flush_client(self, client: ClientState) -> None:
        channel = self.clients.get(client)
        if channel is None:
            return
        try:
            while client.open and (client.dirty or client.control):
                events = client.next_frame()
                if events:
                    frame = encode(events)
                    channel.send(frame, hold=True)
                    client.sent(len(frame))
        except ChannelFull:  # it acknowledges what it has not read, for the window is smaller
            self._gone(client)
        else:
            channel.flush()

    # ---- from clients ------------------------------------------------------------------------------------------

    def _take(self, client: ClientState, frames: list[bytes]) -> None:
        """Handle the messages of one read; what they send to drivers leaves together, at the end."""
        assert self.owner is not None
        if client not in self.clients:
            if client not in self._strangers:
                return  # sent away while these were under way
            self.clients[client] = self._strangers.pop(client)
        held = self.owner.hold()
        position, end = 0, len(frames)
        try:
            while position < end and not client.gone:
                position += 2
                self._message(client, frames[position - 2], frames[position - 1])
        finally:
            if held:
                self.owner.release()
            if position < end and not client.gone:  # a mistake of the kernel's in one message costs that one only
                self._loop.call_soon(self._take, client, frames[position:])

    def _message(self, client: ClientState, header: bytes, body: bytes) -> None:
        assert self.owner is not None
        try:
            message: ClientHeader = decode_client_header(header)
        except UNREADABLE as error:
            self._refuse(client, f"a message cannot be read: {error}")
            return
        kind = type(message)
        if kind is Ack:
            self._acknowledged(client, message)  # type: ignore[arg-type]
        elif len(client.control) + len(client.streams) > UNREAD_LIMIT or client.control_bytes > UNREAD_BYTES:
            self._refuse(
                client,
                f"{UNREAD_LIMIT} answers or {UNREAD_BYTES >> 20} MiB wait to be read; read them before asking for more",
            )
        elif kind is Open:
            try:
                self.owner.open(client, message, body)  # type: ignore[arg-type]
            except ByenatosError as error:
                self._refuse(client, error.message)
        elif isinstance(message, Cancel):
            self.owner.cancel(client, message.id)
        elif isinstance(message, Pause):
            self.owner.pause(client, message.id, on=message.on)
        elif isinstance(message, Call):
            try:
                self.owner.call(client, message, body)
            except ByenatosError as error:
                self._refuse(client, error.message)
        elif isinstance(message, Hello):
            self._greet(client, message)
        elif isinstance(message, Bye):
            self._gone(client)

    def _acknowledged(self, client: ClientState, ack: Ack) -> None:
        was_open = client.open
        client.acknowledge(ack.count)
        if not was_open and (client.dirty or client.control):
            self.dirty[client] = None
            self.schedule_flush()

    def _greet(self, client: ClientState, hello: Hello) -> None:
        agreed = negotiate(hello.majors, hello.features)
        if agreed is None:
            self._refuse(client, f"this kernel speaks protocol 1, the client {list(hello.majors)}; update one of them")
            return
        client.name = hello.name[:128]
        client.features = frozenset(agreed[1])
        self.tell(client, 0, Welcome(agreed[0], agreed[1], name=self._version))

    def _refuse(self, client: ClientState, reason: str) -> None:
        """Tell a client what it did wrong and end its streams: what it means is not certain any more."""
        assert self.owner is not None
        channel = self.clients.get(client)
        if channel is None:
            return
        self.owner.gone(client, InvalidRequest(reason))
        self._flush_client(client)
        try:
            channel.send(encode([(0, Refused(reason))]))  # window or no window: it is the last word
            channel.flush()
        except ChannelFull:
            pass
        self._gone(client)

    # ---- who the clients are -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take the connections that wait, a few in one turn."""
        assert self._listener is not None
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connected, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    raise
                log.warning("no client can connect for a moment: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(ACCEPT_AGAIN_S, self._accept_again)
                return
            self._admit(connected)

    def _accept_again(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)

    def _admit(self, connected: socket.socket) -> None:
        """Enter a new connection after a look at who it is; other users are not answered."""
        pid, uid = _credentials(connected)
        if uid not in {os.getuid(), 0} or len(self.clients) + len(self._strangers) >= self._most:
            connected.close()
            return
        refuse_descriptors(connected)
        client = ClientState(f"uid:{uid}", pid)
        client.since = self._loop.time()
        self._strangers[client] = Channel(connected, partial(self._take, client), partial(self._closed, client), CLIENT)

    def _closed(self, client: ClientState, reason: str) -> None:
        """The connection ended by itself, or is cut off because the client broke the protocol of the wire."""
        stranger = self._strangers.pop(client, None)
        if stranger is not None:
            self.clients[client] = stranger
        channel = self.clients.get(client)
        if channel is not None and channel.violated:
            self._refuse(client, reason)
        self._gone(client)

    def _gone(self, client: ClientState) -> None:
        """The client left: forget it and end its streams."""
        channel = self.clients.pop(client, None)
        if channel is None:
            return
        assert self.owner is not None
        self.dirty.pop(client, None)
        client.gone = True
        channel.close()
        self.owner.gone(client, Cancelled("the client went away"))

    def _sweep(self) -> None:
        """Close connections that have not introduced themselves in time."""
        now = self._loop.time()
        self._sweep_timer = self._loop.call_later(INTRODUCTION_S / 2, self._sweep)
        for client, channel in list(self._strangers.items()):
            if now - client.since > INTRODUCTION_S:
                del self._strangers[client]
                channel.close()


def _credentials(connected: socket.socket) -> tuple[int, int]:
    """Ask the operating system for the process and the user at the other end."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid
