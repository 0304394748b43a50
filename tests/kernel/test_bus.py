"""The bus on a real socket: who is let in, what is sent when, and clients that break the rules."""

import asyncio
import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import zmq

from byenatos_kernel import bus as bus_module
from byenatos_kernel.bus import INTRODUCTION_S, UNREAD_BYTES, UNREAD_LIMIT, Bus
from byenatos_kernel.clients import WINDOW_FRAMES, ClientState
from byenatos_kernel.streams import Stream
from byenatos_sandbox.channel import PASS_RIGHTS
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
        (client,) = self.bus.clients
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


async def test_descriptors_that_a_front_sends_along_are_refused_where_the_system_can():
    ours, its = socket.socketpair()
    with Served() as served, its:
        served.bus.adopt(ours)
        try:
            ours.getsockopt(socket.SOL_SOCKET, PASS_RIGHTS)
        except OSError:
            pytest.skip("this system has no SO_PASSRIGHTS")
        with pytest.raises(PermissionError):
            socket.send_fds(its, [b"x"], [its.fileno()])


def raw_hello(path: Path) -> socket.socket:
    """Say hello in bare ZMTP, with the credentials that the calling process has at this moment."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
    client.sendall(greeting + b"\x04\x1c\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER")
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
        with foreign, ours, pytest.raises(ConnectionResetError):
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
        ([b"\x92\x06" + b"\x91" * 60_000 + b"\xc0", b""], "a message cannot be read"),
        ([encode(Hello((1,))), b"", b""], "expected messages of 2 frames, found flags 0x1 at frame 2"),
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


async def test_a_first_message_of_one_frame_is_refused_with_the_reason(until):
    with Served() as served:
        client = served.connect()
        client.send(b"alone")
        ((number, refused),) = await hear(until, client)
        assert number == 0
        assert "expected messages of 2 frames" in refused.reason
        assert not served.bus.clients


async def test_more_messages_than_one_read_takes_are_all_read_in_order(until):
    with Served() as served:
        client = served.connect(SNDHWM=0)
        await greet(until, client)
        count = 1281
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
        assert [event[1] for event in served.owner.seen] == [0, 1, 2]
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


async def test_a_client_that_left_without_a_word_is_noticed_at_once(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        client.close()
        await until(lambda: served.owner.left)
        assert served.owner.left[0][1].code == "cancelled"
        assert not served.bus.clients


async def test_a_client_that_acknowledges_what_it_never_read_loses_its_place_and_nobody_else_notices(until):
    with Served() as served:
        good, liar = served.connect(), served.connect(RCVHWM=1, RCVBUF=1)
        await greet(until, liar)
        state = served.client
        await greet(until, good)
        other = next(one for one in served.bus.clients if one is not state)
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
        assert not served.bus.clients


async def test_a_connection_that_never_introduces_itself_is_closed_in_time_and_a_client_is_not(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        served.client.since -= 2 * INTRODUCTION_S
        with socket.socket(socket.AF_UNIX) as late, socket.socket(socket.AF_UNIX) as early:
            late.connect(str(served.path))
            await until(lambda: served.bus._strangers)
            (stranger,) = served.bus._strangers
            stranger.since -= 2 * INTRODUCTION_S
            early.connect(str(served.path))
            await until(lambda: len(served.bus._strangers) == 2)
            served.bus._sweep_timer.cancel()
            served.bus._sweep()
            late.setblocking(False)
            early.setblocking(False)
            assert late.recv(100)[:1] == b"\xff"
            late.recv(100)
            assert late.recv(100) == b""
            assert stranger not in served.bus._strangers
            assert len(served.bus._strangers) == 1
        await greet(until, client)


async def test_those_who_connect_and_leave_at_once_leave_nothing_behind(until):
    with Served() as served:
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(str(served.path))
        client = served.connect()
        await greet(until, client)
        await until(lambda: not served.bus._strangers)
        send(client, Call(6, "status"))
        await until(lambda: served.owner.seen)
        assert len(served.owner.left) == 200
        assert served.client not in [state for state, _ in served.owner.left]


async def test_replies_that_nobody_reads_are_bounded_in_bytes_too(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        state = served.client
        state.in_flight.extend([1] * WINDOW_FRAMES)
        for _ in range(UNREAD_BYTES // (1 << 20) + 1):
            served.bus.tell(state, 5, Reply(bytes(1 << 20)))
        send(client, Call(6, "status"))
        await until(lambda: served.owner.left)
        assert "wait to be read" in served.owner.left[0][1].message


async def test_connections_beyond_the_limit_are_closed_and_those_within_go_on(until):
    with Served() as served:
        client = served.connect()
        await greet(until, client)
        served.bus._most = 3
        with ExitStack() as connections:
            many = [connections.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
            for one in many:
                one.connect(str(served.path))
                one.setblocking(False)

            def refused() -> int:
                count = 0
                for one in many:
                    with contextlib.suppress(BlockingIOError):
                        count += one.recv(1, socket.MSG_PEEK) == b""
                return count

            await until(lambda: refused() == 3)
            send(client, Call(6, "status"))
            await until(lambda: served.owner.seen)
            assert refused() == 3
            assert served.owner.left == []
            await greet(until, client)
        await until(lambda: not served.bus._strangers)
        another = served.connect()
        await greet(until, another)


async def test_a_system_without_descriptors_is_waited_for(until, monkeypatch):
    with Served() as served:
        monkeypatch.setattr(bus_module, "ACCEPT_AGAIN_S", 0.001)
        listener = served.bus._listener
        short = Short(listener, 3)
        served.bus._listener = short
        client = served.connect()
        await greet(until, client)
        assert short.missing == 0
        served.bus._listener = listener


class Short:
    """A listener whose system has run out of descriptors, ``missing`` times."""

    def __init__(self, listener: socket.socket, missing: int) -> None:
        self.missing = missing
        self._listener = listener

    def accept(self) -> tuple[socket.socket, object]:
        if self.missing:
            self.missing -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._listener.accept()

    def fileno(self) -> int:
        return self._listener.fileno()


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
