"""A client without manners: a bare DEALER that says what a test wants and reads only when it is told to."""

import asyncio
from typing import Any, Self

import zmq

from byenatos_sdk.home import Home
from byenatos_sdk.protocol.frames import (
    ACK_EVERY,
    Ack,
    Call,
    ClientEvent,
    ClientHeader,
    Hello,
    Open,
    Refused,
    Welcome,
    decode_client_events,
    encode,
)
from byenatos_sdk.protocol.messages import Failure, Finish, InferenceRequest, TextDelta, user

__all__ = ["RawClient"]

CEILING_MS = 60_000


class RawClient:
    """Frames in, frames out. ``terminals`` and ``texts`` collect what came, by stream."""

    def __init__(self, home: Home) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.set_hwm(0)
        self.socket.connect(home.endpoint)
        self.frames = 0
        self.texts: dict[int, list[str]] = {}
        self.terminals: dict[int, list[Finish | Failure]] = {}
        self.handshakes: list[Welcome | Refused] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def send(self, header: ClientHeader, body: bytes = b"") -> None:
        """Send a proper message."""
        self.socket.send_multipart([encode(header), body])

    def send_raw(self, *frames: bytes) -> None:
        """Send whatever frames."""
        self.socket.send_multipart(list(frames))

    def open(self, id: int, target: str = "default", prompt: str = "go", **echo: Any) -> None:
        """Start a stream; keyword arguments are the echo driver's."""
        request = InferenceRequest((user(prompt),), extra={"echo": echo} if echo else {})
        self.send(Open(id, target), encode(request))

    def call(self, id: int, method: str) -> None:
        """Call a control method that needs no parameters."""
        self.send(Call(id, method), b"")

    def hello(self) -> Welcome | Refused:
        """Shake hands."""
        self.send(Hello((1,)))
        self.read(lambda: bool(self.handshakes))
        return self.handshakes[-1]

    def take(self) -> list[tuple[int, ClientEvent]]:
        """Wait for the next frame, acknowledge as a client should, and return its events."""
        assert self.socket.poll(CEILING_MS), "nothing came from the kernel"
        events = decode_client_events(self.socket.recv())
        self.frames += 1
        if self.frames % ACK_EVERY == 0:
            self.send(Ack(ACK_EVERY))
        for number, event in events:
            if isinstance(event, Welcome | Refused):
                self.handshakes.append(event)
            elif isinstance(event, TextDelta):
                assert number not in self.terminals, "text came after the end"
                self.texts.setdefault(number, []).append(event.text)
            elif isinstance(event, Finish | Failure):
                self.terminals.setdefault(number, []).append(event)
        return events

    def read(self, enough: Any) -> None:
        """Read until ``enough()``."""
        while not enough():
            self.take()

    async def aread(self, enough: Any) -> None:
        """Read in a thread, so that the test's own loop goes on."""
        await asyncio.to_thread(self.read, enough)

    def text(self, id: int) -> str:
        """All text of a stream so far."""
        return "".join(self.texts.get(id, ()))
