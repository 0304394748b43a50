"""The kernel's end of a connection, against raw bytes and against stock libzmq as drivers and clients use it."""

import itertools
import os
import socket
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Self

import msgspec
import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from byenatos_kernel.channel import CLIENT, DRIVER, READ_BYTES, Channel, ChannelFull

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PAIR"
HELLO = GREETING + READY
OPENING = len(HELLO)
"""Bytes that the channel says before its first message."""
LIMIT = 5000


class Ends:
    """A channel under test, and the raw socket of a peer that may do anything."""

    def __init__(self, *limits: int) -> None:
        peer = msgspec.structs.replace(DRIVER, frame_limits=limits or (LIMIT,))
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.frames: list[bytes] = []
        self.reasons: list[str] = []
        self.channel = Channel(ours, self.frames.extend, self.reasons.append, peer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.peer.close()

    def feed(self, data: bytes) -> None:
        """Have the channel read exactly these bytes next."""
        position = 0
        while position < len(data) and not self.channel._closed:
            position += self.peer.send(data[position : position + READ_BYTES])
            self.channel._readable()

    async def heard(self, until, size: int) -> bytes:
        """The first ``size`` bytes that the peer gets."""
        data = bytearray()

        def enough() -> bool:
            try:
                while len(data) < size:
                    data.extend(self.peer.recv(size - len(data)))
            except BlockingIOError:
                return False
            return True

        await until(enough)
        return bytes(data)


def frame(body: bytes, *, long: bool = False, flags: int = 0) -> bytes:
    if long or len(body) > 255:
        return bytes((flags | 2,)) + struct.pack(">Q", len(body)) + body
    return bytes((flags, len(body))) + body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


messages = st.lists(st.tuples(st.binary(max_size=700), st.booleans()), max_size=8)
places = st.lists(st.integers(0, 1 << 16), max_size=12)


@settings(deadline=None, max_examples=150)
@given(messages, places)
@example([(b"", True), (b"x" * 255, False), (b"x" * 256, False)], list(range(120)))
def test_messages_cut_anywhere_arrive_whole_and_in_order(run, sent, where):
    async def main() -> None:
        with Ends() as ends:
            for piece in cut(HELLO + b"".join(frame(body, long=long) for body, long in sent), where):
                ends.feed(piece)
            assert ends.frames == [body for body, _ in sent]
            assert not ends.channel.held
            assert not ends.reasons

    run(main())


pairs = st.lists(
    st.tuples(st.binary(max_size=300), st.binary(max_size=700), st.booleans(), st.integers(0, 2)), max_size=6
)


@settings(deadline=None, max_examples=150)
@given(pairs, places)
def test_messages_of_two_frames_arrive_as_pairs_whatever_is_cut_and_whatever_beats_between(run, sent, where):
    beat = frame(b"\x04PING\x00\x00", flags=4)

    async def main() -> None:
        with Ends(LIMIT, LIMIT) as ends:
            data = HELLO
            for header, body, long, beats in sent:
                gaps = [beat * (beats > gap) for gap in range(2)]
                data += gaps[0] + frame(header, long=long, flags=1) + gaps[1] + frame(body, long=long)
            for piece in cut(data, where):
                ends.feed(piece)
                assert len(ends.frames) % 2 == 0
            assert ends.frames == [part for header, body, _, _ in sent for part in (header, body)]
            assert not ends.channel.held
            assert not ends.reasons

    run(main())


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (frame(b"alone"), "messages of 2 frames, found flags 0x0 at frame 1"),
        (frame(b"a", flags=1) + frame(b"b", flags=1), "messages of 2 frames, found flags 0x1 at frame 2"),
        (frame(b"a", flags=1) + frame(b"b", long=True, flags=1), "found flags 0x3 at frame 2"),
        (frame(bytes(101), long=True, flags=1), "at most 100 bytes, found one of 101"),
        (frame(b"a", flags=1) + frame(bytes(301)), "at most 300 bytes, found one of 301"),
    ],
)
async def test_a_message_of_another_number_of_frames_ends_the_connection_and_those_before_it_count(data, complaint):
    with Ends(100, 300) as ends:
        ends.feed(HELLO + frame(b"head", flags=1) + frame(b"body"))
        ends.feed(data)
        assert ends.frames == [b"head", b"body"]
        assert ends.channel.violated
        assert complaint in ends.reasons[0]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([b"", GREETING, HELLO, HELLO + b"\x00\x01x"]),
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda flags, size, rest: bytes((flags,)) + struct.pack(">Q", size) + rest,
            st.integers(0, 255),
            st.integers(0, 2**64 - 1),
            st.binary(max_size=6000),
        ),
    ),
    places,
)
@example(HELLO, frame(bytes(LIMIT + 1)), [])
@example(HELLO, frame(bytes(4097), flags=4), [])
@example(HELLO, frame(b"x", flags=1), [])
def test_no_bytes_escape_the_reader_or_make_it_hold_more_than_a_frame(run, prefix, rubbish, where):
    async def main() -> None:
        verdicts = []
        for pieces in ([prefix + rubbish], cut(prefix + rubbish, where)):
            with Ends() as ends:
                for piece in pieces:
                    ends.feed(piece)
                    assert ends.channel.held <= LIMIT + 9
                verdicts.append((ends.channel.violated, len(ends.reasons)))
                assert ends.channel.violated is bool(ends.reasons)
                assert ends.channel.violated is ends.channel._closed
        assert verdicts[0] == verdicts[1], "where the bytes were cut changed what they mean"

    run(main())


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n".ljust(64, b"."), "expected a ZMTP 3 greeting"),
        (GREETING.replace(b"NULL", b"PLAI"), "NULL mechanism"),
        (GREETING[:10] + b"\x02" + GREETING[11:], "expected a ZMTP 3 greeting"),
        (GREETING + frame(b"early"), "expected READY before the first message"),
        (GREETING + frame(b"\x05ERROR\x00", flags=4), "expected the READY command"),
        (HELLO + b"\x01\x01x", "messages of a single frame"),
        (HELLO + b"\x03" + bytes(7) + b"\x01x", "messages of a single frame"),
        (HELLO + b"\x08\x01x", "found flags 0x8"),
        (HELLO + frame(bytes(LIMIT + 1)), f"at most {LIMIT} bytes, found one of {LIMIT + 1}"),
        (HELLO + b"\x02" + b"\xff" * 8, "found one of 18446744073709551615"),
        (HELLO + frame(bytes(5000), flags=4), "at most 4096 bytes"),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_cut_off_with_the_reason(data, complaint):
    with Ends() as ends:
        ends.feed(data)
        assert ends.channel.violated
        assert len(ends.reasons) == 1
        assert complaint in ends.reasons[0]
        assert not ends.frames


