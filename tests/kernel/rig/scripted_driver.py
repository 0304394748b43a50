"""A driver process without a process: a real channel and real frames, and a test that says when it does what."""

import asyncio
import itertools
import socket
from collections.abc import Callable

import msgspec

from byenatos_kernel.channel import Channel, Peer
from byenatos_sandbox import Exit, Grant, NotIsolated
from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.frames import (
    Beat,
    Drain,
    DriverCall,
    DriverEvent,
    DriverHello,
    Imported,
    Load,
    Ready,
    Reply,
    Start,
    Stop,
    encode,
    split_driver_frame,
)
from byenatos_sdk.protocol.messages import Failure, Finish, ModelHealthStatus, ModelSpecification
from byenatos_sdk.runtime_config import decode_config

__all__ = ["ScriptedDriver"]

_pids = itertools.count(1_000_000_000)
_decode_order = msgspec.msgpack.Decoder(LoadOrder).decode


class ScriptedDriver:
    """Stands where ``byenatos_sandbox.Process`` stands, and plays the driver at the other end of the channel.

    It greets and imports by itself; with ``obedient`` it also loads, is healthy and leaves when it is told to drain.
    Its answer to every request counts: ``"0 1 2 …"``, going on from the partial answer that it is given.
    """

    def __init__(
        self,
        grant: Grant,
        *,
        config: bytes,
        on_exit: Callable[["ScriptedDriver"], None],
        obedient: bool = True,
        probe_reply: bytes = b"",
    ) -> None:
        self.pid = next(_pids)
        self.model = grant.name.partition("/")[2]
        self.obedient = obedient
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.load: LoadOrder | None = None
        self.health_calls: list[int] = []
        self.calls: list[tuple[int, str, bytes]] = []
        self.stopped_calls: list[int] = []
        self.streams: dict[int, int] = {}
        self.drained = False
        self.closed = False
        self.refusal: NotIsolated | None = None
        self.lacking: dict[str, str] = {}
        self.open: dict[str, str] = {}
        self.token = decode_config(config).token
        self.channel, theirs = socket.socketpair()
        self.wire = Channel(theirs, self._frames, lambda _: None, Peer("kernel", b"PAIR", (64 << 20,), 64 << 20))
        self._on_exit = on_exit
        self._dying = False
        self._probe_reply = probe_reply
        self.tell(0, DriverHello(self.token, (1,), pid=self.pid))

    # ---- what the kernel asks of a process ---------------------------------------------------------------------

    def output(self) -> tuple[str, ...]:
        return ("last words",)

    def stopped(self) -> bool:
        return False

    def kill(self) -> None:
        if not self._dying:
            self._dying = True
            asyncio.get_running_loop().call_soon(self._leave, Exit(None, 9))

    async def stop(self) -> Exit:
        self.kill()
        return await self.exited

    def close(self) -> None:
        assert self.exited.done()
        self.closed = True

    # ---- what the test has it do -------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return not self._dying

    def tell(self, number: int, *events: DriverEvent) -> None:
        self.send_raw(encode([(number, event) for event in events]))

    def send_raw(self, frame: bytes) -> None:
        self.wire.send(frame)
        self.wire.flush()

    def loaded(self) -> None:
        """The load that is asked for succeeds."""
        assert self.load is not None
        found = self.load.declared or ModelSpecification(self.model)
        self.load = None
        self.tell(0, Ready(encode(msgspec.structs.replace(found, driver="scripted"))))

    def load_fails(self, code: str = "unavailable") -> None:
        assert self.load is not None
        self.load = None
        self.tell(0, Failure(code, "this model cannot be loaded"))

    def feels(self, status: str) -> None:
        """Answer every health call that waits."""
        while self.health_calls:
            self.tell(self.health_calls.pop(), Reply(encode(ModelHealthStatus(status))))

    def say(self, number: int) -> None:
        """The next token of a stream."""
        token = self.streams[number]
        self.streams[number] = token + 1
        self.tell(number, f"{token} ")

    def finish(self, number: int) -> None:
        del self.streams[number]
        self.tell(number, Finish())

    def fail(self, number: int, code: str = "content_filtered", retry_after_s: float | None = None) -> None:
        del self.streams[number]
        self.tell(number, Failure(code, "the driver does not like this", retry_after_s))

    def break_down(self, number: int) -> None:
        """A stream fails, and that is the model's doing."""
        del self.streams[number]
        self.tell(number, Failure("internal", "the engine broke"))

    def beat(self, loop_age_ms: int = 0) -> None:
        self.tell(0, Beat(loop_age_ms, len(self.streams)))

    def exit(self, status: int = 1) -> None:
        """Die now; what was sent before can still be read."""
        if not self._dying:
            self._dying = True
            self._leave(Exit(status, None))

    # ---- private -----------------------------------------------------------------------------------------------

    def _leave(self, exit_: Exit) -> None:
        self.wire.flush()
        self.wire.close()
        self.exited.set_result(exit_)
        self._on_exit(self)

    def _frames(self, frames: list[bytes]) -> None:
        for frame in frames:
            if self.alive:
                header, body = split_driver_frame(frame)
                self._header(header, body)

    def _header(self, header: object, body: memoryview) -> None:
        if isinstance(header, Load):
            self.tell(0, Imported())
            self.load = _decode_order(body)
            if self.obedient:
                self.loaded()
        elif isinstance(header, Start):
            self.streams[header.id] = header.partial.count(" ")
        elif isinstance(header, Stop):
            self.streams.pop(header.id, None)
            if header.id < 0:
                self.stopped_calls.append(header.id)
        elif isinstance(header, DriverCall):
            if header.method == "probe":
                self.tell(header.id, Reply(self._probe_reply))
                return
            if header.method != "health":
                self.calls.append((header.id, header.method, bytes(body)))
                return
            self.health_calls.append(header.id)
            if self.obedient:
                self.feels("ok")
        elif isinstance(header, Drain):
            self.drained = True
            if self.obedient:
                asyncio.get_running_loop().call_soon(self.exit, 0)
