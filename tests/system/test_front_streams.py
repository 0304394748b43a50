"""Streams of the HTTP front under strain: clients that do not read, and workers that are told to leave."""

import asyncio
import json
import os
import re
import signal
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from kernel_process import CEILING_S, numbers, until, until_ready

TEXT = "0123456789" * 8
MODELS = {
    "flood": {"tokens": -1, "text": TEXT},
    "slow": {"tokens": 200, "rate": 100},
}
MIB = 1 << 20
_SAID = re.compile(rb'"delta":\{"content":"([^"]*)"')


@asynccontextmanager
async def serving(start_kernel, **front):
    """A kernel with the front ``http``: a client of its own, and where the front listens."""
    kernel = start_kernel(
        models=MODELS, slots={name: name for name in MODELS}, fronts={"http": {"listen": "127.0.0.1:0"} | front}
    )
    async with kernel.client() as client:
        await until_ready(client, "default", *MODELS)
        status = await until(client, lambda status: status.fronts[0].ready == front.get("workers", 1))
        yield client, ("127.0.0.1", int(status.fronts[0].address.rpartition(":")[2]))


def workers(status):
    """The processes of the front that serve."""
    return {one.pid for one in status.instances if one.driver == "http" and one.state.value == "ready"}


def asking(model):
    """A whole request for a stream."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "count"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def asked(address, model):
    """A connection with little room on which a stream was asked for; nothing of it is read."""
    connected = socket.socket()
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connected.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connected, address)
    await loop.sock_sendall(connected, asking(model))
    return connected


async def read(connected):
    """Everything up to the end of the answer."""
    data = b""
    while not data.endswith(b"\r\n0\r\n\r\n"):
        piece = await asyncio.get_running_loop().sock_recv(connected, 1 << 20)
        assert piece, data[-500:]
        data += piece
    connected.close()
    return data


def text_of(answer):
    """What an answer says, whichever way it was cut into pieces."""
    return b"".join(_SAID.findall(answer)).decode()


def peak_of(pid):
    """The most memory that a process had."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def test_streams_that_nobody_reads_wait_in_the_kernel_and_do_not_grow_the_worker(start_kernel):
    async with serving(start_kernel) as (client, address):
        (worker,) = workers(await client.status())
        before = peak_of(worker)
        unread = [await asked(address, "flood") for _ in range(8)]
        await until(client, lambda status: status.deltas > 10_000 and status.streams == 0)  # each was too slow
        async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}", trust_env=False) as http:
            answer = await http.post("/v1/chat/completions", content=asking("default").partition(b"\r\n\r\n")[2])
        assert answer.text.endswith("data: [DONE]\n\n")
        assert peak_of(worker) - before < 16 * MIB
        for answer in await asyncio.gather(*map(read, unread)):
            text = text_of(answer)
            assert text == TEXT * (len(text) // len(TEXT))
            assert b"did not read" in answer
            assert b"[DONE]" not in answer


async def test_a_worker_that_is_told_to_leave_ends_its_streams_and_the_other_one_takes_what_is_new(start_kernel):
    async with serving(start_kernel, workers=2) as (client, address):
        before = workers(await client.status())
        running = [asyncio.ensure_future(streamed(address, "slow")) for _ in range(32)]
        await until(client, lambda status: status.streams == 32)
        leaving = min(before)
        os.kill(leaving, signal.SIGTERM)
        while leaving in workers(await client.status()):
            assert await streamed(address, "default") == "count"
        assert await asyncio.gather(*running) == [numbers(200)] * 32
        now = workers(await until(client, lambda status: len(workers(status)) == 2))
        assert leaving not in now
        assert before - {leaving} < now


async def streamed(address, model):
    """A whole stream on a connection of its own; what it says."""
    async with asyncio.timeout(CEILING_S):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(asking(model))
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
    assert b"data: [DONE]" in answer, answer[-500:]
    return text_of(answer)
