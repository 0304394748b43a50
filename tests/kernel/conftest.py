"""Fixtures of the kernel's tests: tests that are coroutines, and nothing that escapes into the event loop unseen."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "rig"))

from kernel_rig import Rig

CEILING_S = 180
"""How long a test may take before it gives up; no test waits for it to pass."""


def run_strictly(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a loop of its own; an exception that only the loop saw is a failure."""
    escaped: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        async with asyncio.timeout(CEILING_S):
            await main

    asyncio.run(bounded())
    assert not escaped, escaped


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    run_strictly(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine strictly, for the tests that try many examples."""
    return run_strictly


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object]], Coroutine[Any, Any, None]]:
    """Let the loop turn until a condition holds."""

    async def wait(condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., Any]:
    """Make a kernel's parts on scripted drivers: ``async with rig({"main": "a"}) as kernel``."""

    @asynccontextmanager
    async def make(slots: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Rig]:
        kernel = Rig(tmp_path, {"main": "a"} if slots is None else slots, **options)
        try:
            yield await kernel.start()
        finally:
            kernel.kill()
            await asyncio.sleep(0)

    return make
