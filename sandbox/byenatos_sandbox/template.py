"""The template process: a warm interpreter with one thread, nothing secret and nothing foreign, to make sandboxes from.

It is started as ``python -c`` (see ``templates.py``) with the descriptor of its control socket and the modules to
import beforehand. For each order it clones one process, hands it the three standard streams and the setup socket that
came with the order, puts it into its control group, and answers with the process id. What a sandbox is told, its
configuration and its token among it, goes through the setup socket and never through the template, whose memory later
sandboxes share.

A template must have one thread, because a fork copies only the one that forks, and the locks of the others as they are.
So what starts threads is not imported here, a vendor's library least of all: it would be unreviewed code outside a
sandbox.
"""

import importlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from byenatos_sandbox import child, descriptors, memory, namespaces, seccomp
from byenatos_sandbox.births import Births
from byenatos_sandbox.bpf import TELL
from byenatos_sandbox.cgroup import Group
from byenatos_sandbox.linux import prctl

__all__ = ["Answer", "Order", "main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_LARGEST: Final = 4096
_REHEARSALS: Final = 10


class Order(Struct, frozen=True, array_like=True):
    """Make one process in these ``namespaces`` and this ``group``; ``once``: and end; ``plain``: be it, no clone."""

    namespaces: tuple[str, ...]
    once: bool = True
    plain: bool = False
    group: Group | None = None


class Answer(Struct, frozen=True, array_like=True):
    """The process id of what was made (0: nothing), and what went wrong."""

    pid: int
    failure: str = ""


def main(arguments: list[str]) -> None:
    """Serve orders on the control socket until it closes, or once.

    ``arguments``: the numbers of that socket and of the page for what is cloned (``births.py``), modules to import.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_PR_SET_DUMPABLE, 0)
    control, page = (int(number) for number in arguments[:2])
    births = Births(page)
    descriptors.close_all_but([0, 1, 2, control])
    orders = socket.socket(fileno=control)
    for name in arguments[2:]:
        importlib.import_module(name)
    kept_out = [name for name in sys.modules if sys.modules[name] is None]  # by `templates.py`
    for name in kept_out:
        del sys.modules[name]  # a driver may want it
    for writable_code in (False, True):
        seccomp.program(1, writable_code=writable_code, fatal=TELL)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(f"expected one thread in a template, found {threads} after importing {arguments[2:]}")
    _rehearse()
    memory.settle()
    place = births.place()
    while _serve(orders, births, place):
        pass


def _rehearse() -> None:
    """Run what every driver's process begins with, an event loop.

    What the interpreter keeps for the next time, and writes into code that runs for the first times, is then there, and
    no page that each process must have copied for it.
    """
    asyncio = sys.modules.get("asyncio")  # unless nothing was imported that needs one
    if asyncio is not None:
        for _ in range(_REHEARSALS):
            asyncio.run(asyncio.sleep(0))


def _serve(control: socket.socket, births: Births, place: int) -> bool:
    data, received = descriptors.receive(control, _LARGEST)
    if not data:
        return False
    order = msgspec.msgpack.decode(data, type=Order)
    user, group = os.geteuid(), os.getegid()
    setup, *streams = received
    pid = 0
    births.forget()
    try:
        if order.group is not None:
            order.group.make()
        if order.plain:
            _take_in(order, os.getpid())
            _become(control, order)
        else:
            pid = namespaces.clone(order.namespaces, place)
        if pid == 0:
            child.live(setup, streams, user, group, order.group)
        _take_in(order, pid)  # takes milliseconds, while the new process is at its other layers
    except OSError as error:
        if pid:
            os.kill(pid, signal.SIGKILL)
        answer = Answer(pid, str(error))
    else:
        answer = Answer(pid)
    for descriptor in received:
        os.close(descriptor)
    try:
        control.send(msgspec.msgpack.encode(answer))
    except OSError:
        return False  # whoever ordered is gone
    return not order.once


def _become(control: socket.socket, order: Order) -> None:
    """Be the sandbox oneself, where nothing can be cloned; nobody is process 1 of a namespace then."""
    namespaces.unshare(order.namespaces)
    control.send(msgspec.msgpack.encode(Answer(os.getpid())))


def _take_in(order: Order, pid: int) -> None:
    if order.group is not None and not order.group.entered:
        order.group.take_in(pid)
