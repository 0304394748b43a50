"""What becomes of the calls that are told of a process: an attack is its end, a way to the broker is answered."""

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress

from byenatos_sandbox.attestation import process_of
from byenatos_sandbox.outlet import Outlet
from byenatos_sandbox.tripwire import Call, Listener

__all__ = ["Guard"]


class Guard:
    """Listens to the calls of one process and of those that are forked from it as a template.

    ``outlet`` is the process's own, if it is granted one; ``outlets`` are those of the forked ones, by their numbers.
    """

    def __init__(self, outlet: Outlet | None, *, egress_socket: bool) -> None:
        self.outlet = outlet
        self.outlets: dict[int, Outlet] = {}
        self._egress_socket = egress_socket
        self._listener: Listener | None = None
        self._loop = asyncio.get_running_loop()

    def watch(self, descriptor: int, condemn: Callable[[str], None]) -> None:
        """Listen at ``descriptor``, the first one only; another is closed. ``condemn`` is told of an attack."""
        if self._listener is None:
            with suppress(OSError):  # nothing that could be watched
                self._loop.add_reader(descriptor, self._told, condemn)
                self._listener = Listener(descriptor)
                return
        os.close(descriptor)

    def close(self) -> None:
        """Listen no more; idempotent."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _told(self, condemn: Callable[[str], None]) -> None:
        """A call was told that only an attack makes, or one for the egress socket; or the process is gone."""
        assert self._listener is not None
        if self._listener.is_hung_up():
            self.close()
            return
        try:
            call = self._listener.receive()
        except OSError:  # interrupted meanwhile, and so not carried out
            if not self._egress_socket:
                self._trip(condemn, "what cannot be told any more")
            return
        if call.name == "socket" and self._egress_socket:
            self._answer(self._listener, call)
        else:
            self._trip(condemn, call.describe())

    def _trip(self, condemn: Callable[[str], None], call: str) -> None:
        condemn(f"was killed: it called {call}, which no driver may")
        self.close()

    def _answer(self, listener: Listener, call: Call) -> None:
        """Have whoever called answered: this process, or one that was forked from it as a template."""
        outlet = self.outlet or self.outlets.get(process_of(call.thread))
        if outlet is not None:
            outlet.answer(listener, call)
            return
        with suppress(OSError):  # it is gone
            listener.refuse(call, errno.EPERM)
