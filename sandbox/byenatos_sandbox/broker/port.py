"""One driver instance's port: its identity, its rules, its connections.

A driver writes one byte and is handed a connected stream, so that it needs neither ``socket`` nor ``connect``. Who asks
is told by the inherited socket and by nothing that is said on it. A driver with an egress socket gets its streams from
the kernel, which passes their other ends on (:meth:`Port.serve`).
"""

import array
import asyncio
import ipaddress
import socket
import ssl
from contextlib import suppress

from byenatos_sandbox.broker.addresses import Resolve, resolve
from byenatos_sandbox.broker.audit import Audit, Entry
from byenatos_sandbox.broker.connect import Connector
from byenatos_sandbox.broker.line import Line, refusal
from byenatos_sandbox.broker.messages import OpenPort, Rule
from byenatos_sandbox.broker.pool import Pool
from byenatos_sandbox.broker.redact import Redactor
from byenatos_sandbox.broker.refusal import Refused
from byenatos_sandbox.broker.room import Room
from byenatos_sandbox.broker.vault import Vault
from byenatos_sandbox.channel import refuse_descriptors

__all__ = ["HANDED", "MOST_LINES", "Port"]

MOST_LINES = 64
"""Connections of one driver at a time."""
_DIALS_A_TURN = 8
_SIGNED_AT_ONCE = 4  # each is kept whole in memory
HANDED, BUSY = b"+", b"-"


class Port:
    """Serves one instance until :meth:`close`."""

    def __init__(
        self,
        order: OpenPort,
        descriptor: socket.socket,
        *,
        vault: Vault,
        audit: Audit,
        context: ssl.SSLContext,
        room: Room,
        look_up: Resolve = resolve,
    ) -> None:
        self.driver = order.driver
        self.vault = vault
        self.audit = audit
        self.room = room
        addresses = [ipaddress.ip_network(one) for one in order.addresses]
        self.pool = Pool(Connector(addresses, context, look_up))
        self.lines: set[Line] = set()
        self.signing = asyncio.Semaphore(_SIGNED_AT_ONCE)
        self.amend(order.rules)
        self._socket = descriptor
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        descriptor.setblocking(False)
        refuse_descriptors(descriptor)
        self._loop.add_reader(descriptor, self._dialled)

    def amend(self, rules: tuple[Rule, ...]) -> None:
        """Judge requests by ``rules`` from now on."""
        self.rules = rules
        self._secrets = tuple(sorted({rule.key.secret for rule in rules if rule.key and not rule.refused}))

    def redactor(self) -> Redactor:
        """Return what takes the driver's keys out of answers."""
        return self.vault.redactor(self._secrets)

    def malformed(self, refused: Refused) -> None:
        """A connection began with what is no request."""
        self.audit.write(Entry(self.driver, refused=refused.reason, status=refused.status))

    def serve(self, stream: socket.socket) -> None:
        """Serve a stream that the kernel has handed to the driver; with no room for it, say so on it and close it."""
        if full := self._full():
            with stream, suppress(OSError):
                stream.send(refusal(Refused(503, full)), socket.MSG_DONTWAIT)
            return
        self._begin(stream)

    def tidy(self) -> None:
        """End what has been silent for too long, and close what nobody uses."""
        now = self._loop.time()
        for line in list(self.lines):
            if now > line.deadline:
                line.expire()
        self.pool.tidy()

    def close(self) -> None:
        """Break everything off."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for line in list(self.lines):
            line.close()
        self.pool.close()

    # ---- private -----------------------------------------------------------------------------------------------

    def _dialled(self) -> None:
        for _ in range(_DIALS_A_TURN):
            try:
                asked = self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError:
                asked = b""
            if not asked:  # nobody holds the other end any more; the kernel closes the port when it hears of it
                self._loop.remove_reader(self._socket)
                return
            self._hand_over()

    def _hand_over(self) -> None:
        if full := self._full():
            with suppress(OSError):
                self._socket.send(BUSY + full.encode())
            return
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with its:
            try:
                rights = array.array("i", [its.fileno()])
                self._socket.sendmsg([HANDED], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except OSError:  # it does not take what it asked for
                ours.close()
                self.room.give_line_back()
                return
        self._begin(ours)

    def _full(self) -> str:
        """Why there is no room for one more line, which is counted if there is."""
        if len(self.lines) >= MOST_LINES:
            return f"{MOST_LINES} connections are open; close some"
        return self.room.take_line(len(self.lines))

    def _begin(self, ours: socket.socket) -> None:
        line = Line(self)
        self.lines.add(line)
        task = self._loop.create_task(self._serve(line, ours))
        self._tasks.add(task)  # the loop holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: Line, ours: socket.socket) -> None:
        try:
            ours.setblocking(False)
            refuse_descriptors(ours)
            line.touch()
            await self._loop.create_connection(lambda: line.wire, sock=ours)
            await line.live()
        finally:
            self.lines.discard(line)
            self.room.give_line_back()
