"""The bus on a real socket: who is let in, what is sent when, and clients that break the rules."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

import pytest
import zmq

from byenatos_kernel.bus import IDLE_S, MESSAGES_PER_TURN, UNREAD_LIMIT, Bus, _credentials
from byenatos_kernel.clients import WINDOW_FRAMES, ClientState
from byenatos_kernel.streams import Stream
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.frames import (
    Ack,
    Bye,
    Call,
    Cancel,
    Hello,
    Open,
    Pause,
    Refused,
    Reply,
    Welcome,
    decode_client_events,
    encode,
)
from byenatos_sdk.protocol.messages import TextDelta


class Owner:
    """Notes what clients send; stands where the kernel stands."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []
        self.left: list[tuple[ClientState, ByenatosError]] = []

    def open(self, client, header, body) -> None:
        if header.id < 0:
            raise InvalidRequest("this number is taken")
        self.seen.append(("open", header, bytes(body)))

    def call(self, client, header, body) -> None:
        if header.id < 0:
            raise InvalidRequest("this number is taken")
        self.seen.append(("call", header, body))

    def cancel(self, client, number) -> None:
        self.seen.append(("cancel", number))

    def hold(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def pause(self, client, number, *, on) -> None:
        self.seen.append(("pause", number, on))

    def gone(self, client, error) -> None:
        self.left.append((client, error))


class Served:
    """A bus on a socket of its own, and clients of stock libzmq."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="byenatos-bus-")
        self.path = Path(self.folder.name) / "kernel.sock"
        self.bus = Bus(self.path, "1.2.3")
        self.owner = Owner()
        self.bus.owner = self.owner
        self.bus.start()
        self.context = zmq.Context()
        self.connected: list[zmq.Socket] = []

    def connect(self, **options: int) -> zmq.Socket:
        client = self.context.socket(zmq.DEALER)
        client.linger = 0
        for name, value in options.items():
            client.setsockopt(getattr(zmq, name), value)
        client.connect(f"ipc://{self.path}")
        self.connected.append(client)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.connected:
            client.close()
        self.context.term()
        self.bus.close()
        self.folder.cleanup()

    @property
    def client(self) -> ClientState:
        (client,) = self.bus.clients.values()
        return client


def send(client: zmq.Socket, header: object, body: bytes = b"") -> None:
    client.send_multipart([header if isinstance(header, bytes) else encode(header), body])


async def hear(until, client: zmq.Socket) -> list[tuple]:
    """The events of the next frame."""
    await until(lambda: client.poll(0))
    return decode_client_events(client.recv())


async def greet(until, client: zmq.Socket) -> None:
    send(client, Hello((1,), ("pause",), "test"))
    ((number, welcome),) = await hear(until, client)
    assert number == 0
    assert welcome == Welcome(1, ("pause",), name="1.2.3")


async def test_a_client_is_greeted_and_its_messages_reach_the_owner(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        assert served.client.name == "test"
        assert served.client.owner == f"uid:{os.getuid()}"
        assert served.client.pid == os.getpid()
        large = os.urandom(200_000)
        send(client, Open(1, "default"), large)
        send(client, Pause(1, on=True))
        send(client, Cancel(1))
        send(client, Call(2, "status"), b"\x80")
        await until(lambda: len(served.owner.seen) == 4)
        assert served.owner.seen == [
            ("open", Open(1, "default"), large),
            ("pause", 1, True),
            ("cancel", 1),
            ("call", Call(2, "status"), b"\x80"),
        ]
        send(client, Bye())
        await until(lambda: served.owner.left)
        assert not served.bus.clients


async def test_libzmq_tells_the_credentials_of_an_ipc_peer(until):
    seen = []

    with Served() as served:
        message = served.bus._message

        def look(routing_id, header, body, extra) -> None:
            seen.append((str(header.get("Peer-Address")), _credentials(header)))
            message(routing_id, header, body, extra)

        served.bus._message = look
        await greet(until, served.connect())
    ((address, credentials),) = seen
    assert address == f"localhost:{os.getuid()}:{os.getgid()}:{os.getpid()}"
    assert credentials == (os.getuid(), os.getpid())


def raw_hello(path: Path) -> socket.socket:
    """Say hello in bare ZMTP, with the credentials that the calling process has at this moment."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
    client.sendall(greeting + b"\x04\x1c\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER")
    heard = b""
    while b"READY" not in heard:  # to libzmq a message before that is a mistake
        heard += client.recv(4096)
    hello = encode(Hello((1,)))
    client.sendall(bytes((1, len(hello))) + hello + b"\x00\x00")
    client.setblocking(False)
    return client


@pytest.mark.skipif(os.getuid() != 0, reason="only root can appear as another user")
async def test_another_user_is_not_answered_and_leaves_no_trace(until):
    with Served() as served:
        Path(served.folder.name).chmod(0o755)
        served.path.chmod(0o777)
        os.seteuid(65534)
        try:
            foreign = raw_hello(served.path)
        finally:
            os.seteuid(0)
        ours = raw_hello(served.path)
        heard = bytearray()

        def answered() -> bool:
            try:
                heard.extend(ours.recv(4096))
            except BlockingIOError:
                return False
            return b"1.2.3" in heard

        await until(answered)
        assert served.client.owner == "uid:0"
        with foreign, ours, pytest.raises(BlockingIOError):
            foreign.recv(4096)


async def test_another_major_is_refused_with_a_sentence(until):
    with Served() as served:
        client = served.connect()
        send(client, Hello((9,)))
        ((number, refused),) = await hear(until, client)
        assert number == 0
        assert "this kernel speaks protocol 1, the client [9]" in refused.reason
        assert not served.bus.clients


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ([b"\xc1", b""], "a message cannot be read"),
        ([b"\x92\x05\xa2\xff\xff", b""], "a message cannot be read"),
        ([b"\x93\x05\x01\xa2\xff\xff", b""], "a message cannot be read"),
        ([b"\x92\x06" + b"\x91" * 100_000 + b"\xc0", b""], "a message cannot be read"),
        ([encode(Hello((1,))), b"", b""], "expected messages of 2 frames, found 3"),
        ([encode(Call(-1, "status")), b""], "this number is taken"),
        ([encode(Open(-1, "default")), b""], "this number is taken"),
    ],
)
async def test_rubbish_is_refused_with_the_reason_and_the_others_go_on(until, frames, complaint):
    with Served() as served:
        good, bad = served.connect(), served.connect()
        await greet(until, good)
        await greet(until, bad)
        bad.send_multipart(frames)
        ((number, refused),) = await hear(until, bad)
        assert number == 0
        assert isinstance(refused, Refused)
        assert complaint in refused.reason
        assert len(served.bus.clients) == 1
        assert type(served.owner.left[0][1]) is InvalidRequest
        await greet(until, good)


