"""One kernel for all clients, with its HTTP front: ``default`` is the scripted model. Tests leave it as it was."""

import asyncio
import gc
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from byenatos_sdk.home import Home

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from kernel_process import KernelProcess, until, until_ready, write_config

SCRIPTED = Path(__file__).parent / "scripted"
MODEL = "default"


class Served(NamedTuple):
    """A kernel and where its front listens."""

    kernel: KernelProcess
    url: str


def serve(home: Home, *, access: str = "", **front: Any) -> Served:
    """Start a kernel with the scripted model and wait until its front serves; ``access`` is more of ``access.toml``."""
    home.policies.mkdir(parents=True)
    home.access.write_text(f"[plugins]\nunsigned = true\n{access}")
    write_config(home, default="scripted", fronts={"http": {"listen": "127.0.0.1:0"} | front})
    shutil.copytree(SCRIPTED, home.plugins / "scripted")
    kernel = KernelProcess(home)

    async def ready() -> str:
        async with kernel.client() as client:
            await until_ready(client, MODEL)
            status = await until(client, lambda status: status.fronts[0].ready == front.get("workers", 1))
            return f"http://{status.fronts[0].address}"

    return Served(kernel, asyncio.run(ready()))


@pytest.fixture(scope="session")
def serve_front() -> Iterator[Callable[..., Served]]:
    """Start a kernel with a front that is set up as the test says; the test stops it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
        yield serve


@pytest.fixture(scope="session")
def served(serve_front: Callable[..., Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The kernel."""
    found = serve_front(Home(tmp_path_factory.mktemp("clients") / "home"))
    yield found
    found.kernel.clean_up()


@pytest.fixture(scope="module", autouse=True)
def swept() -> Iterator[None]:
    """Collect what a framework left open while its own tests' filters of warnings still hold."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def url(served: Served) -> str:
    """Where the front listens."""
    return served.url


@pytest.fixture
def script() -> Callable[..., str]:
    """Make the prompt that tells the scripted model how to answer: one step by its fields, or several as tables."""

    def written(*steps: dict[str, Any], **step: Any) -> str:
        return json.dumps(list(steps) or step)

    return written
