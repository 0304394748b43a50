"""What the tests share: the plugin's folder on the path, the real models, and calls that record their answers."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Sampling

FOLDER = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(FOLDER), str(Path(__file__).resolve().parent)]

from moving import Fresh, Mover  # noqa: E402  (in the folder that was just named)
from recorded_call import RecordedCall  # noqa: E402


@pytest.fixture(scope="session")
def driver_class() -> Any:
    """The plugin's class. Other plugins have a ``driver`` module too, so it is loaded under a name of its own."""
    spec = importlib.util.spec_from_file_location("llamacpp_driver", FOLDER / "driver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["llamacpp_driver"] = module
    spec.loader.exec_module(module)
    return module.LlamaCpp


@pytest.fixture(scope="session")
def recorded() -> type[RecordedCall]:
    """The class of a recorded call, for tests that number theirs."""
    return RecordedCall


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder with the real models."""
    folder = os.environ.get("BYENATOS_TEST_MODELS", "")
    if not folder:
        pytest.skip("BYENATOS_TEST_MODELS names no folder with smollm2.gguf and gemma-3-270m.gguf")
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    return Path(folder)


@pytest.fixture(scope="session")
def load(driver_class: Any, models: Path) -> Iterator[Callable[..., Any]]:
    """Load a real model by its name, with settings; stopped at the end."""
    loaded: dict[tuple[str, str], Any] = {}

    def load_once(name: str, **settings: Any) -> Any:
        path = models / f"{name}.gguf"
        if not path.is_file():
            pytest.skip(f"{path} is missing")
        key = (name, repr(settings))
        if key not in loaded:
            driver = driver_class({})
            driver.specification = asyncio.run(driver.start(Model(name, path, settings)))
            loaded[key] = driver
        return loaded[key]

    yield load_once
    for driver in loaded.values():
        asyncio.run(driver.stop())


@pytest.fixture
def ask() -> Callable[..., RecordedCall]:
    """Send messages to a driver, with sampling given by name and the rest of the request as ``asking``."""

    def send(driver: Any, *messages: Message, asking: dict[str, Any] | None = None, **sampling: Any) -> RecordedCall:
        call = RecordedCall(InferenceRequest(messages, sampling=Sampling(**sampling), **(asking or {})))
        assert driver.serve(call)
        return call

    return send


@pytest.fixture
def mover(recorded: Any) -> Mover:
    """Begins answers, and moves them."""
    return Mover(recorded)


@pytest.fixture
def fresh(driver_class: Any, models: Path) -> Iterator[Fresh]:
    """Make instances of real models by their name."""
    instances = Fresh(driver_class, models)
    yield instances
    instances.close()
