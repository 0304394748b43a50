"""Gives back the memory that llama.cpp only clears: the context's pages come back, zeroed, as they are written to.

llama.cpp allocates the whole context and fills it with zeros, which makes every page of it resident: 94 MB for 4,096
tokens of a model of 135 million parameters, before a word is read. Memory of the system's has the same content without
that (``MADV_DONTNEED``, ``madvise(2)``), so an idle model takes less, and a process with it is forked the faster, the
larger its context is.

llama.cpp tells nobody where a context's memory is. So, while one is made, the function that allocates its buffers is
replaced by one that notes them; it stands in ``struct ggml_backend_buffer_type``, which begins with ``get_name`` and
``alloc_buffer`` in every version that there has been (``ggml-backend-impl.h``). Whether it is there in this one too
is tried out first; where it is not, nothing is given back, which costs memory and nothing else.
"""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llamacpp_library

__all__ = ["without_cleared_pages"]

_ALLOC_BUFFER = 1
_TRIED_BYTES = 12_288
_DONT_NEED = 4

_Alloc = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _ggml() -> ctypes.CDLL:
    """The functions of ggml, which llama.cpp is linked to: they are found through it, in the very copy that it uses."""
    ggml = ctypes.CDLL(llamacpp_library.llama._lib._name)  # noqa: SLF001 - the package names its library nowhere else
    for name, result, arguments in (
        ("ggml_backend_cpu_buffer_type", ctypes.c_void_p, []),
        ("ggml_backend_buft_alloc_buffer", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]),
        ("ggml_backend_buffer_get_base", ctypes.c_void_p, [ctypes.c_void_p]),
        ("ggml_backend_buffer_get_size", ctypes.c_size_t, [ctypes.c_void_p]),
        ("ggml_backend_buffer_free", None, [ctypes.c_void_p]),
    ):
        function = getattr(ggml, name)
        function.restype, function.argtypes = result, arguments
    return ggml


@contextmanager
def without_cleared_pages() -> Iterator[None]:
    """Make a context inside: of the buffers that were allocated for it, those that hold zeros only are given back."""
    try:
        ggml = _ggml()
    except (OSError, AttributeError):  # built in another way
        yield
        return
    kind = ggml.ggml_backend_cpu_buffer_type()
    slots = ctypes.cast(kind, ctypes.POINTER(ctypes.c_void_p))
    original = slots[_ALLOC_BUFFER]
    allocate = _Alloc(original or 0)
    noted: list[tuple[int | None, int]] = []

    def note(buffer_type: int, size: int) -> int | None:
        buffer: int | None = allocate(buffer_type, size)
        noted.append((buffer, size))
        return buffer

    noting = _Alloc(note)
    slots[_ALLOC_BUFFER] = ctypes.cast(noting, ctypes.c_void_p)
    try:
        tried = ggml.ggml_backend_buft_alloc_buffer(kind, _TRIED_BYTES)
        works = noted == [(tried, _TRIED_BYTES)]
        if works:
            ggml.ggml_backend_buffer_free(tried)
        else:
            slots[_ALLOC_BUFFER] = original
        noted.clear()
        yield
    finally:
        slots[_ALLOC_BUFFER] = original
    for buffer, _ in noted if works else ():
        if buffer:
            _give_back(ggml, buffer)


def _give_back(ggml: Any, buffer: int) -> None:
    base, size = ggml.ggml_backend_buffer_get_base(buffer), ggml.ggml_backend_buffer_get_size(buffer)
    start, end = -(-base // mmap.PAGESIZE) * mmap.PAGESIZE, (base + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if end <= start:
        return
    zeros = ctypes.string_at(start, 1) == b"\0" and _libc.memcmp(start, start + 1, end - start - 1) == 0
    if zeros:
        _libc.madvise(start, end - start, _DONT_NEED)
