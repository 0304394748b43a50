"""The bus: one ROUTER socket towards all clients, driven by the event loop without a Task or Future per message.

The ZeroMQ message is the unit of cost, not the token, so events leave in batches: whatever one drain of a driver's
channel produced goes out as one frame per client, at the end of that drain. Batching adds no delay.

Two traps of libzmq shape this module:

- Its descriptor is edge-triggered, and a ``send`` may swallow the edge of a message that waits. So after every send
  the socket's drain runs again, or is scheduled.
- A ROUTER drops silently at its high-water mark and for peers that left. ``ROUTER_MANDATORY`` with ``NOBLOCK`` turns
  both into errors; and each client's window of unacknowledged frames stays below the mark, so the first never happens.

Only this user's processes (and root's) are served: the socket lies in a 0700 folder, and the credentials that the
operating system reports for each peer are checked besides. The peer's process id also tells when it dies.
"""

import asyncio
import errno
import os
from pathlib import Path
from typing import Protocol

import zmq

from byenatos_kernel.clients import WINDOW_FRAMES, ClientState
from byenatos_sdk.protocol.errors import ByenatosError, Cancelled, InvalidRequest
from byenatos_sdk.protocol.frames import (
    MAX_BODY,
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
    Welcome,
    decode_client_header,
    encode,
)
from byenatos_sdk.protocol.versions import negotiate

__all__ = ["Bus", "ClientOwner"]

MESSAGES_PER_TURN = 64
HIGH_WATER = 4 * WINDOW_FRAMES
UNREAD_LIMIT = 4096
COPY_BELOW = 64 << 10
IDLE_S = 600.0
# Plain numbers: joining two enum flags costs as much as a receive.
_AT_ONCE = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)


