"""A broker that the test plays: it hands out streams at once, and answers what is queued."""

import asyncio
import socket
from collections import deque

import pytest

from byenatos_sdk.egress import pool


class Broker:
    """``requests`` are what came, ``queue`` takes whole answers in bytes; without one a request waits."""

    def __init__(self):
        self.requests = []
        self.answers = deque()
        self.dialled = 0
        self.left = 0
        self.refusal = None
        self._tasks = set()

    def queue(self, *answers):
        self.answers.extend(answers)

    async def dial(self, timeout_s=10.0):
        if self.refusal is not None:
            raise self.refusal
        self.dialled += 1
        ours, its = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=its)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ours

    async def _serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
                self.requests.append((head.decode(), body))
                if not self.answers:
                    await reader.read()
                    return
                answer = self.answers.popleft()
                writer.write(answer)
                if not answer.endswith(b"\r\n\r\n") and b"content-length" not in answer:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left += 1
            writer.close()


@pytest.fixture
def broker(monkeypatch):
    played = Broker()
    monkeypatch.setattr(pool, "dial_async", played.dial)
    return played


def run(main):
    async def bounded():
        async with asyncio.timeout(60):
            await main

    asyncio.run(bounded())


@pytest.fixture(name="run")
def run_fixture():
    return run
