"""Stop a step that nobody wants any more while it is being computed.

llama.cpp asks a callback before each operation of a step, some hundred times. A Python function there would wait for
the interpreter's lock each time. So the callback is the C library's ``strlen`` of one byte of ours: 0 while the byte is
0. A thread looks every ``PERIOD_S`` whether the calls of the running step are all cancelled, and sets the byte.
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from llamacpp_library import llama

__all__ = ["Abort"]

PERIOD_S = 0.05


class Abort:
    """Watches the steps of ``context``: ``unwanted`` says, from any thread, whether nobody wants the current one."""

    def __init__(self, context: Any, unwanted: Callable[[], bool]) -> None:
        self._unwanted = unwanted
        self._flag = ctypes.create_string_buffer(2)
        self._closed = threading.Event()
        self._busy = threading.Event()
        place = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0
        self._callback = llama.ggml_abort_callback(place)
        llama.llama_set_abort_callback(context, self._callback, ctypes.cast(self._flag, ctypes.c_void_p))
        self._thread = threading.Thread(target=self._watch, name="llamacpp-abort", daemon=True)
        self._thread.start()

    def work(self) -> None:
        """Watch: steps are being computed."""
        self._busy.set()

    def rest(self) -> None:
        """Stop watching: there is nothing to compute."""
        self._busy.clear()

    def clear(self) -> None:
        """Let steps be computed again after one was stopped."""
        self._flag[0] = b"\0"

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._busy.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._busy.wait()
            if self._unwanted():
                self._flag[0] = b"\1"
            self._closed.wait(PERIOD_S)
