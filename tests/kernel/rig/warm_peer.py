"""An instance as warm state sees it."""

import asyncio
from types import SimpleNamespace

import msgspec

from byenatos_kernel.arena import Arena
from byenatos_sdk.protocol.messages import ModelSpecification

__all__ = ["Peer"]


class Peer:
    """An instance as warm state sees it; the test says what its driver answers and does to the arena."""

    def __init__(self, answer):
        self.arena = Arena(1)
        self.serving = True
        self.specification = ModelSpecification("m", features=frozenset({"warm"}))
        self.grant = SimpleNamespace(name="peer/m")
        self.plugin = SimpleNamespace(id="peer", digest="abc", stored="")
        self.model = SimpleNamespace(id="m")
        self.calls = []
        self._answer = answer

    async def call(self, method, params=None, *, timeout_s=10.0, most=0):
        self.calls.append((method, params))
        answer = self._answer(method, params)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return answer if isinstance(answer, bytes) else msgspec.msgpack.encode(answer)

    @property
    def free(self):
        return self.arena.idle
