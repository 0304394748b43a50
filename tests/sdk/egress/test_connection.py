"""One connection, against the broker's end of it, which the test plays."""

import asyncio
import socket
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.egress import connection as module
from byenatos_sdk.egress.connection import HIGH_WATER, PIECE, Closed, Connection
from byenatos_sdk.egress.framing import Violation

CEILING_S = 30
HEAD = b"HTTP/1.1 200 \r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Ends:
    """Both ends. ``free`` and ``gone`` are what the connection said to its pool."""

    def __init__(self):
        self.free = []
        self.gone = asyncio.Event()

    async def connect(self):
        ours, its = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, self.connection = await loop.create_unix_connection(
            lambda: Connection(self.free.append, lambda _: self.gone.set()), sock=ours
        )
        self.reader, self.writer = await asyncio.open_connection(sock=its)
        return self

    @property
    def due(self):
        return asyncio.get_running_loop().time() + CEILING_S

    async def whole(self):
        await self.connection.head(self.due)
        return await self.all()

    async def all(self):
        data = b""
        while piece := await self.connection.read(self.due):
            data += piece
        return data


@asynccontextmanager
async def ends():
    async with asyncio.timeout(2 * CEILING_S):
        both = await Ends().connect()
        try:
            yield both
        finally:
            both.connection.abort()
            both.writer.transport.abort()
            await both.gone.wait()


def run(main):
    asyncio.run(main)


def test_a_request_is_answered_and_the_connection_is_free_for_the_next():
    async def main():
        async with ends() as both:
            for number in range(3):
                assert both.connection.usable
                both.connection.send(b"GET / HTTP/1.1\r\n\r\n")
                assert await both.reader.readuntil(b"\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
                assert not both.connection.usable
                both.writer.write(HEAD + b"5\r\nhello\r\n0\r\n\r\n")
                head = await both.connection.head(both.due)
                assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
                assert await both.all() == b"hello"
                both.connection.leave()
                assert len(both.free) == number + 1

    run(main())


def test_a_large_request_goes_up_as_fast_as_it_is_taken_and_waits_in_no_buffer():
    async def main():
        async with ends() as both:
            body = bytes(range(256)) * (20 * PIECE // 256)
            both.connection.send(b"head", body)
            transport = both.connection._transport
            taken = b""
            while len(taken) < len(body) + 4:
                assert transport.get_write_buffer_size() <= 2 * PIECE
                taken += await both.reader.read(PIECE)
            assert taken == b"head" + body
            assert next(both.connection._unsent, None) is None
            both.writer.write(HEAD + b"0\r\n\r\n")
            await both.whole()
            both.connection.leave()
            assert both.free

    run(main())


def test_a_connection_whose_request_was_answered_before_it_was_sent_is_not_used_again():
    async def main():
        async with ends() as both:
            both.connection.send(b"head", bytes(20 * PIECE))
            both.writer.write(b"HTTP/1.1 413 \r\ncontent-length: 2\r\n\r\nno")
            assert await both.whole() == b"no"
            both.connection.leave()
            assert not both.connection.usable
            assert not both.free

    run(main())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.lists(st.integers(1, 300), max_size=8))
def test_an_answer_that_is_cut_anywhere_reads_the_same(pieces, cuts):
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            data = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
            places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
            for start, end in pairwise(places):
                both.connection.data_received(data[start:end])
            assert (await both.connection.head(both.due)).status == 200
            assert await both.all() == b"".join(pieces)

    run(main())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([HEAD, b"0\r\n\r\n", b"HTTP/1.1 100 \r\n\r\n"]), max_size=6))
def test_rubbish_ends_the_connection_and_nothing_else(pieces):
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            for piece in pieces:
                both.connection.data_received(piece)
            both.writer.transport.abort()
            try:
                await both.connection.head(both.due)
                await both.all()
            except (Violation, Closed):
                pass
            await both.gone.wait()

    run(main())


