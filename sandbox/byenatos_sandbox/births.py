"""What a template has cloned last, known to whoever started it even if the template is killed before it can tell.

A clone is a child of the template's parent, which must reap it. Between the clone and the template's answer nobody but
the template knows its number; so the system itself writes it (``CLONE_PARENT_SETTID``) to a page that both share, and
does so before the new process runs. The new process does not inherit the page.
"""

import ctypes
import fcntl
import mmap
import os

__all__ = ["Births"]

_ABOVE_STANDARD = 5
"""The descriptor is moved to one that no descriptor which a template is started with can have."""


class Births:
    """The page. ``descriptor`` is what it is made from."""

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE, flags=mmap.MAP_SHARED)
        self._last = ctypes.c_int.from_buffer(self._page)

    @staticmethod
    def create() -> int:
        """Return a descriptor for a new page; the caller closes it.

        Raises:
            OSError: there is none to be had.
        """
        descriptor = os.memfd_create("byenatos-births", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)
        finally:
            os.close(descriptor)

    @property
    def last(self) -> int:
        """The process id of what was cloned last, 0 if nothing was since :meth:`forget`."""
        return self._last.value

    def forget(self) -> None:
        """Note that nothing was cloned."""
        self._last.value = 0

    def close(self) -> None:
        """Let go of the page, for good; idempotent."""
        if hasattr(self, "_last"):
            del self._last  # it points into the page
            self._page.close()

    def place(self) -> int:
        """The address that the system is to write to; from here on no fork of this process has the page."""
        self._page.madvise(mmap.MADV_DONTFORK)
        return ctypes.addressof(self._last)