async def test_a_ping_is_answered_with_its_context(until):
    with Ends() as ends:
        ends.feed(HELLO + frame(b"\x04PING\x00\x0acontext", flags=4) + frame(b"\x07UNKNOWN", flags=4) + frame(b"body"))
        assert ends.frames == [b"body"]
        ours = await ends.heard(until, OPENING + 2 + 12)
        assert ours.endswith(b"\x04\x0c\x04PONGcontext")


async def test_a_flood_of_pings_from_a_peer_that_does_not_read_grows_nothing():
    with Ends() as ends:
        ends.feed(HELLO)
        ends.channel.send(bytes(8 << 20))
        ends.channel.flush()
        waiting = len(ends.channel._out)
        for _ in range(50):
            ends.feed(frame(b"\x04PING\x00\x00", flags=4) * 1000)
        assert len(ends.channel._out) == waiting
        assert not ends.reasons


async def test_what_the_socket_does_not_take_at_once_arrives_in_order(until):
    sent = [bytes((number % 256,)) * (number * 37 % 5000) for number in range(1500)] + [bytes(3 << 20)]
    expected = b"".join(map(frame, sent))
    with Ends() as ends:
        for body in sent:
            ends.channel.send(body)
        ends.channel.flush()
        assert ends.channel.buffered
        assert (await ends.heard(until, OPENING + len(expected)))[OPENING:] == expected
        await until(lambda: not ends.channel.buffered)
        ends.channel.send(b"afterwards")
        ends.channel.send(b"")
        ends.channel.flush()
        assert not ends.channel._out
        assert await ends.heard(until, 14) == b"\x00\x0aafterwards\x00\x00"


