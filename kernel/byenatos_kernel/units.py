"""A unit: the promise to keep one model loaded, through as many instances as that takes.

Back-off after a crash: 0.5 s, doubled with each further crash inside the window, at most 30 s, and up to half as long
again at random, so that units that died together do not return together. Five crashes inside five minutes and the unit
is quarantined: what crashes that often will crash again, and each attempt costs the machine a model load. A success
does not clear the record, time does: a model that loads and dies at its first request would otherwise restart for ever.
The first crash of a process that was forked from a template costs no load, and is made good at once.
"""

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Callable

from byenatos_kernel.instances import Instance
from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.models import ModelEntry, PluginEntry
from byenatos_kernel.streams import Stream
from byenatos_sandbox import Grant
from byenatos_sdk.protocol.errors import ByenatosError, Overloaded, Unavailable
from byenatos_sdk.protocol.messages import InstanceState

__all__ = ["CRASH_LIMIT", "CRASH_WINDOW_S", "KEPT", "PRELOADED", "STANDS_IN", "Unit"]

CRASH_LIMIT = 5
CRASH_WINDOW_S = 300.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
WAITING_LIMIT = 1024
PRELOADED = "(preloaded)"
"""What stands among a unit's slots while it is kept without one, for whoever will want it."""
KEPT = "(kept by swap "
"""How the names begin that stand among a unit's slots while it is kept for nothing but a way back."""
STANDS_IN = "(stands in for "
"""How the names begin that stand among a unit's slots while it serves one that is not bound to it."""


class Unit:
    """One loaded model.

    ``supervised`` units are restarted after a crash; one that has never been ready is not, because whoever asked for it
    is waiting for the answer. ``slots`` are bound to it; ``pinned`` keeps it loaded without one. ``cold`` ones are not
    forked from a template: it has failed. In the ``background`` its first process loads with low priority.
    """

    def __init__(self, model: ModelEntry, plugin: PluginEntry, grant: Grant, *, supervised: bool) -> None:
        self.model = model
        self.plugin = plugin
        self.grant = grant
        self.cold = False
        self.background = False
        self.sockets: Callable[[], list[socket.socket]] | None = None
        """Makes what each of its processes is handed: for fronts, which are no models."""
        self._file = model.file
        self.supervised = supervised
        self.pinned = False
        self.leaving = False
        self.slots: set[str] = set()
        self.instance: Instance | None = None
        self.waiting: deque[Stream] = deque()
        self.crashes: deque[float] = deque()
        self.restarts = 0
        self.restart_at = 0.0
        self.last_failure = ""
        self.restart: asyncio.TimerHandle | None = None
        self.error: ByenatosError | None = None
        self.ready_waiters: list[asyncio.Future[Instance]] = []
        self.gone = asyncio.Event()

    @property
    def ready(self) -> Instance | None:
        """The instance that takes new streams now, if there is one."""
        instance = self.instance
        return instance if instance is not None and instance.serving else None

    @property
    def starting(self) -> bool:
        """Whether an instance is on its way."""
        return self.instance is not None and self.instance.state is InstanceState.STARTING

    @property
    def dead(self) -> bool:
        """Whether nothing will ever come of this unit any more."""
        return self.error is not None

    @property
    def wanted(self) -> bool:
        """Whether a slot or an operator still asks for it."""
        return self.pinned or bool(self.slots)

    @property
    def busy(self) -> bool:
        """Whether anything is being answered."""
        return self.instance is not None and bool(self.instance.streams)

    @property
    def spare(self) -> bool:
        """Whether it is kept only as the way back of a swap: its room is free for whoever needs it."""
        return not self.pinned and bool(self.slots) and all(name.startswith(KEPT) for name in self.slots)

    @property
    def bound(self) -> bool:
        """Whether it serves a slot, or an operator asked for it: reservations do not count."""
        return self.pinned or any(not name.startswith("(") for name in self.slots)

    def file(self) -> ModelFile | None:
        """The model's open file: the one that the unit was loaded with, as long as nobody has written to it.

        Raises:
            Unavailable: it was changed, and what is there now is not checked yet.
        """
        if self._file is not None and not self._file.intact:
            self._file = self.model.file or self._file
            if not self._file.intact:
                raise Unavailable(
                    f"{self._file.path}, or a file that belongs to it, was changed; it must be checked first",
                    retry_after_s=1.0,
                )
        return self._file

    def back_off(self, now: float, *, warm: bool = False) -> float | None:
        """Record a crash; return the delay in seconds until the next start, or ``None`` for quarantine.

        ``warm``: the next start takes milliseconds, and no load of the model.
        """
        self.crashes.append(now)
        while self.crashes[0] < now - CRASH_WINDOW_S:
            self.crashes.popleft()
        count = len(self.crashes)
        if count >= CRASH_LIMIT:
            return None
        if warm and count == 1:
            return 0.0
        delay = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** (count - 1))
        return min(BACKOFF_MOST_S, delay * random.uniform(1.0, 1.5))  # noqa: S311 - jitter, not a secret

    def wait(self, stream: Stream) -> None:
        """Keep a stream until an instance is ready.

        Raises:
            Overloaded: too many wait already.
        """
        if len(self.waiting) >= WAITING_LIMIT:
            raise Overloaded(f"{WAITING_LIMIT} requests already wait for {self.model.id}; try again later")
        self.waiting.append(stream)

    def leave(self, stream: Stream) -> None:
        """Take a stream out of the queue, if it is in it."""
        with contextlib.suppress(ValueError):
            self.waiting.remove(stream)

    async def until_ready(self) -> Instance:
        """Wait for a serving instance; raises the error that the unit died of."""
        if self.ready is not None:
            return self.ready
        if self.error is not None:
            raise self.error
        future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self.ready_waiters.append(future)
        return await future

    def announce_ready(self, instance: Instance) -> None:
        """Wake everyone in :meth:`until_ready`."""
        waiters, self.ready_waiters = self.ready_waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(instance)

    def die(self, error: ByenatosError) -> None:
        """Nothing will come of this unit: tell everyone in :meth:`until_ready`."""
        self.error = error
        waiters, self.ready_waiters = self.ready_waiters, []
        for future in waiters:
            if not future.done():
                future.set_exception(error)

    def unavailable(self, now: float) -> Unavailable:
        """Say why nothing can be served now, and when to try again."""
        if self.error is not None:
            return Unavailable(f"{self.model.id} is not running: {self.error.message}")
        if self.restart is not None:
            wait_s = max(self.restart_at - now, 0.1)
            return Unavailable(
                f"{self.model.id} {self.last_failure}; it starts again in {wait_s:.1f} s", retry_after_s=wait_s
            )
        return Unavailable(f"{self.model.id} is being stopped")
