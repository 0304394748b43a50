"""A real model, loaded once in a template: its forks answer as a process does that has loaded it itself."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace
from real_link import RealLink, plugin_of

from byenatos_kernel.model_files import ModelFile
from byenatos_kernel.nurseries import Nurseries
from byenatos_sandbox import Templates
from byenatos_sandbox.layers import missing
from byenatos_sdk.protocol.messages import InferenceRequest, Sampling, user

PLUGIN = Path(__file__).parents[2] / "plugins" / "llamacpp"
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(missing()), reason=f"this machine lacks layers: {', '.join(missing())}"),
]

GREEDY = InferenceRequest((user("Why is the sea salt?"),), sampling=Sampling(temperature=0.0, max_tokens=24))
SEEDED = InferenceRequest(
    (user("Tell me of a lighthouse."),), sampling=Sampling(temperature=0.9, seed=7, max_tokens=24)
)


@pytest.fixture
def model() -> ModelFile:
    path = Path(os.environ.get("BYENATOS_TEST_MODELS", ""), "smollm2.gguf")
    if not path.is_file():
        pytest.skip(f"expected the real model at {path}, found none; `make test` sets BYENATOS_TEST_MODELS")
    return ModelFile(path)


async def test_two_forks_at_once_answer_as_one_that_has_loaded_the_model_itself(model, tmp_path):
    nurseries = Nurseries(Templates(("byenatos_sdk.runtime",)))
    with ExitStack() as closing:
        closing.callback(nurseries.close)
        cold, one, two = links = [RealLink(plugin_of(PLUGIN), nurseries, tmp_path, model) for _ in range(3)]
        for link in links:  # threads of three processes that wait for each other on two cores take a minute
            link.order = replace(link.order, settings=link.order.settings | {"threads": 1, "batch_threads": 1})
        await asyncio.gather(cold.start(cold=True), one.start(), two.start())
        assert [link.preloaded for link in links] == [False, True, True]
        for request in (GREEDY, SEEDED):
            answers = await asyncio.gather(*(link.ask(request) for link in links))
            assert answers[0]
            assert answers == [answers[0]] * 3
        own = [_private_kib(link.pid) for link in links]
        assert max(own[1:]) * 2 < own[0]
        templates = [nursery.process for nursery in nurseries._kept]
        for link in links:
            await link.end()
    for template in templates:
        await template.exited


def _private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
