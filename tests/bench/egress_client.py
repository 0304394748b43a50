"""The client of the broker's benchmark: the same httpx code in a sandbox through the broker, and direct with TLS.

It is told over its channel what to do and answers with the times that it took, in nanoseconds.
"""

import asyncio
import json
import socket
import ssl
import sys
import time
from typing import Any

import httpx

from byenatos_sdk.egress import SOCKET, async_transport, dial

__all__ = ["direct", "sandboxed"]


async def _requests(client: httpx.AsyncClient, url: str, count: int) -> list[int]:
    taken = []
    for _ in range(count):
        begun = time.perf_counter_ns()
        answer = await client.post(url, json={"prompt": "x" * 540})
        taken.append(time.perf_counter_ns() - begun)
        assert answer.status_code == 200, answer.text
    return taken


async def _events(client: httpx.AsyncClient, url: str, count: int, gap_s: float) -> list[int]:
    """Return how long each event was on its way, and as the last number how long all of them took."""
    late = []
    begun = time.perf_counter_ns()
    async with client.stream("POST", url, json={"events": count, "gap_s": gap_s}) as answer:
        async for line in answer.aiter_lines():
            if line:
                late.append(time.perf_counter_ns() - int(line[6:]))  # noqa: PERF401 - when it came, not when all had
    assert len(late) == count
    return [*late, time.perf_counter_ns() - begun]


def _opened(*, by_socket: bool) -> int:
    """How long it takes to have a stream to the broker, in one of the two ways."""
    begun = time.perf_counter_ns()
    if by_socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(SOCKET)
    else:
        stream = dial()
    taken = time.perf_counter_ns() - begun
    stream.close()
    return taken


async def _work(client: httpx.AsyncClient, url: str, channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    channel.setblocking(False)
    await _requests(client, url, 50)
    while order := await loop.sock_recv(channel, 4096):
        known: dict[str, Any] = json.loads(order)
        if known["opens"]:
            taken = [_opened(by_socket=known["opens"] == "socket") for _ in range(known["count"])]
        elif known["gap_s"] is None:
            taken = await _requests(client, url, known["count"])
        else:
            taken = await _events(client, url, known["count"], known["gap_s"])
        await loop.sock_sendall(channel, json.dumps(taken).encode() + b"\n")


def sandboxed(channel: int, config: bytes) -> None:
    """Work through the broker; ``config`` is the vendor's address."""
    with socket.socket(fileno=channel) as listener:
        connection = listener.accept()[0]

    async def main() -> None:
        async with httpx.AsyncClient(transport=async_transport(), timeout=60) as client:
            await _work(client, config.decode(), connection)

    asyncio.run(main())


def direct(descriptor: int, url: str, ca: str) -> None:
    """Work with TLS of its own."""

    async def main() -> None:
        context = ssl.create_default_context(cafile=ca)
        async with httpx.AsyncClient(verify=context, timeout=60, trust_env=False) as client:
            await _work(client, url, socket.socket(fileno=descriptor))

    asyncio.run(main())


if __name__ == "__main__":
    direct(int(sys.argv[1]), sys.argv[2], sys.argv[3])
