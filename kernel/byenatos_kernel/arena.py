"""The arena: memory that the kernel shares with one driver process, to take warm state out of it and put it in.

It is a memory file of the kernel's, mapped in the process before any foreign code runs; the process holds no descriptor
of it, so it can neither grow nor shrink it, nor map it again. The kernel never maps it: it copies by ``pread`` and
``pwrite``, so that nothing the process does to the memory can become a fault or a wrong address in the kernel. It
decides itself where a piece lies, in one of a few parts of equal size, and how long it may be; lengths that a driver
names are looked at, never believed. What was copied out is the kernel's own; what the process does to its memory
afterwards changes nothing.

Whoever waits for a part waits in line; when the process ends, they are told.
"""

import asyncio
import fcntl
import os
import weakref
from collections import deque

from byenatos_sdk.protocol.errors import DriverCrashed, InvalidRequest, Unavailable

__all__ = ["Arena", "Part"]

PARTS = 4
_ADD_SEALS = 1033
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW = 1, 2, 4


class Part:
    """One part of an arena, held by one transfer at a time."""

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size


class Arena:
    """The kernel's end. ``descriptor`` is handed to the sandbox that maps it.

    Raises:
        OSError: there is no memory for it.
    """

    def __init__(self, mib: int) -> None:
        self.size = mib << 20
        self.descriptor = os.memfd_create("byenatos-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._closing = weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, self.size)
        fcntl.fcntl(self.descriptor, _ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW | _SEAL_SEAL)
        self.part_bytes = each = self.size // PARTS
        self._free = [Part(number * each, each) for number in range(PARTS)]
        self._waiting: deque[asyncio.Future[Part]] = deque()
        self._closed = False

    @property
    def idle(self) -> int:
        """How many parts nobody has or waits for."""
        return len(self._free)

    def fill(self) -> None:
        """Take its pages now, for the kernel's account; takes milliseconds, call it in a thread.

        Raises:
            OSError: there is no memory for them.
        """
        os.posix_fallocate(self.descriptor, 0, self.size)

    async def take(self) -> Part:
        """Wait for a part; give it back in any case.

        Raises:
            DriverCrashed: the process is gone.
        """
        if self._closed:
            raise DriverCrashed("the process that this memory was shared with is gone")
        if self._free and not self._waiting:
            return self._free.pop()
        future: asyncio.Future[Part] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result())
            raise

    def give_back(self, part: Part) -> None:
        """Let the next one have it."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(part)
                return
        self._free.append(part)

    def read(self, part: Part, size: int) -> bytes:
        """Copy the first ``size`` bytes of a part out.

        Raises:
            InvalidRequest: that is more than the part has.
            Unavailable: the system cannot.
        """
        self._check(part, 0, size)
        try:
            data = os.pread(self.descriptor, size, part.offset)
        except OSError as error:
            raise Unavailable(f"an arena cannot be read: {error.strerror}") from None
        if len(data) != size:
            raise InvalidRequest(f"expected {size} bytes of an arena, found {len(data)}")
        return data

    def write(self, part: Part, place: int, data: bytes) -> None:
        """Copy ``data`` to ``place`` in a part.

        Raises:
            InvalidRequest: it does not fit.
            Unavailable: the system cannot.
        """
        self._check(part, place, len(data))
        view = memoryview(data)
        while view:
            try:
                done = os.pwrite(self.descriptor, view, part.offset + place + len(data) - len(view))
            except OSError as error:  # pages that its process has given away, and no memory for others
                raise Unavailable(f"an arena cannot be written: {error.strerror}") from None
            view = view[done:]

    def close(self) -> None:
        """The process is gone: tell those who wait. The memory goes once no transfer uses it; idempotent."""
        self._closed = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(DriverCrashed("the process that this memory was shared with is gone"))
        self._waiting.clear()

    @staticmethod
    def _check(part: Part, place: int, size: int) -> None:
        if not (place >= 0 and 0 <= size <= part.size - place):
            raise InvalidRequest(f"expected a piece of at most {part.size - place} bytes, found one of {size}")
