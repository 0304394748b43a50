"""What runs in a *sandboxed* template: what is slow is done in it, once, and instances are forked from it.

A library that takes a third of a second to import would cost that at every start, and must not be imported in a
template outside of a sandbox, where its code would run unreviewed. A model takes longer still to load, and its copy in
each process the memory as well, where forks share what they do not change. So a sandbox is made as for any driver, with
one difference: its filter lets it fork and lets its forks add a filter of their own. Each instance adds the one that
every driver has. Instances share what one driver has anyway, its namespaces, its root, its limits and, with the
template, its address layout: they are one trust domain. Each has a scratch folder, a channel and descriptors of its
own. When the template ends, they end: it is process 1 of their namespace.

The library may have changed this process at will, and with it every instance. What is left to them is what one driver
has anyway: the namespaces, the root, Landlock, the limits and this process's filter are in force since before the
import. The one thing more is that they can fork; how often, the limits say, and all of it ends with this process. The
launching process believes neither: which process an instance is, the system says, and it looks at each from outside.
"""

import gc
import importlib
import os
import selectors
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from byenatos_sandbox import child, descriptors, seccomp
from byenatos_sandbox.root import SCRATCH
from byenatos_sandbox.spec import EGRESS

__all__ = ["READY", "Preload", "serve"]

READY: Final = b"ready"
_LARGEST = 64


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
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here asks how an instance ended: they are reaped at once
    control.send(READY)
    with selectors.DefaultSelector() as waiting:
        waiting.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data is not None:
                    _tidy(waiting, key)
                elif not _fork(control, waiting):
                    return


def _fork(control: socket.socket, waiting: selectors.BaseSelector) -> bool:
    data, received = descriptors.receive(control, _LARGEST)
    if not data:
        return False
    ours, its = os.pipe()
    try:
        pid = os.fork()
    except OSError:  # as many as may be are there: this one is told by the end of its setup socket
        descriptors.close_all([ours, its, *received])
        return True
    if pid == 0:
        folder = Path(SCRATCH, f"instance-{os.getpid()}")
        folder.mkdir(mode=0o700)
        setup, *streams = received
        child.join(setup, streams, str(folder), alive=its)
    waiting.register(ours, selectors.EVENT_READ, Path(SCRATCH, f"instance-{pid}"))
    descriptors.close_all([its, *received])
    return True


def _tidy(waiting: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """An instance, the only one that held the other end of this pipe, is gone."""
    waiting.unregister(key.fileobj)
    os.close(key.fd)
    with suppress(OSError):
        shutil.rmtree(key.data)