def test_interim_answers_are_passed_over():
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.writer.write(b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 429 \r\ncontent-length: 2\r\n\r\nno")
            assert (await both.connection.head(both.due)).status == 429
            assert await both.all() == b"no"

    run(main())


@pytest.mark.parametrize(("data", "begun"), [(b"", False), (b"HTTP/1.1 200", False), (HEAD + b"5\r\nhel", True)])
def test_a_connection_that_breaks_says_whether_the_answer_had_begun(data, begun):
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.writer.write(data)
            both.writer.close()
            with pytest.raises(Closed) as caught:
                await both.whole()
            assert caught.value.begun is begun
            both.connection.leave()
            assert not both.free
            assert not both.connection.usable

    run(main())


def test_what_came_before_the_break_is_read_first():
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.writer.write(HEAD + b"5\r\nhello\r\n5\r\nwor")
            both.writer.close()
            await both.gone.wait()
            assert await both.connection.read(both.due) == b"hellowor"
            with pytest.raises(Closed):
                await both.connection.read(both.due)

    run(main())


def test_a_deadline_that_passes_is_a_timeout_and_one_that_moves_is_not():
    async def main():
        async with ends() as both:
            loop = asyncio.get_running_loop()
            both.connection.send(b"x")
            with pytest.raises(TimeoutError):
                await both.connection.head(loop.time() + 0.01)
            both.writer.write(HEAD)
            await both.connection.head(both.due)
            waiting = asyncio.ensure_future(both.connection.read(loop.time() + 0.01))
            with pytest.raises(TimeoutError):
                await waiting
            later = asyncio.ensure_future(both.connection.read(both.due))
            await asyncio.sleep(0)
            both.connection._look()  # the timer of an earlier deadline rings
            both.writer.write(b"2\r\nok\r\n")
            assert await later == b"ok"

    run(main())


def test_leaving_an_answer_that_goes_on_breaks_it_off_and_one_that_ends_keeps_the_connection(monkeypatch):
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.writer.write(HEAD + b"2\r\nok\r\n")
            await both.connection.head(both.due)
            await both.connection.read(both.due)
            both.connection.leave()
            assert not both.free
            both.writer.write(b"0\r\n\r\n")
            while not both.free:
                await asyncio.sleep(0)
            both.connection.send(b"x")
            both.writer.write(HEAD)
            await both.connection.head(both.due)
            both.connection.leave()
            assert await both.reader.read() == b"xx"  # it hung up

    monkeypatch.setattr(module, "DRAIN_S", 0.05)
    run(main())


def test_an_answer_that_was_left_and_does_not_end_is_bounded():
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.writer.write(HEAD)
            await both.connection.head(both.due)
            both.connection.leave()
            piece = b"4000\r\n" + bytes(0x4000) + b"\r\n"
            for _ in range(module.DRAIN_BYTES // len(piece) + 2):
                both.writer.write(piece)
            await both.gone.wait()
            assert not both.free

    run(main())


def test_what_nobody_reads_is_not_taken_in_without_end():
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.writer.transport.set_write_buffer_limits(high=1 << 20)
            both.writer.write(HEAD)
            await both.connection.head(both.due)
            piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            sent = 0
            while not both.writer.transport.get_write_buffer_size() > 1 << 20:
                both.writer.write(piece)
                sent += 0x10000
                await asyncio.sleep(0)
            assert both.connection._held < HIGH_WATER + (1 << 20)
            both.writer.write(b"0\r\n\r\n")
            assert len(await both.all()) == sent

    run(main())


def test_what_comes_unasked_ends_the_connection():
    async def main():
        async with ends() as both:
            both.writer.write(b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n")
            await both.gone.wait()
            assert not both.connection.usable

    run(main())


def test_aborting_is_heard_at_the_other_end_at_once():
    async def main():
        async with ends() as both:
            both.connection.send(b"x")
            both.connection.abort()
            assert await both.reader.read() == b"x"

    run(main())
