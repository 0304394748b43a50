"""The server over real sockets, with handlers that are scripted: framing, order, deadlines, and who leaves when."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from http_front.exchange import Request, Response, Stream

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGE = b"x" * (8 << 20)


def post(body: bytes, *more: bytes, path: bytes = b"/") -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"host: localhost", b"content-length: %d" % len(body), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def echo(request: Request) -> Response:
    return Response(request.method.encode() + b" " + request.target.encode() + b" " + request.body, 200, "text/plain")


class Script:
    """A handler whose answers the test holds back; it tells what became of them."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.arrived = asyncio.Event()
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.taken = 0
        self.closed = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def stream(self, request: Request) -> Stream:
        self.asked.append(request)
        self.arrived.set()
        return Stream(self._pieces(), "text/event-stream")

    async def whole(self, request: Request) -> Response:
        self.asked.append(request)
        self.arrived.set()
        try:
            piece = await self.pieces.get()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        assert isinstance(piece, bytes)
        return Response(piece)

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            while (piece := await self.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                self.taken += 1
                yield piece
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.closed.set()


# ---- framing --------------------------------------------------------------------------------------------------------


async def test_requests_in_one_packet_are_answered_in_their_order(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(b"".join(post(b"%d" % number) for number in range(50)))
        for number in range(50):
            assert (await client.answer()).body == b"POST / %d" % number


async def test_a_request_may_come_byte_by_byte(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        for byte in post(b"abc"):
            await client.send(bytes([byte]))
        assert (await client.answer()).body == b"POST / abc"


async def test_a_connection_is_kept_and_closed_as_the_client_says(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(GET)
        assert "connection" not in (await client.answer()).headers
        await client.send(GET.replace(b"host", b"connection: close\r\nhost"))
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""


async def test_http_1_0_gets_no_chunks_and_its_connection_is_closed_unless_it_asks(serving: Any) -> None:
    script = Script()
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "keep-alive"
        await client.send(b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""
    async with serving(script.stream) as served:
        for piece in (b"one", b"two", None):
            script.pieces.put_nowait(piece)
        answer = await served.ask(b"GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n")
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body == b"onetwo"


async def test_head_is_answered_by_the_head_of_the_answer_alone(serving: Any) -> None:
    script = Script()
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(GET.replace(b"GET", b"HEAD") + GET)
        assert (await client.answer(bodiless=True)).headers["content-length"] == str(len(b"HEAD / "))
        assert (await client.answer()).body == b"GET / "
    async with serving(script.stream) as served:
        client = await served.connect()
        await client.send(GET.replace(b"GET", b"HEAD") + GET)
        assert (await client.answer(bodiless=True)).headers["transfer-encoding"] == "chunked"
        script.pieces.put_nowait(b"piece")
        script.pieces.put_nowait(None)
        assert (await client.answer()).body == b"piece"


async def test_an_answer_without_content_has_no_length(serving: Any) -> None:
    async def nothing(_: Request) -> Response:
        return Response(status=204)

    async with serving(nothing) as served:
        client = await served.connect()
        await client.send(GET + GET)
        for _ in range(2):
            answer = await client.answer(bodiless=True)
            assert answer.status == 204
            assert "content-length" not in answer.headers


async def test_a_header_of_an_answer_stays_one_line(serving: Any) -> None:
    async def split(_: Request) -> Response:
        return Response(b"", headers={"x-name": "a\r\nset-cookie: b"})

    async with serving(split) as served:
        assert "set-cookie" not in (await served.ask(GET)).headers


async def test_pieces_are_chunks_and_empty_ones_do_not_end_the_answer(serving: Any) -> None:
    script = Script()
    async with serving(script.stream) as served:
        client = await served.connect()
        await client.send(GET)
        script.pieces.put_nowait(b"one")
        assert (await client.head()).headers["transfer-encoding"] == "chunked"
        assert await client.chunk() == b"one"
        for piece in (b"", b"two", None):
            script.pieces.put_nowait(piece)
        assert await client.chunk() == b"two"
        assert await client.chunk() == b""
        await script.closed.wait()


class Known:
    """Pieces that know which of them is the last one; another one is not there to be asked for."""

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)
        self.closed = False

    @property
    def over(self) -> bool:
        return not self.left

    def __aiter__(self) -> "Known":
        return self

    async def __anext__(self) -> bytes:
        return self.left.pop(0)

    async def aclose(self) -> None:
        self.closed = True


async def test_the_end_goes_with_the_piece_that_is_known_to_be_the_last(serving: Any) -> None:
    made: list[Known] = []

    async def answer(_: Request) -> Stream:
        made.append(Known(b"one", b"two"))
        return Stream(made[-1], "text/event-stream")

    async with serving(answer) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(GET)
            assert (await client.answer()).body == b"onetwo"
    assert [one.closed for one in made] == [True, True]


# ---- expect ---------------------------------------------------------------------------------------------------------


async def test_a_client_that_waits_is_told_to_send_its_body(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        whole = post(b"abc", b"expect: 100-continue")
        await client.send(whole[:-3])
        assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
        await client.send(b"abc")
        assert (await client.answer()).body == b"POST / abc"


async def test_a_body_that_is_too_large_is_refused_instead_of_asked_for(serving: Any) -> None:
    async with serving(echo, body_bytes=2) as served:
        client = await served.connect()
        await client.send(post(b"abc", b"expect: 100-continue")[:-3])
        assert (await client.answer()).status == 413


async def test_what_tells_a_client_to_send_on_never_gets_into_the_answer_before(serving: Any) -> None:
    script = Script()
    async with serving(script.stream) as served:
        client = await served.connect()
        await client.send(GET + post(b"abc", b"expect: 100-continue")[:-3])
        await script.arrived.wait()
        for piece in (b"one", b"two", None):
            script.pieces.put_nowait(piece)
        assert (await client.answer()).body == b"onetwo"
        assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE


# ---- refusing -------------------------------------------------------------------------------------------------------


async def test_who_is_refused_while_still_sending_reads_why(serving: Any) -> None:
    async with serving(echo, body_bytes=1000) as served:
        client = await served.connect()
        await client.send(post(LARGE))
        answer = await client.answer()
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        assert b"at most 1000 bytes" in answer.body
        assert await client.rest() == b""


async def test_what_was_asked_before_the_mistake_is_answered_before_it(serving: Any) -> None:
    script = Script()
    async with serving(script.whole) as served:
        client = await served.connect()
        await client.send(GET + b"nonsense\r\n\r\n")
        await script.arrived.wait()
        script.pieces.put_nowait(b"first")
        assert (await client.answer()).body == b"first"
        assert (await client.answer()).status == 400
        assert await client.rest() == b""


async def test_too_many_connections_are_refused_and_the_others_go_on(serving: Any) -> None:
    async with serving(echo, connections=2) as served:
        first, second = await served.connect(), await served.connect()
        await first.send(GET)
        await second.send(GET)
        await first.answer()
        await second.answer()
        third = await served.connect()
        assert (await third.answer()).status == 503
        await first.send(GET)
        assert (await first.answer()).status == 200


async def test_bodies_of_many_connections_are_bounded_together(serving: Any) -> None:
    async with serving(echo, body_bytes=1000, bodies_bytes=2500, linger_s=0.01) as served:
        clients = [await served.connect() for _ in range(3)]
        for client in clients[:2]:
            await client.send(post(b"x" * 1000)[:-1])
        await served.until(lambda: served.server.held_bytes >= 1998)
        await clients[2].send(post(b"x" * 1000)[:-1])
        assert (await clients[2].answer()).status == 503
        await clients[0].send(b"x")
        assert (await clients[0].answer()).status == 200


async def test_requests_that_wait_are_few_and_the_rest_stays_with_the_client(serving: Any) -> None:
    script = Script()
    async with serving(script.whole, pipelined=2, body_bytes=1 << 20) as served:
        client = await served.connect(receive_buffer=1 << 14)
        sending = asyncio.ensure_future(client.send(post(b"x" * (1 << 19)) * 100))
        await script.arrived.wait()
        (connection,) = served.server.connections
        await served.until(lambda: connection._transport is None or not connection._transport.is_reading())
        assert served.server.held_bytes <= 3 << 20
        assert not sending.done()
        for _ in range(100):
            script.pieces.put_nowait(b"ok")
        for _ in range(100):
            assert (await client.answer()).body == b"ok"
        await sending


# ---- deadlines ------------------------------------------------------------------------------------------------------

SHORT: dict[str, float] = {"head_s": 0.03, "body_s": 0.03, "idle_s": 0.03, "linger_s": 0.03, "stalled_s": 0.03}


async def test_a_connection_that_says_nothing_is_closed(serving: Any) -> None:
    async with serving(echo, **SHORT) as served:
        assert await (await served.connect()).rest() == b""


async def test_a_connection_that_asks_nothing_more_is_closed(serving: Any) -> None:
    async with serving(echo, **SHORT | {"head_s": 60.0}) as served:
        client = await served.connect()
        await client.send(GET)
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


async def trickle(client: Any, data: bytes) -> None:
    """Send a byte whenever the one before may have been read, until the server has had enough."""
    for byte in data:
        if client.reader.at_eof() or client.reader._buffer:
            return
        await client.send(bytes([byte]))
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("prefix", [b"GET / HTTP/1.1\r\nx: ", GET + b"GET / HTTP/1.1\r\nx: "], ids=["first", "second"])
async def test_a_head_that_trickles_is_refused(serving: Any, prefix: bytes) -> None:
    async with serving(echo, **SHORT | {"idle_s": 60.0}) as served:
        client = await served.connect()
        await client.send(prefix)
        if prefix.startswith(GET):
            assert (await client.answer()).status == 200
        await trickle(client, b"x" * 60_000)
        assert (await client.answer()).status == 408
        assert await client.rest() == b""


async def test_a_body_that_trickles_is_refused_though_it_never_stands_still(serving: Any) -> None:
    async with serving(echo, **SHORT) as served:
        client = await served.connect()
        await client.send(post(b"x" * 60_000)[:-60_000])
        await trickle(client, b"x" * 60_000)
        assert (await client.answer()).status == 408


async def test_a_body_that_stands_still_is_refused_whatever_it_has_earned(serving: Any) -> None:
    async with serving(echo, **SHORT | {"body_bytes_per_s": 1.0}) as served:
        client = await served.connect()
        await client.send(post(b"x" * 60_000)[:-1])
        assert (await client.answer()).status == 408


@pytest.mark.parametrize(("bytes_per_s", "later"), [(1.0, True), (1e12, False)])
async def test_what_comes_of_a_body_earns_it_time(serving: Any, bytes_per_s: float, later: bool) -> None:
    async with serving(echo, body_bytes_per_s=bytes_per_s) as served:
        client = await served.connect()
        await client.send(post(b"x" * 2000)[:-1999])
        await served.until(lambda: served.server.held_bytes == 1)
        (connection,) = served.server.connections
        due = connection.due
        await client.send(b"x" * 1000)
        await served.until(lambda: served.server.held_bytes == 1001)
        assert (connection.due > due + 1e-6) is later


async def test_a_refused_client_that_does_not_leave_is_cut_off(serving: Any) -> None:
    async with serving(echo, **SHORT) as served:
        client = await served.connect()
        await client.send(b"nonsense\r\n\r\n")
        await served.until(lambda: not served.server.connections)
        assert (await client.answer()).status == 400


@pytest.mark.parametrize("close", [b"keep-alive", b"close"])
async def test_a_client_that_never_reads_its_answer_is_cut_off(serving: Any, close: bytes) -> None:
    async def large(_: Request) -> Response:
        return Response(LARGE)

    async with serving(large, **SHORT | {"idle_s": 60.0}) as served:
        client = await served.connect(receive_buffer=1 << 14)
        client.writer.transport.pause_reading()
        await client.send(GET.replace(b"host", b"connection: " + close + b"\r\nhost"))
        await served.until(lambda: served.server.connections)
        await served.until(lambda: not served.server.connections)
        client.writer.transport.resume_reading()
        assert len(await client.rest()) < len(LARGE)


async def test_a_client_that_reads_slowly_is_not_cut_off_and_one_that_stops_is(serving: Any) -> None:
    async def large(_: Request) -> Response:
        return Response(LARGE)

    async with serving(large) as served:
        client = await served.connect(receive_buffer=1 << 14)
        client.writer.transport.pause_reading()
        await client.send(GET)
        await served.until(lambda: served.server.connections)
        (connection,) = served.server.connections
        await served.until(lambda: connection._room is not None)
        transport = connection._transport
        assert transport is not None
        left = transport.get_write_buffer_size()
        client.writer.transport.resume_reading()
        while transport.get_write_buffer_size() == left:
            await client.reader.read(1 << 16)
        connection.overdue()
        assert not transport.is_closing()
        connection.overdue()
        assert transport.is_closing()


# ---- who leaves, and who does not read ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_leaves_stops_what_runs_for_it(serving: Any, how: str) -> None:
    script = Script()
    async with serving(script.whole) as served:
        client = await served.connect()
        await client.send(GET)
        await script.arrived.wait()
        if how == "reset":
            client.reset()
        else:
            client.writer.close()
        await script.cancelled.wait()
        assert len(script.asked) == 1
        await served.until(lambda: not served.server.connections)


async def test_a_client_that_leaves_in_the_middle_of_a_stream_closes_its_pieces(serving: Any) -> None:
    script = Script()
    async with serving(script.stream) as served:
        client = await served.connect()
        await client.send(GET)
        script.pieces.put_nowait(b"one")
        await client.head()
        client.writer.close()
        await script.closed.wait()
        assert script.cancelled.is_set()


async def test_a_client_that_does_not_read_is_not_written_for(serving: Any) -> None:
    script = Script()
    async with serving(script.stream) as served:
        client = await served.connect(receive_buffer=1 << 14)
        client.writer.transport.pause_reading()
        await client.send(GET)
        for _ in range(500):
            script.pieces.put_nowait(LARGE[: 1 << 16])
        script.pieces.put_nowait(None)
        await script.arrived.wait()
        (connection,) = served.server.connections
        await served.until(lambda: connection._room is not None)
        taken = script.taken
        for _ in range(1000):
            await asyncio.sleep(0)
        assert script.taken == taken < 500
        client.writer.transport.resume_reading()
        assert len((await client.answer()).body) == 500 << 16


async def test_answers_that_nobody_reads_are_not_made_either(serving: Any) -> None:
    made = 0

    async def large(_: Request) -> Response:
        nonlocal made
        made += 1
        return Response(LARGE)

    async with serving(large) as served:
        client = await served.connect(receive_buffer=1 << 14)
        client.writer.transport.pause_reading()
        await client.send(GET * 4)
        await served.until(lambda: made)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert made == 1
        client.writer.transport.resume_reading()
        for _ in range(4):
            assert (await client.answer()).status == 200


# ---- mistakes of a handler ------------------------------------------------------------------------------------------


async def test_a_handlers_mistake_is_an_error_and_the_end_of_the_connection(
    serving: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_: Request) -> Response:
        raise RuntimeError("the secret inside")

    async with serving(broken) as served:
        client = await served.connect()
        await client.send(GET + GET)
        answer = await client.answer()
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert await client.rest() == b""
    assert "the secret inside" in capsys.readouterr().err


async def test_a_stream_that_fails_before_its_first_piece_is_an_error_with_a_status(serving: Any) -> None:
    script = Script()
    async with serving(script.stream) as served:
        script.pieces.put_nowait(RuntimeError("broken"))
        assert (await served.ask(GET)).status == 500


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_stream_that_fails_later_is_cut_and_never_ended(serving: Any, version: bytes) -> None:
    script = Script()
    async with serving(script.stream) as served:
        client = await served.connect()
        await client.send(GET.replace(b"1.1", version))
        script.pieces.put_nowait(b"one")
        await client.head()
        script.pieces.put_nowait(RuntimeError("broken"))
        rest = await client.rest()
        assert not rest.endswith(b"0\r\n\r\n")
        if version == b"1.0":
            assert isinstance(client.reader.exception(), ConnectionResetError)


# ---- draining -------------------------------------------------------------------------------------------------------


async def test_draining_lets_a_stream_end_and_closes_what_is_idle(serving: Any) -> None:
    script = Script()
    async with serving(script.stream, linger_s=0.01, leave_s=0.01) as served:
        idle, busy = await served.connect(), await served.connect()
        await busy.send(GET)
        script.pieces.put_nowait(b"one")
        await busy.head()
        draining = asyncio.ensure_future(served.server.drain())
        assert await idle.rest() == b""
        assert not draining.done()
        script.pieces.put_nowait(b"two")
        script.pieces.put_nowait(None)
        assert [await busy.chunk() for _ in range(3)] == [b"one", b"two", b""]
        assert await busy.rest() == b""
        await draining
        assert len(script.asked) == 1


async def test_draining_answers_the_first_request_of_a_connection_that_was_just_made(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        while not served.server.connections:
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(served.server.drain())
        await asyncio.sleep(0)
        await client.send(GET)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await draining


async def test_draining_answers_one_more_request_of_a_client_that_asks_again_and_again(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(GET)
        assert "connection" not in (await client.answer()).headers
        draining = asyncio.ensure_future(served.server.drain())
        await asyncio.sleep(0)
        await client.send(GET)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.rest() == b""
        await draining


async def test_draining_answers_one_more_request_of_those_that_wait_behind_an_answer(serving: Any) -> None:
    script = Script()
    async with serving(script.stream) as served:
        client = await served.connect()
        await client.send(GET + GET + GET)
        script.pieces.put_nowait(b"one")
        await client.head()
        draining = asyncio.ensure_future(served.server.drain())
        for piece in (None, b"two", None):
            script.pieces.put_nowait(piece)
        assert [await client.chunk() for _ in range(2)] == [b"one", b""]
        assert (await client.head()).headers["connection"] == "close"
        assert [await client.chunk() for _ in range(2)] == [b"two", b""]
        assert await client.rest() == b""
        await draining
        assert len(script.asked) == 2


async def test_draining_closes_a_connection_that_has_asked_and_asks_no_more(serving: Any) -> None:
    async with serving(echo, leave_s=0.01) as served:
        client = await served.connect()
        await client.send(GET)
        await client.answer()
        await served.server.drain()
        assert await client.rest() == b""


async def test_draining_lets_a_request_that_has_begun_come_and_answers_it(serving: Any) -> None:
    async with serving(echo) as served:
        client = await served.connect()
        await client.send(post(b"abc")[:-1])
        await served.until(lambda: served.server.held_bytes)
        draining = asyncio.ensure_future(served.server.drain())
        await asyncio.sleep(0)
        await client.send(b"c")
        answer = await client.answer()
        assert answer.body == b"POST / abc"
        assert answer.headers["connection"] == "close"
        await draining
