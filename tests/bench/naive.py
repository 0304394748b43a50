"""Starts the naive kernel with its driver."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.machine import System, started

__all__ = ["naive_kernel"]


@contextmanager
def naive_kernel() -> Iterator[System]:
    """Run a naive kernel and its driver process."""
    with tempfile.TemporaryDirectory(prefix="byenatos-bench-") as folder:
        clients, driver = (f"ipc://{Path(folder, name)}" for name in ("kernel.sock", "driver.sock"))
        with (
            started("tests.bench.naive_kernel", clients, driver) as process,
            started("tests.bench.naive_driver", driver),
        ):
            system = System(clients, process)
            try:
                yield system
            finally:
                system.close()
