"""Fixtures of the system tests: real kernels in real processes, and tests that are coroutines."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.home import Home

sys.path.insert(0, str(Path(__file__).parent / "harness"))
sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox" / "broker" / "rig"))

from kernel_process import CEILING_S, KernelProcess, write_config
from raw_client import RawClient


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine, in an event loop of its own and within a ceiling."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(2 * CEILING_S):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The file of a small real model."""
    folder = os.environ.get("BYENATOS_TEST_MODELS")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder with the real models; `make test` sets it")
    return Path(folder, "smollm2.gguf")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path / "home")


@pytest.fixture
def start_kernel(home: Home) -> Iterator[Callable[..., KernelProcess]]:
    """Start kernels, on the test's home unless another is named; all are stopped and looked at in the end."""
    started: list[KernelProcess] = []

    def start(at: Home | None = None, *, configured: bool = True, wait: bool = True, **config: Any) -> KernelProcess:
        if configured:
            write_config(at or home, **config)
        kernel = KernelProcess(at or home, wait=wait)
        started.append(kernel)
        return kernel

    yield start
    problems: list[BaseException] = []
    for kernel in started:
        try:
            kernel.clean_up()
        except (AssertionError, OSError) as problem:
            problems.append(problem)
        print(kernel.log)
    if problems:
        raise problems[0]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    """One kernel for those tests of a module that leave it as they found it: slot default echoes, nothing else runs."""
    home = Home(tmp_path_factory.mktemp("shared") / "home")
    write_config(home)
    kernel = KernelProcess(home)
    yield kernel
    kernel.clean_up()


@pytest.fixture
def raw(home: Home) -> Iterator[Callable[..., RawClient]]:
    """Make clients without manners; call it after the kernel has started."""
    made: list[RawClient] = []

    def connect(at: Home | None = None) -> RawClient:
        client = RawClient(at or home)
        made.append(client)
        return client

    yield connect
    for client in made:
        client.__exit__()