async def test_a_message_of_one_frame_is_dropped_and_what_follows_is_read(until):
    with Served() as served:
        client = served.connect()
        client.send(b"alone")
        await greet(until, client)


async def test_more_messages_than_one_turn_takes_are_all_read_in_order(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        count = 20 * MESSAGES_PER_TURN + 1
        for number in range(count):
            send(client, Cancel(number))
        await until(lambda: len(served.owner.seen) == count)
        assert [number for _, number in served.owner.seen] == list(range(count))


async def test_a_mistake_of_the_kernel_does_not_stop_it_from_reading(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        caught = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))
        pause = served.owner.pause

        def stumble(client, number, *, on) -> None:
            pause(client, number, on=on)
            if number == 0:
                raise TypeError("a programmer's mistake")

        served.owner.pause = stumble
        for number in range(3):
            send(client, Pause(number, on=True))
        await until(lambda: len(served.owner.seen) == 3)
        assert [type(one) for one in caught] == [TypeError]


def say(served: Served, client: ClientState, text: str) -> None:
    stream = client.streams.setdefault(7, Stream(client, 7, "default"))
    stream.pending.append(text)
    stream.lag += len(text)
    client.lag += len(text)
    if not stream.dirty:
        stream.dirty = True
        client.dirty.append(stream)
    served.bus.dirty[client] = None
    served.bus.flush()


