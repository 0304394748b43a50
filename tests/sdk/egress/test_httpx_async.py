"""The transport for httpx under asyncio, against a broker that the test plays."""

import asyncio
import socket

import httpx
import httpx2
import pytest

from byenatos_sdk.egress import EgressUnavailable, async_transport, pool

URL = "https://api.vendor.test/v1/x?a=1"
HEAD = b"HTTP/1.1 200 \r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
EMPTY = b"HTTP/1.1 204 \r\n\r\n"


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


@pytest.fixture
def client(library):
    """A function that makes clients."""
    return lambda **options: library.AsyncClient(transport=async_transport(library.__name__), **options)


@pytest.fixture
def line(monkeypatch):
    """The broker's end of the one connection that is handed out: its reader and writer, once it was dialled."""
    dialled = asyncio.Queue()

    async def dial_async(timeout_s):
        ours, its = socket.socketpair()
        dialled.put_nowait(await asyncio.open_connection(sock=its))
        return ours

    monkeypatch.setattr(pool, "dial_async", dial_async)
    return dialled


async def begun(request, line):
    """Begin with ``request``; return it, and the broker's end once its head is there."""
    asked = asyncio.ensure_future(request)
    reader, writer = await line.get()
    await reader.readuntil(b"\r\n\r\n")
    return asked, reader, writer


async def hang_up(writer):
    writer.close()
    await writer.wait_closed()


def test_a_request_arrives_as_it_was_made(broker, run, client):
    async def main():
        broker.queue(EMPTY)
        async with client() as http:
            assert (await http.post(URL, json={"a": 1}, headers={"accept": "text/event-stream"})).status_code == 204
        ((head, body),) = broker.requests
        lines = head.split("\r\n")
        assert lines[0] == "POST /v1/x?a=1 HTTP/1.1"
        assert {"Host: api.vendor.test", "accept: text/event-stream", f"Content-Length: {len(body)}"} <= set(lines)
        assert body.replace(b" ", b"") == b'{"a":1}'

    run(main())


def test_an_answer_has_all_of_its_headers_and_none_of_its_framing(broker, run, client):
    async def main():
        broker.queue(
            b"HTTP/1.1 404 \r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-name: caf\xe9\r\ncontent-length: 4\r\n\r\ngone"
        )
        async with client() as http:
            answer = await http.get(URL)
        assert (answer.status_code, answer.reason_phrase, answer.text) == (404, "Not Found", "gone")
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert answer.headers["x-name"] == "caf\u00e9"

    run(main())


def test_the_answer_to_head_has_no_body_whatever_its_length_says(broker, run, client):
    async def main():
        broker.queue(b"HTTP/1.1 200 \r\ncontent-length: 500\r\n\r\n", EMPTY)
        async with client() as http:
            assert (await http.head(URL)).headers["content-length"] == "500"
            assert (await http.get(URL)).status_code == 204
        assert broker.dialled == 1

    run(main())


def test_a_stream_is_read_as_it_comes_and_its_connection_kept(line, run, client):
    async def main():
        async with client() as http:
            asked = asyncio.ensure_future(http.send(http.build_request("GET", URL), stream=True))
            reader, writer = await line.get()
            for number in range(2):
                if number:
                    asked = asyncio.ensure_future(http.send(http.build_request("GET", URL), stream=True))
                await reader.readuntil(b"\r\n\r\n")
                writer.write(HEAD)
                answer = await asked
                pieces = answer.aiter_bytes()
                for word in (b"one", b"two"):
                    writer.write(b"3\r\n" + word + b"\r\n")
                    assert await anext(pieces) == word
                writer.write(b"0\r\n\r\n")
                assert await anext(pieces, None) is None
            assert line.empty()
        assert await reader.read() == b""
        await hang_up(writer)

    run(main())


def test_an_answer_that_is_left_is_broken_off_at_once(line, run, client):
    async def main():
        async with client() as http:
            asked, reader, writer = await begun(http.send(http.build_request("GET", URL), stream=True), line)
            writer.write(HEAD + b"3\r\none\r\n")
            await (await asked).aclose()
            assert await reader.read() == b""
            await hang_up(writer)

    run(main())


def test_a_request_that_is_cancelled_is_broken_off_at_once(line, run, client):
    async def main():
        async with client() as http:
            asked, reader, writer = await begun(http.get(URL), line)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert await reader.read() == b""
            await hang_up(writer)

    run(main())


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", "ReadError"),
        (b"HTTP/1.1 200", "ReadError"),
        (HEAD + b"3\r\non", "ReadError"),
        (b"HTTP/2 200 \r\n\r\n", "RemoteProtocolError"),
        (HEAD + b"x\r\n", "RemoteProtocolError"),
    ],
)
def test_what_breaks_is_the_library_s_own_error(line, run, client, library, said, kind):
    async def main():
        async with client() as http:
            asked, _, writer = await begun(http.get(URL), line)
            writer.write(said)
            await hang_up(writer)
            with pytest.raises(getattr(library, kind)) as caught:
                await asked
            assert caught.value.request.url == URL

    run(main())


