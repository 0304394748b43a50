"""The launching side of sandboxed templates (``nursery.py``): what orders instances from them."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from byenatos_sandbox import descriptors
from byenatos_sandbox.attestation import own_memory_mib, thread_count
from byenatos_sandbox.channel import refuse_descriptors
from byenatos_sandbox.nursery import READY
from byenatos_sandbox.process import Process

__all__ = ["Nursery"]

_ORDER = b"fork"


class Nursery:
    """A sandboxed template. ``process`` is its process; ``control`` our end of the socket behind its descriptor 4.

    ``scratch_mib`` is the size of the folder in which its instances have theirs. Orders wait until it is
    ready. Once it has ended, by itself or by :meth:`close`, it takes no more.
    """

    def __init__(self, process: Process, control: socket.socket, scratch_mib: int) -> None:
        self.process = process
        self.scratch_mib = scratch_mib
        self._control = control
        self._ready = False
        self._waiting: deque[list[int]] = deque()
        self._loop = asyncio.get_running_loop()
        control.setblocking(False)
        refuse_descriptors(control)
        self._loop.add_reader(control, self._heard)

    @property
    def alive(self) -> bool:
        """Whether it can be ordered from."""
        return self._control.fileno() >= 0

    @property
    def memory_mib(self) -> int:
        """How much memory of its own it holds now."""
        return own_memory_mib(self.process.pid)

    def order(self, given: Sequence[int]) -> None:
        """Have an instance made with the ``given`` descriptors (setup socket, stdin, stdout, stderr).

        The instance speaks for itself on its setup socket; if the nursery ends first, that socket closes.

        Raises:
            OSError: the order cannot be sent.
        """
        if self._ready or not self.alive:
            descriptors.send(self._control, _ORDER, given)
        else:
            copies: list[int] = []
            self._waiting.append(copies)
            try:
                for one in given:
                    copies.append(os.dup(one))  # noqa: PERF401 - what there is must be closed if one fails
            except OSError:
                self._waiting.remove(copies)
                descriptors.close_all(copies)
                raise

    def close(self) -> None:
        """End it, and with it all its instances; idempotent."""
        self._hang_up()
        self.process.kill()

    def _heard(self) -> None:
        try:
            data = self._control.recv(len(READY))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        threads = thread_count(self.process.pid)
        if data and (data != READY or self._ready):
            self.process.condemn("was killed: it said what no template says")
        elif data and threads != 1:
            self.process.condemn(f"was ended: it has {threads} threads, and a fork copies only one")
        if not data or data != READY or self._ready or threads != 1:
            self._hang_up()
            return
        self._ready = True
        while self._waiting:
            given = self._waiting.popleft()
            with suppress(OSError):
                descriptors.send(self._control, _ORDER, given)
            descriptors.close_all(given)

    def _hang_up(self) -> None:
        if self.alive:
            self._loop.remove_reader(self._control)
            self._control.close()
        while self._waiting:
            descriptors.close_all(self._waiting.popleft())
