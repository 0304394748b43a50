"""What the kernel is compared with: the program that one would write first.

pyzmq's asyncio sockets, a task and a queue per stream, one message per delta, the same wire and the same duties per
delta (decode, find the stream, keep its text, encode with the client's number). Nothing in it is made slow on purpose.
"""

import asyncio
import os
import sys
import time
from collections.abc import Coroutine

import zmq
import zmq.asyncio

from byenatos_sdk.protocol.control import KernelStatus
from byenatos_sdk.protocol.frames import (
    Call,
    DriverEvent,
    Hello,
    Open,
    Reply,
    Start,
    Welcome,
    decode_client_header,
    decode_driver_events,
    encode,
    join_driver_frame,
)
from byenatos_sdk.protocol.messages import Failure, Finish, TextDelta

__all__ = ["NaiveKernel"]

HIGH_WATER = 100_000


class NaiveKernel:
    """One ROUTER towards the clients, one PAIR towards one driver."""

    def __init__(self, clients: str, driver: str) -> None:
        context = zmq.asyncio.Context()
        self._clients = context.socket(zmq.ROUTER)
        self._driver = context.socket(zmq.PAIR)
        for socket, endpoint in ((self._clients, clients), (self._driver, driver)):
            socket.set_hwm(HIGH_WATER)
            socket.bind(endpoint)
        self._queues: dict[int, asyncio.Queue[DriverEvent]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 1
        self._deltas = 0

    async def serve(self) -> None:
        """Serve until the process is ended."""
        self._spawn(self._listen_to_driver())
        while True:
            peer, head, body = await self._clients.recv_multipart()
            header = decode_client_header(head)
            if isinstance(header, Open):
                number = self._next
                self._next += 1
                queue = self._queues[number] = asyncio.Queue()
                self._spawn(self._answer(peer, header.id, number, queue))
                await self._driver.send(join_driver_frame(Start(number), body))
            elif isinstance(header, Hello):
                await self._clients.send_multipart([peer, encode([(0, Welcome(1))])])
            elif isinstance(header, Call):
                await self._clients.send_multipart([peer, encode([(header.id, Reply(encode(self._status())))])])

    async def _answer(self, peer: bytes, client_id: int, number: int, queue: "asyncio.Queue[DriverEvent]") -> None:
        text: list[str] = []
        while True:
            event = await asyncio.wait_for(queue.get(), 60)
            said = TextDelta(event) if isinstance(event, str) else event
            await self._clients.send_multipart([peer, encode([(client_id, said)])])
            if isinstance(event, str):
                text.append(event)
                self._deltas += 1
            if isinstance(event, Finish | Failure):
                del self._queues[number]
                return

    async def _listen_to_driver(self) -> None:
        while True:
            for number, event in decode_driver_events(await self._driver.recv()):
                queue = self._queues.get(number)
                if queue is not None:
                    queue.put_nowait(event)

    def _status(self) -> KernelStatus:
        return KernelStatus(
            version="naive",
            pid=os.getpid(),
            home="",
            endpoint="",
            uptime_s=0,
            rss_bytes=0,
            cpu_s=time.thread_time(),
            clients=0,
            streams=len(self._queues),
            requests=self._next - 1,
            deltas=self._deltas,
        )

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _main(clients: str, driver: str) -> None:
    await NaiveKernel(clients, driver).serve()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:3]))
