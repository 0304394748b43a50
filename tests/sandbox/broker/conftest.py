"""Fixtures of the broker's tests, which are coroutines."""

import asyncio
import inspect
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "rig"))

CEILING_S = 60


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is a coroutine, in an event loop of its own and within a ceiling."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def bounded():
        async with asyncio.timeout(CEILING_S):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True
