"""The first step of a process is made before anybody waits for it: memory that is mapped at its first use is mapped."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from byenatos_sdk.driver import Model
from byenatos_sdk.protocol.messages import Finish, user
from llamacpp_model import Entry
from llamacpp_state import ContextState

pytestmark = pytest.mark.model

MAPPED_AT_ONCE = 64 << 10
"""What the system maps at one page fault in a file that it holds in memory."""


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


@pytest.mark.parametrize("name", ["smollm2", "gemma-3-270m"])
def test_the_first_answer_finds_the_weights_mapped_and_the_context_empty(
    driver_class: Any, models: Path, name: str
) -> None:
    driver = driver_class({})
    file = models / f"{name}.gguf"
    found: list[int] = []

    def first_step() -> None:
        found.append(driver._engine._room.used)
        before = faults()
        driver._engine._model.decode([Entry(100, 0, 0, sampled=True)])
        found.append(faults() - before)

    async def run() -> None:
        await driver.start(Model(name, file, {"n_ctx": 512, "threads": 1}))
        await asyncio.wrap_future(driver._engine.between_steps(first_step))
        await driver.stop()

    asyncio.run(run())
    used, faulted = found
    assert used == 0
    assert faulted < file.stat().st_size / MAPPED_AT_ONCE / 8


def test_a_first_step_that_fails_is_reported_and_the_driver_serves_all_the_same(
    driver_class: Any, models: Path, ask: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("nobody knows why")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContextState, "touch", fail)
        driver = driver_class({})
        asyncio.run(driver.start(Model("smollm2", models / "smollm2.gguf", {"n_ctx": 512, "threads": 1})))
        call = ask(driver, user("Hello"), max_tokens=2, temperature=0.0)
        assert isinstance(call.wait(), Finish)
    asyncio.run(driver.stop())
    assert "the first step could not be made ahead: RuntimeError: nobody knows why" in capfd.readouterr().err
