"""Vendors behind a proxy that the environment names."""

import asyncio
import base64
from contextlib import suppress

import pytest
from broker_rig import KEY, Broker, rule
from vendor import HOST, Vendor


class Proxy:
    """Does ``CONNECT``, to where the test says; ``asked`` are the heads that it was sent."""

    def __init__(self, port, status=b"200 Connection established"):
        self.port_behind = port
        self.status = status
        self.asked = []
        self._tasks = set()
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self._writers.append(writer)
        with suppress(asyncio.CancelledError, ConnectionError):
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"HTTP/1.1 " + self.status + b"\r\n\r\n")
            if not self.status.startswith(b"200"):
                writer.close()
                return
            back, forth = await asyncio.open_connection("127.0.0.1", self.port_behind)
            self._writers.append(forth)
            await asyncio.gather(self._pump(reader, forth), self._pump(back, writer))

    async def _pump(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_a_proxy_connects_and_sees_neither_key_nor_request(tmp_path, monkeypatch):
    async with Vendor() as vendor, Proxy(vendor.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@localhost:{proxy.port}")
        async with Broker(tmp_path, rule(vendor), names={}) as broker:
            assert (await broker.get()).status == 200
        head = proxy.asked[0]
        assert head.startswith(f"CONNECT {HOST}:{vendor.port} HTTP/1.1\r\n")
        assert "Basic " + base64.b64encode(b"user:pass").decode() in head
        assert KEY not in head
        assert vendor.calls[0].headers["authorization"] == f"Bearer {KEY}"
        assert "proxy-authorization" not in vendor.calls[0].headers


async def test_a_host_that_the_environment_excepts_is_reached_directly(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:9")
    monkeypatch.setenv("NO_PROXY", ".vendor.test")
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        assert (await broker.get()).status == 200


async def test_a_proxy_that_refuses_is_an_answer_that_says_so(tmp_path, monkeypatch):
    async with Vendor() as vendor, Proxy(vendor.port, b"407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{proxy.port}")
        async with Broker(tmp_path, rule(vendor)) as broker:
            answer = await broker.get()
            assert answer.status == 502
            assert answer.reason == f"the proxy does not connect to {HOST}: status 407"


@pytest.mark.parametrize(
    "url", ["socks5://localhost:1", "https://localhost:1", "http://localhost:99999", "http://[::1"]
)
async def test_a_proxy_that_cannot_be_used_is_not_passed_by(tmp_path, monkeypatch, url):
    monkeypatch.setenv("HTTPS_PROXY", url)
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get()
        assert answer.status == 502
        assert "HTTPS_PROXY to be http://host:port" in answer.reason
        assert vendor.connections == 0


@pytest.mark.parametrize(
    ("host", "reason"), [("169.254.169.254", "link-local"), ("2130706433", "no address"), ("127.0x1", "no address")]
)
async def test_through_a_proxy_a_host_that_is_an_address_is_judged_all_the_same(tmp_path, monkeypatch, host, reason):
    async with Vendor() as vendor, Proxy(vendor.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{proxy.port}")
        async with Broker(tmp_path, rule(vendor, host=host)) as broker:
            answer = await broker.get()
            assert (answer.status, answer.reason) == (403, f"{host} is {reason}")
            assert not proxy.asked