def test_each_of_its_time_limits_is_kept(broker, run, client, library):
    async def main():
        async with client(timeout=library.Timeout(60, read=0.01)) as http:
            with pytest.raises(library.ReadTimeout):
                await http.get(URL)
        transport = async_transport(library.__name__, most_connections=1)
        async with library.AsyncClient(transport=transport, timeout=library.Timeout(60, pool=0.01)) as http:
            asked = asyncio.ensure_future(http.get(URL))
            while len(broker.requests) < 2:
                await asyncio.sleep(0)
            with pytest.raises(library.PoolTimeout):
                await http.get(URL)
            asked.cancel()
            await asyncio.wait([asked])
        broker.refusal = EgressUnavailable("64 connections are open")
        async with client() as http:
            with pytest.raises(library.ConnectError, match="64 connections"):
                await http.get(URL)

    run(main())


def test_a_time_limit_that_is_none_is_none(broker, run, client):
    async def main():
        broker.queue(EMPTY)
        async with client(timeout=None) as http:
            assert (await http.get(URL)).status_code == 204

    run(main())


def test_the_time_to_connect_is_the_broker_s_to_answer(monkeypatch, run, client, library):
    given = []

    async def dial_async(timeout_s):
        given.append(timeout_s)
        raise EgressUnavailable("the egress broker does not answer")

    async def main():
        for limits in (library.Timeout(60, connect=3), None):
            async with client(timeout=limits) as http:
                with pytest.raises(library.ConnectError):
                    await http.get(URL)

    monkeypatch.setattr(pool, "dial_async", dial_async)
    run(main())
    assert given == [3, 10.0]


async def pieces(count, size):
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("headers", [{}, {"content-length": "4096000"}], ids=["in chunks", "of a length"])
def test_a_long_body_in_small_pieces_waits_for_the_broker_to_take_it(line, run, client, headers):
    async def main():
        async with client() as http:
            made = 0

            async def body():
                nonlocal made
                async for piece in pieces(4096, 1000):
                    made += 1
                    yield piece

            asked, reader, writer = await begun(http.post(URL, content=body(), headers=headers), line)
            (connection,) = http._transport._pool._all
            while not connection._full:
                await asyncio.sleep(0)
            assert made < 3000
            taken = b""
            if headers:
                taken = await reader.readexactly(4_096_000)
            else:
                while size := int(await reader.readline(), 16):
                    taken += (await reader.readexactly(size + 2))[:-2]
                assert await reader.readline() == b"\r\n"
            writer.write(EMPTY)
            assert (await asked).status_code == 204
            assert taken == b"x" * 4_096_000
        await hang_up(writer)

    run(main())


def test_a_request_that_is_answered_while_it_is_sent_is_not_sent_to_its_end(line, run, client):
    async def main():
        async with client() as http:
            asked, reader, writer = await begun(http.post(URL, content=pieces(1 << 20, 1000)), line)
            writer.write(b"HTTP/1.1 413 \r\ncontent-length: 2\r\n\r\nno")
            answer = await asked
            assert (answer.status_code, answer.text) == (413, "no")
            while await reader.read(1 << 20):
                pass  # until it hangs up: of what follows the broker would make the next request
        await hang_up(writer)

    run(main())


def test_a_broker_that_stops_reading_is_waited_for_so_long(line, run, client, library):
    async def main():
        async with client(timeout=library.Timeout(60, write=0.01)) as http:
            asked = asyncio.ensure_future(http.post(URL, content=pieces(1 << 20, 1000)))
            _, writer = await line.get()
            with pytest.raises(library.WriteTimeout):
                await asked
        await hang_up(writer)

    run(main())


def test_a_body_that_fails_while_it_is_made_breaks_the_request_off(line, run, client):
    async def body():
        yield b"half"
        raise RuntimeError("no more")

    async def main():
        async with client() as http:
            asked = asyncio.ensure_future(http.post(URL, content=body()))
            reader, writer = await line.get()
            with pytest.raises(RuntimeError, match="no more"):
                await asked
            assert b"0\r\n\r\n" not in await reader.read()
        await hang_up(writer)

    run(main())


def test_nothing_in_a_header_can_end_its_line(broker, run, client, library):
    async def main():
        async with client() as http:
            with pytest.raises(library.LocalProtocolError):
                await http.get(URL, headers={"x-name": "a\r\nx-other: b"})
        assert not broker.requests

    run(main())
