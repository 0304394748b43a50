"""Loading that holds nobody up: what a driver hands to threads while it starts runs with low priority.

A nice value can be raised and, without a privilege, never lowered again; but on Linux it is a thread's own. So the
threads of the event loop's executor get the highest one, and are replaced when the model is loaded: those that the
driver makes for its answers come from the main thread, and are as they always are.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

__all__ = ["LOWEST", "background_load"]

LOWEST: Final = 19
_THREADS = 4


@contextmanager
def background_load(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have ``asyncio.to_thread`` and the loop's default executor work with low priority."""
    low = ThreadPoolExecutor(_THREADS, thread_name_prefix="background", initializer=_step_back)
    loop.set_default_executor(low)
    try:
        yield
    finally:
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        low.shutdown(wait=False)


def _step_back() -> None:
    """Lower the priority of the calling thread, and of those that it starts."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, LOWEST)
    except OSError as error:
        sys.stderr.write(f"runtime: {threading.current_thread().name} keeps its priority: {error.strerror}\n")