async def test_a_queue_that_nobody_reads_is_refused_at_its_limit_and_goes_on_once_it_is_read(until):
    body = bytes(4 << 20)
    with Ends() as ends:
        most = DRIVER.write_limit // len(body) - 1
        for _ in range(most):
            ends.channel.send(body)
        with pytest.raises(ChannelFull):
            ends.channel.send(body + body)
        rest = bytes(DRIVER.write_limit - ends.channel.buffered)
        ends.channel.send(rest)
        with pytest.raises(ChannelFull):
            ends.channel.send(b"x")
        ends.channel.send(b"the end", urgent=True)
        await ends.heard(until, OPENING + (9 + len(body)) * most + 9 + len(rest) + 9)
        await until(lambda: not ends.channel.buffered)
        ends.channel.send(b"again")
        assert await ends.heard(until, 7) == b"\x00\x05again"


async def test_the_end_of_the_peer_is_told_once_and_close_may_be_repeated(until):
    with Ends() as ends:
        ends.feed(HELLO)
        await ends.heard(until, OPENING)
        ends.peer.close()
        await until(lambda: ends.reasons)
        ends.channel.close()
        ends.channel.close()
        ends.channel.send(b"to nobody")
        ends.channel.flush()
        ends.channel.drain_input()
        assert ends.reasons == ["the driver closed its channel"]
        assert not ends.channel.violated


async def test_what_a_peer_said_before_it_left_is_read_although_writing_to_it_failed_first(until):
    with Ends() as ends:
        ends.feed(HELLO)
        ends.peer.send(frame(b"the last words"))
        ends.peer.close()
        ends.channel.send(b"x")
        ends.channel.flush()
        ends.channel.send(b"y")
        ends.channel.flush()
        assert not ends.reasons
        assert not ends.channel.buffered
        await until(lambda: ends.reasons)
        assert ends.frames == [b"the last words"]
        assert len(ends.reasons) == 1


async def test_a_peer_that_has_left_already_is_told_of_after_the_channel_is_made(until):
    ours, theirs = socket.socketpair()
    theirs.close()
    reasons: list[str] = []
    channel = Channel(ours, lambda _: None, reasons.append)
    assert not reasons, "its owner does not know it yet"
    await until(lambda: reasons)
    channel.close()


async def test_a_frame_that_comes_in_the_smallest_pieces_takes_no_more_memory_than_its_bytes():
    with Ends(1 << 20) as ends:
        ends.feed(HELLO)
        ends.feed(b"\x02" + struct.pack(">Q", 1 << 20))
        tracemalloc.start()
        try:
            for _ in range(1 << 15):
                ends.feed(b"xx")
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert ends.channel.held == 9 + (1 << 16)
        assert held < 4 << 16


async def test_a_peer_that_broke_the_protocol_hears_why(until):
    with Ends() as ends:
        ends.feed(HELLO)
        await ends.heard(until, OPENING)

        def say_why(reason: str) -> None:
            ends.channel.send(reason.encode())
            ends.channel.flush()

        ends.channel._on_closed = say_why
        ends.feed(b"\x08\x00")
        assert b"found flags 0x8" in ends.peer.recv(1000)
        assert ends.peer.recv(1000) == b""


async def test_closing_with_patience_delivers_what_waits():
    with Ends() as ends:
        ends.feed(HELLO)
        body = bytes(2 << 20)
        ends.channel.send(body)
        ends.channel.flush()
        assert ends.channel.buffered
        heard = bytearray()

        def read() -> None:
            ends.peer.setblocking(True)
            while data := ends.peer.recv(1 << 20):
                heard.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        ends.channel.close(30.0)
        reader.join()
        assert heard[OPENING:] == frame(body)


async def test_after_close_nothing_is_called_back():
    with Ends() as ends:
        ends.feed(HELLO)
        ends.peer.send(frame(b"late"))
        ends.channel.close()
        ends.channel.drain_input()
        assert not ends.frames
        assert not ends.reasons


