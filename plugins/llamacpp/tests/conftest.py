"""What the tests share: the plugin's folder on the path, the real models, and calls that record their answers."""

import asyncio
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, InferenceRequest, Message, Sampling, TextDelta

FOLDER = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(FOLDER), str(Path(__file__).resolve().parent)]

CEILING_S = 120.0


class RecordedCall:
    """A call as the runtime would make it; whoever tests it can wait for what is emitted."""

    def __init__(self, request: InferenceRequest) -> None:
        self.id = 0
        self.request = request
        self.cancelled = False
        self.congested = False
        self.deltas: list[Delta] = []
        self._changed = threading.Condition()

    def emit(self, delta: str | Delta) -> None:
        with self._changed:
            self.deltas.append(TextDelta(delta) if isinstance(delta, str) else delta)
            self._changed.notify_all()

    def flush(self) -> None:
        pass

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in list(self.deltas) if isinstance(delta, TextDelta))

    @property
    def end(self) -> Delta | None:
        return next((delta for delta in self.deltas if isinstance(delta, Finish | Failure)), None)

    def wait_for_deltas(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.deltas) >= count, CEILING_S)

    def wait(self) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: self.end is not None, CEILING_S)
        assert self.end is self.deltas[-1]
        return self.end


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
