"""What runs in a *sandboxed* template: what is slow is done in it, once, and instances are forked from it.

A library that takes a third of a second to import would cost that at every start, and must not be imported in a
template outside of a sandbox, where its code would run unreviewed. A model takes longer still to load, and its copy in
each process the memory as well, where forks share what they do not change. So a sandbox is made as for any driver, with
one difference: its filter lets it fork and lets its forks add a filter of their own. Each instance adds the one that
every driver has. Instances share what one driver has anyway, its namespaces, its root, its limits and, with the
template, its address layout: they are one trust domain. Each has a scratch folder, a channel and descriptors of its
own. When the template ends, they end: it is process 1 of their namespace.

One fork is kept ahead of the orders. It has run an event loop once, as every driver's process begins with one: what a
process writes to first, the system must copy for it, and that takes longer than the fork itself.

The library may have changed this process at will, and with it every instance. What is left to them is what one driver
has anyway: the namespaces, the root, Landlock, the limits and this process's filter are in force since before the
import. The one thing more is that they can fork; how often, the limits say, and all of it ends with this process. The
launching process believes neither: which process an instance is, the system says, and it looks at each from outside.
"""

import asyncio
import importlib
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import msgspec
from msgspec import Struct

from byenatos_sandbox import child, descriptors, memory, seccomp
from byenatos_sandbox.root import SCRATCH
from byenatos_sandbox.scratch import remove
from byenatos_sandbox.spec import EGRESS

__all__ = ["READY", "Preload", "serve"]

READY: Final = b"ready"
_LARGEST = 64
_ORDER: Final = b"order"
_AHEAD_S = 0.05
"""An instance has the processors for itself first, then the next fork is made."""


class Preload(Struct, frozen=True):
    """What a sandboxed template does before it is forked from.

    It imports ``modules``, found in ``paths`` before anywhere else, then calls ``entry`` (``module:function``) with
    ``argument``, where there is one.
    """

    modules: tuple[str, ...]
    paths: tuple[str, ...] = ()
    entry: str = ""
    argument: bytes = b""


def serve(_channel: int, config: bytes) -> None:
    """Do what ``config`` (a :class:`Preload`) says, then fork an instance for each message on descriptor 4.

    A message comes with four descriptors: setup socket, stdin, stdout, stderr. Returns when that socket closes.
    """
    control = socket.socket(fileno=EGRESS)
    preload = msgspec.msgpack.decode(config, type=Preload)
    sys.path[:0] = preload.paths
    for name in preload.modules:
        importlib.import_module(name)
    if preload.entry:
        module, _, function = preload.entry.partition(":")
        getattr(importlib.import_module(module), function)(preload.argument)
    for writable_code in (False, True):
        seccomp.program(1, writable_code=writable_code)  # takes milliseconds, which instances then save
    memory.settle()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here asks how an instance ended: they are reaped at once
    control.send(READY)
    with selectors.DefaultSelector() as waiting:
        _Forks(control, waiting).make()


class _Forks:
    """Makes instances. Each fork tells by the end of a pipe, the other end of which only it holds, that it is gone."""

    def __init__(self, control: socket.socket, waiting: selectors.BaseSelector) -> None:
        self._control = control
        self._waiting = waiting
        self._ahead: tuple[socket.socket, Path] | None = None
        waiting.register(control, selectors.EVENT_READ)

    def make(self) -> None:
        """Make one for each order until there can be none any more."""
        while True:
            ready = self._waiting.select(_AHEAD_S if self._ahead is None else None)
            if not ready:
                with suppress(OSError):  # as many as may be are there: the next order may find room
                    self._ahead = self._fork(ahead=True)
            for key, _ in ready:
                if key.data is not None:
                    self._tidy(key)
                elif not self._order():
                    return

    def _order(self) -> bool:
        data, received = descriptors.receive(self._control, _LARGEST)
        if not data:
            return False
        with suppress(OSError):  # there can be no more: this order is told by the end of its setup socket
            self._hand_over(received)
        descriptors.close_all(received)
        return True

    def _hand_over(self, received: list[int]) -> None:
        if self._ahead is not None:
            (order, _), self._ahead = self._ahead, None
            with order, suppress(OSError):  # it was killed meanwhile
                descriptors.send(order, _ORDER, received)
                return
        order, _ = self._fork(ahead=False)
        with order:
            descriptors.send(order, _ORDER, received)

    def _fork(self, *, ahead: bool) -> tuple[socket.socket, Path]:
        """Make a fork that waits for its order; return our end of the socket that it waits on, and its scratch folder.

        Raises:
            OSError: it cannot be made.
        """
        order, its_order = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gone, alive = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            order.close()
            its_order.close()
            descriptors.close_all([gone, alive])
            raise
        if pid == 0:
            _wait(its_order, alive, ahead=ahead)
        its_order.close()
        os.close(alive)
        folder = _folder(pid)
        self._waiting.register(gone, selectors.EVENT_READ, folder)
        return order, folder

    def _tidy(self, key: selectors.SelectorKey) -> None:
        """A fork is gone."""
        self._waiting.unregister(key.fileobj)
        os.close(key.fd)
        if self._ahead is not None and self._ahead[1] == key.data:
            self._ahead[0].close()
            self._ahead = None
        with suppress(OSError):
            remove(key.data)


def _folder(pid: int) -> Path:
    return Path(SCRATCH, f"instance-{pid}")


def _wait(order: socket.socket, alive: int, *, ahead: bool) -> NoReturn:
    """Be a fork: wait for the order, then be an instance. Nothing may return into the template."""
    try:
        descriptors.close_all_but([0, 1, 2, order.fileno(), alive])
        folder = _folder(os.getpid())
        folder.mkdir(mode=0o700)
        if ahead:
            asyncio.run(asyncio.sleep(0))
        data, received = descriptors.receive(order, _LARGEST)
        if data:
            setup, *streams = received
            child.join(setup, streams, str(folder), alive=alive)
    finally:
        os._exit(child.CANNOT_START)
