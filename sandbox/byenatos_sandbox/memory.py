"""Settles a process's memory before it is forked from, or before it idles: what is of no use any more goes back."""

import ctypes
import gc

__all__ = ["settle"]


def settle() -> None:
    """Give back what compiling and importing left behind, and keep the rest out of garbage collections.

    Those write to every object: in a fork, to pages that are shared until then.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    gc.freeze()
