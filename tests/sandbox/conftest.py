"""What every sandbox test needs: a grant for the test entries and words for waiting."""

import asyncio
import json
import os
import select
from pathlib import Path

import pytest

from byenatos_sandbox import Exit, Grant, Process
from byenatos_sandbox.layers import LAYERS

CEILING_S = 60
"""How long an event may take before a test gives up; no test waits for it to pass."""


class Talk:
    """Waits for what a sandboxed process does."""

    @staticmethod
    async def answer(process: Process):
        """The one JSON line that an entry sends; fails with the process's output if it dies instead."""
        line = b""
        async with asyncio.timeout(CEILING_S):
            while not line.endswith(b"\n"):
                data = await asyncio.get_running_loop().sock_recv(process.channel, 65536)
                if not data:
                    end = await process.exited
                    pytest.fail(f"no answer: {end.describe()}: {process.output()}")
                line += data
        return json.loads(line)

    @staticmethod
    async def end(process: Process) -> Exit:
        async with asyncio.timeout(CEILING_S):
            return await process.exited

    @staticmethod
    def gone(pidfd: int) -> bool:
        """Whether the process behind a pidfd, not necessarily our child, ends."""
        try:
            return bool(select.select([pidfd], [], [], CEILING_S)[0])
        finally:
            os.close(pidfd)


@pytest.fixture(scope="session")
def talk() -> type[Talk]:
    return Talk


@pytest.fixture
def grant(tmp_path: Path):
    """Make a grant whose entries are ``sandbox_entries`` and whose scratch folders stay under ``tmp_path``.

    What these tests look at is there in every process, so the stronger layers are left out: the entries fork, and read
    in ``/proc`` what they are.
    """

    def make(**fields) -> Grant:
        entries = Path(__file__).parent / "entries"
        usual = {"name": "test/driver", "plugin": str(entries), "scratch_root": str(tmp_path)}
        return Grant(**usual | {"without": frozenset(LAYERS)} | fields)

    return make
