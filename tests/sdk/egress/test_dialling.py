"""The driver's side, against a port that the test serves: what is dialled, shared by threads, and said in words."""

import array
import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import pytest

from byenatos_sandbox import spec
from byenatos_sdk.egress import EgressUnavailable, async_transport, dial, dial_async, dialling, transport

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Port(threading.Thread):
    """Hands out streams on which every request is answered alike; ``heads`` were asked, in ``pieces``."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ours, self.its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.heads = []
        self.pieces = []
        self.refusal = b""
        self.silent = False
        self.dialled = 0
        self._threads = []
        self.start()

    def run(self):
        with self.ours:
            while self.ours.recv(16):
                self.dialled += 1
                if self.refusal:
                    self.ours.send(b"-" + self.refusal)
                elif not self.silent:
                    mine, yours = socket.socketpair()
                    rights = array.array("i", [yours.fileno()])
                    self.ours.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                    yours.close()
                    thread = threading.Thread(target=self._serve, args=[mine], daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _serve(self, stream):
        with stream:
            data = b""
            while piece := stream.recv(65536):
                self.pieces.append(piece)
                data += piece
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    self.heads.append(head.decode())
                    stream.sendall(ANSWER)


@pytest.fixture
def port(monkeypatch):
    found = Port()
    monkeypatch.setattr(dialling, "EGRESS", found.its.detach())
    dialling._port.cache_clear()
    yield found
    dialling._port().close()
    dialling._port.cache_clear()
    found.join()
    for thread in found._threads:
        thread.join()


def test_both_sides_mean_the_same_descriptor():
    assert dialling.EGRESS == spec.EGRESS


@pytest.mark.parametrize(("library", "module"), [("httpx", httpx), ("httpx2", httpx2)])
def test_a_client_with_threads_reaches_the_vendor_by_its_usual_address(port, library, module):
    with module.Client(transport=transport(library), base_url="https://api.vendor.test/v1") as client:
        for _ in range(3):
            assert client.get("/x").text == "hello"
    assert port.dialled == 1
    assert port.heads[0].startswith("GET /v1/x HTTP/1.1\r\n")
    assert "api.vendor.test" in port.heads[0]


@pytest.mark.parametrize(("library", "module"), [("httpx", httpx), ("httpx2", httpx2)])
def test_a_client_under_asyncio_reaches_it_too(port, library, module):
    async def main():
        async with module.AsyncClient(transport=async_transport(library)) as client:
            answers = await asyncio.gather(*(client.get(f"https://api.vendor.test:8443/{n}") for n in range(20)))
            assert [answer.text for answer in answers] == ["hello"] * 20
            assert (await client.get("https://api.vendor.test/again")).text == "hello"

    asyncio.run(main())
    assert any("host: api.vendor.test:8443" in head.lower() for head in port.heads)


@pytest.mark.parametrize(("library", "module"), [("httpx", httpx), ("httpx2", httpx2)])
def test_a_request_leaves_as_one_piece(port, library, module):
    async def main():
        async with module.AsyncClient(transport=async_transport(library)) as client:
            await client.post("https://api.vendor.test/", content=b"body")

    asyncio.run(main())
    assert port.pieces[0].endswith(b"\r\n\r\nbody")


def test_many_threads_may_dial_at_once(port):
    with ThreadPoolExecutor(16) as pool:
        streams = list(pool.map(lambda _: dial(), range(64)))
    assert len({stream.fileno() for stream in streams}) == 64
    for stream in streams:
        stream.close()


def test_a_broker_without_room_says_so_to_the_client(port):
    port.refusal = b"64 connections are open; close some"
    with pytest.raises(EgressUnavailable, match="64 connections are open"):
        dial()
    with httpx.Client(transport=transport()) as client, pytest.raises(httpx.ConnectError, match="64 connections"):
        client.get("https://api.vendor.test/")


def test_a_broker_that_does_not_answer_is_waited_for_so_long(port):
    port.silent = True
    with pytest.raises(EgressUnavailable, match=r"does not answer within 0\.05 s"):
        dial(0.05)


def test_an_answer_that_came_too_late_is_dropped(port):
    port.silent = True
    with pytest.raises(EgressUnavailable):
        dial(0.05)
    port.silent = False
    port.ours.send(b"-too late")
    dial().close()


def test_a_dial_that_nobody_waits_for_any_more_leaves_no_stream(port):
    async def main():
        dialling = asyncio.ensure_future(dial_async())
        await asyncio.sleep(0)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        (await dial_async()).close()

    asyncio.run(main())


def test_a_driver_without_a_port_is_told_what_is_missing(monkeypatch):
    other, peer = socket.socketpair()
    with other, peer:
        for descriptor, reason in ((987654, r"plugin.toml has no \[\[egress\]\]"), (other.fileno(), "something else")):
            monkeypatch.setattr(dialling, "EGRESS", descriptor)
            dialling._port.cache_clear()
            with pytest.raises(EgressUnavailable, match=reason):
                dial()
    dialling._port.cache_clear()
