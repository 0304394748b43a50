"""The two ends of an instance's way to the egress broker: one goes into its sandbox, the other stays here."""

import errno
import logging
import os
import socket
from collections import deque
from typing import Protocol

from byenatos_sandbox.broker import OpenPort
from byenatos_sandbox.channel import refuse_descriptors

__all__ = ["EgressPort", "PortKeeper"]

MOST_WAITING = 64

log = logging.getLogger("byenatos")


class PortKeeper(Protocol):
    """Who tells the broker of ports."""

    def pass_on(self, port: "EgressPort") -> None:
        """Send the broker a stream that waits at ``port``."""

    def close_port(self, port: "EgressPort") -> None:
        """Close a port; once is enough."""


class EgressPort:
    """One instance's port. ``driver_end`` goes into its sandbox; close the port when the instance is gone."""

    def __init__(self, keeper: PortKeeper, order: OpenPort) -> None:
        self.driver_end, self.broker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        refuse_descriptors(self.broker_end)  # before the broker has it, which may be a while
        self.order = order
        self.trusted = ""
        self.waiting: deque[socket.socket] = deque()
        self._keeper = keeper
        self._ca = -1

    def trust(self, path: str) -> None:
        """Open the file of certificates that its vendors are trusted by; empty: those that the system trusts."""
        self._forget_certificates()
        self.trusted = path
        if path:
            self._ca = _certificates(self.order.driver, path)

    def _forget_certificates(self) -> None:
        if self._ca >= 0:
            os.close(self._ca)
            self._ca = -1

    @property
    def descriptors(self) -> list[int]:
        """What travels with :attr:`order`."""
        return [self.broker_end.fileno(), *([self._ca] if self.order.ca else [])]

    def dial(self) -> socket.socket:
        """Return a new stream to the broker, as a driver with an egress socket is handed.

        Raises:
            OSError: none can be made, the port is closed, or too many wait for a broker that is being started.
        """
        if self.broker_end.fileno() < 0:
            raise OSError(errno.ECONNREFUSED, "the port is closed")
        if len(self.waiting) >= MOST_WAITING:
            raise OSError(errno.EAGAIN, f"{MOST_WAITING} connections wait for the egress broker already")
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        refuse_descriptors(its)
        self.waiting.append(its)
        self._keeper.pass_on(self)
        return ours

    def launched(self) -> None:
        """The sandbox has its end, or there is none that wants it."""
        self.driver_end.close()

    def close(self) -> None:
        """Have the broker break off what goes on."""
        self.driver_end.close()
        self._keeper.close_port(self)
        self.broker_end.close()
        while self.waiting:
            self.waiting.popleft().close()
        self._forget_certificates()


def _certificates(driver: str, path: str) -> int:
    """Open the file of certificates that a driver's vendors are trusted by; without it nothing is trusted."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.warning("drivers.%s.ca: %s cannot be read: %s; no host is trusted for it", driver, path, error.strerror)
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
