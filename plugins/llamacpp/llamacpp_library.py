"""llama.cpp's C interface, and only that.

``import llama_cpp`` brings the package's high-level classes along, and with them numpy and a server's worth of chat
formats: 0.3 s of CPU and 22 MB of every start, for nothing that is used here. So the package is registered without
running its ``__init__`` for just as long as the one module of C declarations needs to be imported; whoever imports
``llama_cpp`` afterwards gets the whole of it.
"""

import ctypes
import importlib
import importlib.util
import os
import re
import sys
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from byenatos_sdk.protocol.errors import Unavailable

__all__ = ["llama", "log"]

_WARN, _ERROR, _CONTINUED = 3, 4, 5  # ggml_log_level
_BUFFER = re.compile(rb"(KV|RS|compute|output|model) buffer size = +([0-9.]+) MiB")


def _import_declarations() -> Any:
    # Read by the libraries as they are loaded. Without the first, a failed assertion in ggml forks and executes gdb.
    # The second is how long OpenMP's threads spin before they sleep: its default loses up to 4x on a busy machine (they
    # spin against the thread that they wait for), and not spinning at all 3x on an idle one.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if "llama_cpp" in sys.modules:
        return importlib.import_module("llama_cpp.llama_cpp")
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None:
        raise Unavailable("llama-cpp-python is not installed; install it with: pip install 'byenatos[llamacpp]'")
    sys.modules["llama_cpp"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    finally:
        del sys.modules["llama_cpp"]


if TYPE_CHECKING:
    from llama_cpp import llama_cpp as llama
else:
    llama = _import_declarations()


class _Log:
    """llama.cpp's log: warnings and errors go to stderr, the last errors are remembered for messages.

    ``buffers``: the bytes that it said it allocated, by what they are for (``KV``, ``compute``, ``output``, ``model``).
    """

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=3)
        self.buffers: Counter[str] = Counter()
        self._level = 0
        self._callback = llama.llama_log_callback(self._write)
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def last_error(self) -> str:
        """Return what llama.cpp complained about last."""
        return " / ".join(self.errors) or "it gives no reason"

    def _write(self, level: int, text: bytes, _user_data: int | None) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level not in {_WARN, _ERROR}:
            found = _BUFFER.search(text)
            if found:
                self.buffers[found[1].decode()] += int(float(found[2]) * (1 << 20))
            return
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        if self._level == _ERROR and line.strip():
            self.errors.append(line.strip())


log = _Log()
"""The process's one log: llama.cpp has no other."""
