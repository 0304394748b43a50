"""The kernel's side of the egress broker: what each driver is granted, a port for each instance, a broker that is up.

What a driver is held to stands in ``egress_rules.py``. The kernel holds no key, and makes no outside connection itself.

The kernel keeps the broker's end of every port. A server that ends is followed by another one (``Serving``), which is
sent all ports again: a driver's own end, which cannot be replaced in a running sandbox, stays what it was.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections import deque

from msgspec import DecodeError

from byenatos_kernel.access import Access
from byenatos_kernel.egress_ports import EgressPort
from byenatos_kernel.egress_rules import granted_rules
from byenatos_sandbox.broker import (
    AmendPort,
    Broker,
    ClosePort,
    Ended,
    Listed,
    ListSecrets,
    OpenLine,
    OpenPort,
    Serving,
    Settings,
    Source,
    decode_from_keeper,
    decode_from_server,
    encode,
    start_broker,
)
from byenatos_sdk.home import Home
from byenatos_sdk.manifest import Manifest
from byenatos_sdk.protocol.control import SecretInfo
from byenatos_sdk.protocol.errors import ByenatosError, Unavailable

__all__ = ["Egress"]

MAX_PACKET = 128 << 10
ANSWER_S = 60.0
STOP_S = 2.0
FIRST_DELAY_S, MOST_DELAY_S = 0.1, 10.0

log = logging.getLogger("byenatos")


class Egress:
    """Starts the broker when the first driver needs it, and keeps it up. Use it from the event loop's thread."""

    def __init__(self, home: Home, access: Access, broker: Broker | None = None) -> None:
        self._audit = home.path / "audit"
        self._access = access
        self._broker = broker
        self._ports: dict[int, EgressPort] = {}
        self._next_port = 1
        self._queue: deque[tuple[bytes, int, bool]] = deque()
        self._serving = False
        self._asked: dict[int, asyncio.Future[list[SecretInfo]]] = {}
        self._delay_s = FIRST_DELAY_S
        self._restart: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closing = False
        if broker is not None:
            self._attach(broker)

    @property
    def pid(self) -> int:
        """The process id of the broker's keeper; 0 while there is none."""
        return self._broker.pid if self._broker is not None else 0

    def open(self, manifest: Manifest, closed: str = "") -> EgressPort | None:
        """Open a port for an instance of a driver; nothing if its manifest asks for none.

        ``closed`` says why nothing of what it asks for is granted, if that is so.

        Raises:
            Unavailable: the broker cannot be started.
        """
        if not manifest.egress:
            return None
        if self._broker is None and self._restart is None:
            self._start()
        order = self._order(self._next_port, manifest, closed)
        self._next_port += 1
        port = EgressPort(self, order)
        port.trust(self._access.rules(order.driver).ca)
        self._ports[order.port] = port
        self._send(encode(order), order.port)
        return port

    def adopt(self, access: Access) -> None:
        """Have the broker know other hosts and keys; what is open already is for :meth:`amend`."""
        before, self._access = self._access, access
        if self._broker is not None and self._settings(before) != self._settings(access):
            with contextlib.suppress(
                OSError
            ):  # it is gone, or ends for not reading: its successor is told at its start
                self._broker.keeping.send(encode(self._settings(access)))

    def amend(self, port: EgressPort, manifest: Manifest, closed: str = "") -> None:
        """Hold an instance to what is granted now. What was begun goes on, unless something is not granted any more."""
        before, order = port.order, self._order(port.order.port, manifest, closed)
        trusted = self._access.rules(order.driver).ca
        same = order.addresses == before.addresses and trusted == port.trusted
        if same and order == before:
            return
        port.order = order
        if same and {rule for rule in before.rules if not rule.refused} <= set(order.rules):
            self._send(encode(AmendPort(order.port, order.rules)), 0)
            return
        port.trust(trusted)
        self._send(encode(ClosePort(order.port)), 0)
        self._send(encode(order), order.port)

    def _order(self, number: int, manifest: Manifest, closed: str) -> OpenPort:
        driver = manifest.plugin.id
        granted = self._access.rules(driver)
        rules = granted_rules(manifest, granted, closed)
        return OpenPort(number, driver, rules, granted.addresses, ca=bool(granted.ca))

    def pass_on(self, port: EgressPort) -> None:
        """Send the broker a stream that waits at ``port``; one that is being started gets it when it serves."""
        if self._serving:
            self._send(encode(OpenLine(port.order.port)), port.order.port, line=True)

    def close_port(self, port: EgressPort) -> None:
        """Close a port; once is enough."""
        if self._ports.pop(port.order.port, None) is not None:
            self._send(encode(ClosePort(port.order.port)), 0)

    async def secrets(self) -> list[SecretInfo]:
        """Ask the broker which keys there are and which can be used.

        Raises:
            Unavailable: it does not answer.
        """
        if not self._access.secrets:
            return []
        if self._broker is None and self._restart is None:
            self._start()
        if self._broker is None:
            raise Unavailable("the egress broker is being started again; try again in a moment")
        number = self._next_port
        self._next_port += 1
        future: asyncio.Future[list[SecretInfo]] = self._loop.create_future()
        self._asked[number] = future
        try:
            await self._loop.sock_sendall(self._broker.keeping, encode(ListSecrets(number)))
            return await asyncio.wait_for(future, ANSWER_S)
        except (TimeoutError, OSError):
            raise Unavailable("the egress broker does not say which keys there are") from None
        finally:
            self._asked.pop(number, None)

    async def close(self) -> None:
        """Stop the broker, and wait until its keeper is gone: its end is a signal, which needs the loop to be there."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        for port in list(self._ports.values()):
            port.close()
        keeper = os.dup(self._broker.pidfd) if self._broker is not None else -1
        self._detach()
        if keeper >= 0:
            gone = asyncio.Event()
            self._loop.add_reader(keeper, gone.set)
            try:
                await asyncio.wait_for(gone.wait(), STOP_S)
            except TimeoutError:
                signal.pidfd_send_signal(keeper, signal.SIGKILL)
                await gone.wait()
            self._loop.remove_reader(keeper)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, keeper, os.WEXITED)  # noqa: ASYNC222 - it is gone: this only reaps it
            os.close(keeper)

    # ---- the broker's life -------------------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            broker = start_broker({})
        except OSError as error:
            raise Unavailable(f"the egress broker cannot be started: {error}") from None
        self._attach(broker)

    def _attach(self, broker: Broker) -> None:
        self._broker = broker
        for one in (broker.keeping, broker.control):
            one.setblocking(False)
        self._audit.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._loop.add_reader(broker.pidfd, self._keeper_ended)
        self._loop.add_reader(broker.keeping, self._keeper_spoke)
        self._loop.add_reader(broker.control, self._server_spoke)
        with contextlib.suppress(OSError):  # it is gone already, which its pidfd tells
            broker.keeping.send(encode(self._settings(self._access)))

    def _settings(self, access: Access) -> Settings:
        sources = {name: Source(one.environment, one.file, one.keyring) for name, one in access.secrets.items()}
        places = {place for rules in access.drivers.values() for place in rules.network}
        ports = tuple(sorted({int(place.rpartition(":")[2]) for place in places}))
        return Settings(sources, ports, str(self._audit))

    def _detach(self) -> None:
        broker, self._broker = self._broker, None
        self._serving = False
        self._queue.clear()
        if broker is not None:
            self._loop.remove_reader(broker.pidfd)
            self._loop.remove_reader(broker.keeping)
            self._loop.remove_reader(broker.control)
            self._loop.remove_writer(broker.control)
            broker.close()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(Unavailable("the egress broker ended"))

    def _keeper_ended(self) -> None:
        if self._broker is None:
            return
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._broker.pidfd, os.WEXITED | os.WNOHANG)
        self._detach()
        if self._closing:
            return
        log.warning(
            "the egress broker ended and starts again in %.1f s; keys from the environment are lost until the kernel "
            "is started again",
            self._delay_s,
        )
        self._restart = self._loop.call_later(self._delay_s, self._start_again)
        self._delay_s = min(2 * self._delay_s, MOST_DELAY_S)

    def _start_again(self) -> None:
        self._restart = None
        try:
            self._start()
        except ByenatosError as error:
            log.warning("%s", error.message)
            self._restart = self._loop.call_later(self._delay_s, self._start_again)
            self._delay_s = min(2 * self._delay_s, MOST_DELAY_S)

    # ---- what it says ------------------------------------------------------------------------------------------

    def _keeper_spoke(self) -> None:
        assert self._broker is not None
        packet = self._receive(self._broker.keeping)
        if not packet:
            return
        try:
            message = decode_from_keeper(packet)
        except DecodeError:
            self._distrust()
            return
        if isinstance(message, Ended):
            self._serving = False
            log.warning("the egress broker's server %s; the next starts in %.2f s", message.reason, message.delay_s)
        else:
            self._listed(message)

    def _listed(self, message: Listed) -> None:
        future = self._asked.get(message.number)
        if future is not None and not future.done():
            future.set_result([SecretInfo(one.name, one.source, one.problem) for one in message.secrets])

    def _server_spoke(self) -> None:
        assert self._broker is not None
        packet = self._receive(self._broker.control)
        if not packet:
            return
        try:
            message: Serving = decode_from_server(packet)
        except DecodeError:
            self._distrust()
            return
        log.info("the egress broker serves (pid %d)", message.pid)
        self._queue.clear()
        self._serving = True
        for number, port in self._ports.items():
            self._send(encode(port.order), number)
            for _ in range(len(port.waiting)):
                self.pass_on(port)

    def _receive(self, from_whom: socket.socket) -> bytes:
        try:
            packet = from_whom.recv(MAX_PACKET)
        except BlockingIOError:
            return b""
        except OSError:
            packet = b""
        if not packet:  # it hung up; its pidfd tells when it is gone
            self._loop.remove_reader(from_whom)
        return packet

    def _distrust(self) -> None:
        """What cannot be read was sent by nobody that keys should be left with."""
        assert self._broker is not None
        log.error("the egress broker sent what cannot be read: it is stopped")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._broker.pidfd, signal.SIGKILL)

    # ---- what it is told ---------------------------------------------------------------------------------------

    def _send(self, packet: bytes, port: int, *, line: bool = False) -> None:
        """Queue an order; one that opens ``port`` or a ``line`` of it takes descriptors along while that is open."""
        self._queue.append((packet, port, line))
        self._flush()

    def _flush(self) -> None:
        if self._broker is None:  # all ports are opened when there is another
            self._queue.clear()
            return
        control = self._broker.control
        while self._queue:
            packet, number, line = self._queue[0]
            port = self._ports.get(number)
            if number and (port is None or (line and not port.waiting)):  # closed before it was opened
                self._queue.popleft()
                continue
            try:
                descriptors = port.descriptors if port is not None else []
                socket.send_fds(control, [packet], [port.waiting[0].fileno()] if port and line else descriptors)
            except BlockingIOError:
                self._loop.add_writer(control, self._flush)
                return
            except OSError:
                self._queue.clear()
                break
            self._queue.popleft()
            if port is not None and line:
                port.waiting.popleft().close()
        self._loop.remove_writer(control)
