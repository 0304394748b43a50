"""The keeper: holds the keys, starts the server, starts it again when it ends.

::

    kernel ──keeping──> keeper (keys; parses nothing of the outside, opens no connection)
       │                  │  fork; keys by name
       └──control────────> server (TLS, HTTP, drivers' connections; confined; restarted when it ends)

Two processes, because one would have to be trusted with everything: the server reads what hostile drivers and strange
vendors send, so it may be lost; the keys of the environment exist once, so their holder may not. And the kernel has
them neither in its environment nor in its memory: whoever starts the keeper hands them over on a pipe, and the kernel
is the program that is executed *afterwards*, with an environment that they are gone from.

A server that ends is replaced after a pause that grows while they end quickly. The kernel keeps the ports' descriptors
and opens all of them anew when the new one says that it serves; what was on its way over the old one has failed.

If the keeper is killed, the kernel starts another, which has no keys of the environment: those that were named there
are missing until the kernel is started again, and say so.
"""

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

import msgspec

from byenatos_sandbox.broker import confinement
from byenatos_sandbox.broker.messages import MAX_PACKET, Ended, Listed, ListSecrets, Settings, decode_to_keeper, encode
from byenatos_sandbox.broker.server import serve
from byenatos_sandbox.broker.sources import SecretError, Sources
from byenatos_sandbox.broker.vault import Found, Missing

__all__ = ["Keeper", "main"]

FIRST_DELAY_S, MOST_DELAY_S, LONG_ENOUGH_S = 0.05, 5.0, 30.0
MAX_ENVIRONMENT = 1 << 20


class Keeper:
    """Answers the kernel and the server, one thing at a time."""

    def __init__(self, keeping: socket.socket, control: socket.socket, environment: dict[str, str]) -> None:
        self._keeping = keeping
        self._control = control
        self._sources = Sources(environment)
        self._settings: Settings | None = None
        self._server: socket.socket | None = None
        self._pid = 0
        self._pidfd = -1
        self._started_at = 0.0
        self._delay_s = FIRST_DELAY_S
        self._start_at: float | None = None

    def run(self) -> None:
        """Work until the kernel hangs up."""
        while True:
            waiting: list[socket.socket | int] = [self._keeping]
            waiting += [self._pidfd] if self._pidfd >= 0 else []
            waiting += [self._server] if self._server is not None else []
            timeout = None if self._start_at is None else max(0.0, self._start_at - time.monotonic())
            ready, _, _ = select.select(waiting, [], [], timeout)
            if self._keeping in ready and not self._told():
                return
            if self._server is not None and self._server in ready:
                self._asked(self._server)
            if self._pidfd >= 0 and self._pidfd in ready:
                self._server_ended()
            if self._start_at is not None and time.monotonic() >= self._start_at:
                self._start()

    # ---- the kernel --------------------------------------------------------------------------------------------

    def _told(self) -> bool:
        packet = self._keeping.recv(MAX_PACKET)
        if not packet:
            return False
        try:
            message = decode_to_keeper(packet)
        except msgspec.MsgspecError as error:
            sys.stderr.write(f"broker: a message of the kernel's is not understood: {error}\n")
            return False
        if isinstance(message, ListSecrets):
            self._tell(Listed(message.number, self._sources.states()))
        else:
            self._configure(message)
        return True

    def _tell(self, message: Listed | Ended) -> None:
        with suppress(OSError):  # a kernel that does not listen hears of it by the next message
            self._keeping.send(encode(message), socket.MSG_DONTWAIT)

    def _configure(self, settings: Settings) -> None:
        before, self._settings = self._settings, settings
        self._sources.replace(settings.sources)
        if before is None:
            self._start()
        elif before.ports != settings.ports and self._pidfd >= 0:
            self._delay_s = FIRST_DELAY_S
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # the next one is confined to these

    # ---- the server --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        assert self._settings is not None
        self._start_at = None
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._sources = Sources({})
                ours.close()
                self._keeping.close()
                confinement.hide(keeper)
                serve(self._control, its, self._settings)
            except OSError as error:
                sys.stderr.write(f"broker: the server cannot start: {error}\n")
            finally:
                os._exit(status)
        its.close()
        self._server = ours
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._started_at = time.monotonic()

    def _server_ended(self) -> None:
        os.close(self._pidfd)
        self._pidfd = -1
        _, status = os.waitpid(self._pid, 0)
        if self._server is not None:
            self._server.close()
            self._server = None
        code = os.waitstatus_to_exitcode(status)
        reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        if time.monotonic() - self._started_at > LONG_ENOUGH_S:
            self._delay_s = FIRST_DELAY_S
        self._start_at = time.monotonic() + self._delay_s
        self._tell(Ended(reason, self._delay_s))
        self._delay_s = min(2 * self._delay_s, MOST_DELAY_S)

    def _asked(self, server: socket.socket) -> None:
        try:
            name = server.recv(256).decode("utf-8", "replace")
            if name:
                server.send(msgspec.msgpack.encode(self._answer(name)))
        except OSError:
            return  # it ends; its pidfd says so

    def _answer(self, name: str) -> Found | Missing:
        try:
            return Found(name, self._sources.read(name))
        except SecretError as error:
            return Missing(name, str(error))


def main(arguments: list[str]) -> int:
    """Run the keeper: ``PARENT KEEPING CONTROL ENVIRONMENT``, three of them inherited descriptors."""
    parent, keeping, control, environment = map(int, arguments)
    try:
        confinement.hide(parent)
    except ProcessLookupError:
        return 0  # the kernel is gone: there is nothing to keep, and nobody to tell
    variables = _environment(environment)
    _close_others({keeping, control})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a kernel that is told to stop still finishes its answers
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for descriptor in (keeping, control):
        os.set_inheritable(descriptor, False)
    Keeper(socket.socket(fileno=keeping), socket.socket(fileno=control), variables).run()
    return 0


def _environment(descriptor: int) -> dict[str, str]:
    """Read the variables with keys off the pipe on which they were handed over."""
    with os.fdopen(descriptor, "rb") as pipe:
        return msgspec.msgpack.decode(pipe.read(MAX_ENVIRONMENT), type=dict[str, str])


def _close_others(keep: set[int]) -> None:
    for descriptor in [int(one) for one in os.listdir("/proc/self/fd")]:  # noqa: PTH208 - names, not paths
        if descriptor > 2 and descriptor not in keep:
            with suppress(OSError):  # the descriptor of the listing itself
                os.close(descriptor)