class ClientOwner(Protocol):
    """What becomes of the clients' messages; the daemon joins the switchboard and the control plane to it."""

    def hold(self) -> bool:
        """A drain begins: collect what it sends to drivers; returns whether :meth:`release` is owed."""

    def release(self) -> None:
        """The drain is over: send what was collected."""

    def open(self, client: ClientState, header: Open, body: bytes | memoryview) -> None:
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
    """The clients' side of the kernel."""

    def __init__(self, socket_path: Path, version: str) -> None:
        self.clients: dict[bytes, ClientState] = {}
        self.dirty: dict[ClientState, None] = {}
        self.flush_due = False
        self.owner: ClientOwner | None = None
        self._path = socket_path
        self._version = version
        self._loop = asyncio.get_running_loop()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        self._pump_due = False
        self._watched: dict[int, tuple[int, set[ClientState]]] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Bind the socket and begin to serve."""
        router = self._socket
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.ROUTER_HANDOVER, 0)
        router.setsockopt(zmq.SNDHWM, HIGH_WATER)
        router.setsockopt(zmq.RCVHWM, HIGH_WATER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_BODY)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            router.bind(f"ipc://{self._path}")
        finally:
            os.umask(before)
        self._loop.add_reader(self._descriptor, self._pump)
        self._schedule_pump()
        self._sweep_timer = self._loop.call_later(IDLE_S, self._sweep)

    def close(self) -> None:
        """Send what waits, as far as it goes at once, and close the socket."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self.flush()
        for pidfd, _ in self._watched.values():
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._watched.clear()
        self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=500)
        self._context.term()
        self._path.unlink(missing_ok=True)

    # ---- towards clients ---------------------------------------------------------------------------------------

    def tell(self, client: ClientState, number: int, event: ClientEvent) -> None:
        """Queue an event that belongs to no stream."""
        client.control.append((number, event))
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
        if not self.dirty:
            return
        dirty = self.dirty
        self.dirty = {}
        for client in dirty:
            self._flush_client(client)
        if self._waiting():
            self._pump()

    def _flush_client(self, client: ClientState) -> None:
        while client.open and not client.gone:
            events = client.next_frame()
            if events:
                self._send(client, events)
            if not client.dirty and not client.control:
                return

    def _send(self, client: ClientState, events: list[tuple[int, ClientEvent]]) -> None:
        """Send one frame; a client that cannot be reached is gone."""
        frame = encode(events)
        try:
            self._socket.send(client.routing_id, _MORE)
            self._socket.send(frame, _AT_ONCE)
        except zmq.ZMQError as error:
            # EHOSTUNREACH: the peer left. EAGAIN: it acknowledged what it had not read, since the window is smaller
            # than the high-water mark; it must not hold up the others.
            if error.errno not in {errno.EHOSTUNREACH, errno.EAGAIN, errno.ENOTSOCK}:
                raise
            self._gone(client)
        else:
            client.sent(len(frame))

    # ---- from clients ------------------------------------------------------------------------------------------

    def _schedule_pump(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Read messages until there are none, or the budget of this turn is used up."""
        self._pump_due = False
        receive = self._socket.recv
        handle = self._message
        drained = False
        assert self.owner is not None
        held = self.owner.hold()
        try:
            for number in range(MESSAGES_PER_TURN):
                routing_id = receive(_AT_ONCE)
                header = receive(_AT_ONCE, copy=False)
                if not header.more:
                    continue
                body = receive(_AT_ONCE, copy=False)
                extra = 0
                while body.more:
                    body = receive(_AT_ONCE, copy=False)
                    extra += 1
                handle(routing_id, header, body, extra)
                # EAGAIN as an exception costs as much as three looks: a lone message is not followed by one.
                if not number and not self._waiting():
                    drained = True
                    return
        except zmq.Again:
            drained = True
        except zmq.ZMQError as error:
            drained = error.errno == errno.ENOTSOCK  # closed while a scheduled pump was still due
            if not drained:
                raise
        finally:
            if held:
                self.owner.release()
            if not drained:  # nothing else will: the descriptor is edge-triggered
                self._schedule_pump()

    def _waiting(self) -> bool:
        """Whether a message can be read now; if not, the descriptor will say when."""
        try:
            return bool(int(self._socket.getsockopt(_EVENTS)) & _READABLE)
        except zmq.ZMQError as error:
            if error.errno == errno.ENOTSOCK:  # closed while a flush was still due
                return False
            raise

    def _message(self, routing_id: bytes, header: zmq.Frame, body: zmq.Frame, extra: int) -> None:
        client = self.clients.get(routing_id)
        if client is None:
            client = self._admit(routing_id, header)
            if client is None:
                return
        assert self.owner is not None
        if extra:
            self._refuse(client, f"expected messages of 2 frames, found {extra + 2}")
            return
        try:
            message: ClientHeader = decode_client_header(header.bytes)
        except UNREADABLE as error:
            self._refuse(client, f"a message cannot be read: {error}")
            return
        kind = type(message)
        if kind is Ack:
            self._acknowledged(client, message)  # type: ignore[arg-type]
        elif len(client.control) + len(client.streams) > UNREAD_LIMIT:
            self._refuse(client, f"{UNREAD_LIMIT} answers wait to be read; read them before asking for more")
        elif kind is Open:
            content = body.bytes if len(body) < COPY_BELOW else memoryview(body.buffer)
            try:
                self.owner.open(client, message, content)  # type: ignore[arg-type]
            except ByenatosError as error:
                self._refuse(client, error.message)
        elif isinstance(message, Cancel):
            self.owner.cancel(client, message.id)
        elif isinstance(message, Pause):
            self.owner.pause(client, message.id, on=message.on)
        elif isinstance(message, Call):
            try:
                self.owner.call(client, message, body.bytes)
            except ByenatosError as error:
                self._refuse(client, error.message)
        elif isinstance(message, Hello):
            self._greet(client, message)
        elif isinstance(message, Bye):
            self._gone(client)
        client.last_seen = self._loop.time()

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
        self.tell(client, 0, Welcome(agreed[0], agreed[1], name=self._version))

    def _refuse(self, client: ClientState, reason: str) -> None:
        """Tell a client what it did wrong and end its streams: what it means is not certain any more."""
        assert self.owner is not None
        self.owner.gone(client, InvalidRequest(reason))
        self._flush_client(client)
        if not client.gone:
            self._send(client, [(0, Refused(reason))])  # window or no window: it is the last word
        self._gone(client)

    # ---- who the clients are -----------------------------------------------------------------------------------

    def _admit(self, routing_id: bytes, header: zmq.Frame) -> ClientState | None:
        """Enter a new client after a look at who it is; foreign users are not answered."""
        uid, pid = _credentials(header)
        if uid is not None and uid not in (os.getuid(), 0):
            return None
        client = ClientState(routing_id, f"uid:{os.getuid() if uid is None else uid}", pid or 0)
        self.clients[routing_id] = client
        if pid:
            self._watch(client, pid)
        return client

    def _watch(self, client: ClientState, pid: int) -> None:
        known = self._watched.get(pid)
        if known is None:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                return  # it died already, or lives in another pid namespace: the next send tells
            known = self._watched[pid] = (pidfd, set())
            self._loop.add_reader(pidfd, self._process_gone, pid)
        known[1].add(client)

    def _process_gone(self, pid: int) -> None:
        self._pump()  # what it still said comes first
        for client in list(self._watched.get(pid, (0, set()))[1]):
            self._gone(client)

    def _gone(self, client: ClientState) -> None:
        """The client left: forget it and end its streams."""
        if self.clients.pop(client.routing_id, None) is None:
            return
        self.dirty.pop(client, None)
        watched = self._watched.get(client.pid)
        if watched is not None:
            watched[1].discard(client)
            if not watched[1]:
                del self._watched[client.pid]
                self._loop.remove_reader(watched[0])
                os.close(watched[0])
        client.gone = True
        assert self.owner is not None
        self.owner.gone(client, Cancelled("the client went away"))

    def _sweep(self) -> None:
        """Forget clients that have been silent for long and have nothing running; they are re-entered if they speak."""
        now = self._loop.time()
        self._sweep_timer = self._loop.call_later(IDLE_S, self._sweep)
        for client in list(self.clients.values()):
            if not client.streams and not client.calls and now - client.last_seen > IDLE_S:
                self._gone(client)


def _credentials(frame: zmq.Frame) -> tuple[int | None, int | None]:
    """Read ``localhost:<uid>:<gid>:<pid>``, which libzmq reports for ipc peers, from a message's metadata."""
    try:
        parts = str(frame.get("Peer-Address")).split(":")
        return int(parts[1]), int(parts[3])
    except (zmq.ZMQError, IndexError, ValueError):
        return None, None