async def test_behind_a_closed_window_text_gathers_and_leaves_whole_once_it_opens(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        state = served.client
        for number in range(1, WINDOW_FRAMES + 50):
            say(served, state, f"{number} ")
        assert not state.open
        assert state.lag
        frames = 0
        for frames in range(1, WINDOW_FRAMES):
            assert await hear(until, client) == [(7, TextDelta(f"{frames} "))]
        assert frames == WINDOW_FRAMES - 1, "the welcome took the first place in the window"
        send(client, Ack(WINDOW_FRAMES))
        rest = "".join(f"{number} " for number in range(WINDOW_FRAMES, WINDOW_FRAMES + 50))
        assert await hear(until, client) == [(7, TextDelta(rest))]
        assert state.lag == 0
        assert len(state.in_flight) == 1


async def test_a_client_that_left_without_a_word_is_noticed_by_the_next_send(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        state = served.client
        client.close()

        def gone() -> bool:
            served.bus.tell(state, 1, Reply(b""))
            return bool(served.owner.left)

        await until(gone)
        assert served.owner.left[0][1].code == "cancelled"
        assert not served.bus.clients


async def test_a_client_that_acknowledges_what_it_never_read_loses_its_place_and_nobody_else_notices(until):
    with Served() as served:
        good, liar = served.connect(), served.connect(RCVHWM=1, RCVBUF=1)
        await greet(until, liar)
        state = served.client
        await greet(until, good)
        other = next(one for one in served.bus.clients.values() if one is not state)
        text = "x" * 10_000

        def overrun() -> bool:
            for _ in range(100):
                say(served, state, text)
                state.acknowledge(WINDOW_FRAMES)
                served.bus.tell(other, 1, Reply(b""))
                other.acknowledge(WINDOW_FRAMES)
            return state.gone

        await until(overrun)
        assert [client for client, _ in served.owner.left] == [state]
        await hear(until, good)


async def test_a_client_that_asks_on_without_reading_is_refused_at_a_bound(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        state = served.client
        for _ in range(UNREAD_LIMIT + WINDOW_FRAMES + 2):
            served.bus.tell(state, 5, Reply(b""))
        state.in_flight.extend([1] * WINDOW_FRAMES)
        send(client, Call(6, "status"))
        await until(lambda: served.owner.left)
        assert "wait to be read" in served.owner.left[0][1].message
        assert await hear(until, client) == [(0, Refused(served.owner.left[0][1].message))]


async def test_a_client_whose_process_is_killed_is_gone_at_once(until):
    with Served() as served:
        script = (
            "import sys, zmq\n"
            "from byenatos_sdk.protocol.frames import Hello, encode\n"
            "client = zmq.Context().socket(zmq.DEALER)\n"
            "client.connect(sys.argv[1])\n"
            "client.send_multipart([encode(Hello((1,))), b''])\n"
            "client.recv()\n"
            "client.recv()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script, f"ipc://{served.path}"])
        try:
            await until(lambda: served.bus.clients)
            assert served.client.pid == process.pid
        finally:
            process.kill()
            process.wait()
        await until(lambda: served.owner.left)
        assert not served.bus._watched


async def test_a_silent_client_is_forgotten_and_entered_again_when_it_speaks(until):
    with Served() as served:
        idle, busy = served.connect(), served.connect()
        await greet(until, idle)
        first = served.client
        await greet(until, busy)
        second = next(one for one in served.bus.clients.values() if one is not first)
        second.calls[3] = "events"
        for state in (first, second):
            state.last_seen -= 2 * IDLE_S
        served.bus._sweep_timer.cancel()
        served.bus._sweep()
        assert list(served.bus.clients.values()) == [second]
        await greet(until, idle)
        assert len(served.bus.clients) == 2


async def test_a_closed_bus_leaves_no_socket_and_takes_late_words_quietly(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        state = served.client
        served.bus.tell(state, 1, Reply(b"last"))
        served.bus.close()
        assert not served.path.exists()
        assert await hear(until, client) == [(1, Reply(b"last"))]
        served.bus.tell(state, 2, Reply(b"too late"))
        served.bus.flush()