async def test_what_a_dead_driver_had_still_written_is_taken_in():
    with Ends(1 << 20) as ends:
        ends.feed(HELLO)
        written = 0
        for number in range(10_000):
            try:
                if ends.peer.send(frame(number.to_bytes(4, "big"))) < 6:
                    break
            except BlockingIOError:
                break
            written += 1
        ends.peer.close()
        ends.channel.drain_input()
        assert ends.frames == [number.to_bytes(4, "big") for number in range(written)]
        assert len(ends.reasons) == 1


# ---- stock libzmq, as in a driver's process ---------------------------------------------------------------------


class Driver:
    """A libzmq PAIR on an inherited listening descriptor, connected to before it binds, as the launcher does it."""

    def __init__(self, folder: Path, heartbeat_ms: int = 0) -> None:
        path = str(folder / "channel")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(1)
        self.connected = socket.socket(socket.AF_UNIX)
        self.connected.connect(path)
        Path(path).unlink()
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
        self.socket.setsockopt(zmq.USE_FD, listening.detach())
        self.socket.bind(f"ipc://{path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.context.term()


async def test_stock_libzmq_and_the_channel_understand_each_other(tmp_path, until):
    sizes = [0, 1, 255, 256, 70_000, 1 << 20]
    frames: list[bytes] = []
    reasons: list[str] = []
    with Driver(tmp_path) as driver:
        channel = Channel(driver.connected, frames.extend, reasons.append)
        await until(lambda: driver.socket.poll(0, zmq.POLLOUT))
        for size in sizes:
            driver.socket.send(b"\x5a" * size)
        await until(lambda: frames)  # libzmq hangs up on who speaks before it has
        for size in sizes:
            channel.send(os.urandom(1) * size)
        heard: list[bytes] = []

        def take() -> bool:
            while driver.socket.poll(0):
                heard.append(driver.socket.recv())
            return len(heard) == len(sizes)

        await until(take)
        await until(lambda: len(frames) == len(sizes))
        assert [len(body) for body in heard] == sizes
        assert frames == [b"\x5a" * size for size in sizes]
        driver.socket.send_multipart([b"one", b"two"])
        await until(lambda: reasons)
        assert channel.violated
        assert len(frames) == len(sizes)


class Beaten(Channel):
    """A channel that counts the commands that it answers."""

    __slots__ = ("commands",)

    def _answer(self, command: bytes) -> None:
        self.commands = getattr(self, "commands", 0) + 1
        super()._answer(command)


async def test_libzmq_finds_the_channel_alive_by_its_heartbeats(tmp_path, until):
    frames: list[bytes] = []
    reasons: list[str] = []
    with Driver(tmp_path, heartbeat_ms=5) as driver:
        channel = Beaten(driver.connected, frames.extend, reasons.append)
        await until(lambda: getattr(channel, "commands", 0) > 5)
        driver.socket.send(b"still here")
        await until(lambda: frames)
        assert not reasons
        channel.close()


async def test_a_dealer_of_stock_libzmq_and_the_channel_understand_each_other(tmp_path, until):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "clients"))
    listening.listen(1)
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.setsockopt(zmq.ROUTING_ID, b"i" * 255)  # makes a READY that needs a long length
    dealer.connect(f"ipc://{tmp_path}/clients")
    connected, _ = listening.accept()
    frames: list[bytes] = []
    reasons: list[str] = []
    channel = Channel(connected, frames.extend, reasons.append, CLIENT)
    sent = [part for size in (0, 1, 255, 256, 1 << 20) for part in (b"h" * min(size, 1000), b"b" * size)]
    for part in range(0, len(sent), 2):
        dealer.send_multipart(sent[part : part + 2])
    await until(lambda: len(frames) == len(sent))
    assert frames == sent
    channel.send(b"answer")
    await until(lambda: dealer.poll(0))
    assert dealer.recv() == b"answer"
    dealer.send_multipart([b"one", b"two", b"three"])
    await until(lambda: reasons)
    assert channel.violated
    dealer.close()
    context.term()
    listening.close()
