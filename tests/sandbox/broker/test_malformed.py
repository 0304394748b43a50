"""Malformed HTTP from both sides: it is answered or closed, the next connection works, and nothing is smuggled."""

import asyncio
import json

import pytest
from broker_rig import Broker, read_answer, rule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vendor import Vendor

from byenatos_sandbox.broker.framing import HeadReader
from byenatos_sandbox.broker.refusal import Refused

H = "host: {host}\r\n"
FROM_DRIVERS = {
    "bare LF": "GET /v1/x HTTP/1.1\n" + H + "\n",
    "bare LF in a header": "GET /v1/x HTTP/1.1\r\n" + H + "a: b\nc: d\r\n\r\n",
    "bare CR in a header": "GET /v1/x HTTP/1.1\r\n" + H + "a: b\rc: d\r\n\r\n",
    "folded header": "GET /v1/x HTTP/1.1\r\n" + H + "a: b\r\n c\r\n\r\n",
    "NUL": "GET /v1/x HTTP/1.1\r\n" + H + "a: \0\r\n\r\n",
    "no host": "GET /v1/x HTTP/1.1\r\n\r\n",
    "two hosts": "GET /v1/x HTTP/1.1\r\n" + H + H + "\r\n",
    "two hosts that differ": "GET /v1/x HTTP/1.1\r\n" + H + "Host: evil.test\r\n\r\n",
    "two lengths": "POST /v1/x HTTP/1.1\r\n" + H + "content-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "lengths that differ": "POST /v1/x HTTP/1.1\r\n" + H + "content-length: 1\r\nContent-Length: 2\r\n\r\nxy",
    "length list": "POST /v1/x HTTP/1.1\r\n" + H + "content-length: 1, 1\r\n\r\nx",
    "negative length": "POST /v1/x HTTP/1.1\r\n" + H + "content-length: -1\r\n\r\n",
    "signed length": "POST /v1/x HTTP/1.1\r\n" + H + "content-length: +1\r\n\r\nx",
    "endless length": "POST /v1/x HTTP/1.1\r\n" + H + "content-length: " + "9" * 300 + "\r\n\r\n",
    "length and chunked": "POST /v1/x HTTP/1.1\r\n"
    + H
    + "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": "POST /v1/x HTTP/1.1\r\n"
    + H
    + "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "other encoding": "POST /v1/x HTTP/1.1\r\n" + H + "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "odd chunked": "POST /v1/x HTTP/1.1\r\n" + H + "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before colon": "POST /v1/x HTTP/1.1\r\n" + H + "content-length : 1\r\n\r\nx",
    "bad chunk size": "POST /v1/x HTTP/1.1\r\n" + H + "transfer-encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk size": "POST /v1/x HTTP/1.1\r\n" + H + "transfer-encoding: chunked\r\n\r\n-1\r\n",
    "chunk longer than said": "POST /v1/x HTTP/1.1\r\n" + H + "transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    "upgrade": "GET /v1/x HTTP/1.1\r\n" + H + "connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "upgrade to h2c": "GET /v1/x HTTP/1.1\r\n" + H + "upgrade: h2c\r\nhttp2-settings: AAMA\r\n\r\n",
    "preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.0": "GET /v1/x HTTP/1.0\r\n" + H + "\r\n",
    "HTTP/0.9": "GET /v1/x\r\n\r\n",
    "HTTP/1.10": "GET /v1/x HTTP/1.10\r\n" + H + "\r\n",
    "two spaces": "GET  /v1/x HTTP/1.1\r\n" + H + "\r\n",
    "space in target": "GET /v1/x y HTTP/1.1\r\n" + H + "\r\n",
    "absolute form": "GET http://evil.test/v1/x HTTP/1.1\r\n" + H + "\r\n",
    "CONNECT": "CONNECT evil.test:443 HTTP/1.1\r\n" + H + "\r\n",
    "lower-case method": "get /v1/x HTTP/1.1\r\n" + H + "\r\n",
    "long head": "GET /v1/x HTTP/1.1\r\n" + H + "a: " + "x" * 70000 + "\r\n\r\n",
    "many headers": "GET /v1/x HTTP/1.1\r\n" + H + "a: b\r\n" * 200 + "\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "empty lines first": "\r\n\r\nGET /v1/x HTTP/1.1\r\n" + H + "\r\n",
    "header without a colon": "GET /v1/x HTTP/1.1\r\n" + H + "nonsense\r\n\r\n",
    "header without a name": "GET /v1/x HTTP/1.1\r\n" + H + ": x\r\n\r\n",
}


@pytest.mark.parametrize("name", FROM_DRIVERS)
async def test_a_malformed_request_is_refused_and_reaches_no_vendor(tmp_path, name):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor, methods=("GET", "POST", "get"))) as broker:
        answer = await broker.ask(FROM_DRIVERS[name].format(host=broker.host).encode("latin-1"))
        assert answer.refused
        assert 400 <= answer.status < 500
        assert (await broker.audited())[0]["refused"]
        whole = [call for call in vendor.calls if call.body]
        assert not whole or "chunk" in name
        assert (await broker.get()).status == 200


async def test_what_follows_a_request_is_read_as_strictly_as_the_first(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        reader, writer = await broker.dial()
        good = f"POST /v1/x HTTP/1.1\r\nhost: {broker.host}\r\ncontent-length: 2\r\n\r\nok"
        bad = f"GET /v1/x HTTP/1.1\r\nhost: {broker.host}\r\na: b\n\r\n\r\n"
        writer.write((good + bad).encode())
        first = await reader.readuntil(b'"ok"}')
        assert first.startswith(b"HTTP/1.1 200")
        assert (await read_answer(reader)).status == 400
        assert len(vendor.calls) == 1
        writer.close()


FROM_VENDORS = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "lengths that differ": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "short body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "endless chunk size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 30,
    "half a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nx",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nraw",
    "endless head": b"HTTP/1.1 200 OK\r\na: " + b"x" * 200000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 40000,
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status 999": b"HTTP/1.1 999 OK\r\ncontent-length: 0\r\n\r\n",
    "other encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
    "endless early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    "NUL in a header": b"HTTP/1.1 200 OK\r\na: \0\r\ncontent-length: 0\r\n\r\n",
    "HTTP/2 unasked": b"\0\0\0\4\0\0\0\0\0",
}


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("name", FROM_VENDORS)
async def test_a_malformed_answer_is_an_error_and_never_a_whole_answer(tmp_path, name, http2):
    async def raw(reader, writer):
        await reader.read(65536)
        writer.write(FROM_VENDORS[name])
        await writer.drain()

    async with Vendor(http2=http2) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        answer = await broker.get()
        assert answer.status in {502, 999} or not answer.whole
        if answer.refused:
            assert json.loads(answer.body)["error"]["code"] == 502
        assert (await broker.audited())[0].get("failed") or (await broker.audited())[0]["status"] == 999
        vendor.raw = None
        assert (await broker.get()).status == 200


async def test_an_answer_that_was_not_asked_for_is_nobodys(tmp_path):
    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        one = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none"
        writer.write(one + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await writer.drain()
        await reader.read()

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        for _ in range(3):
            assert (await broker.get()).body == b"one"
        assert vendor.connections == 3


HTTP_LIKE = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [
                *(b"GET", b"POST", b" ", b"/v1/x", b" HTTP/1.1", b"\r\n", b"\n", b"\r\n\r\n", b":", b"host: ", b"0"),
                *(
                    b"content-length: 5\r\n",
                    b"transfer-encoding: chunked\r\n",
                    b"expect: 100-continue\r\n",
                    b"5\r\nhello",
                ),
                *(
                    b"HTTP/1.1 200 OK\r\n",
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"connection: close\r\n",
                    b"PRI * HTTP/2.0",
                ),
                *(b"\0\0\x04\x08\0\0\0\0\0\0\0\xff\xff", b"\0\0\0\x04\0\0\0\0\0", b"\0\0\x01\x01\x05\0\0\0\1\x88"),
            ]
        ),
    ),
    max_size=25,
).map(b"".join)
TRIES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@TRIES
@given(data=HTTP_LIKE, cut=st.integers(0, 200))
def test_no_bytes_of_a_driver_break_the_broker(tmp_path, data, cut):
    async def main():
        async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
            _, writer = await broker.dial()
            for piece in (data.replace(b"host: ", f"host: {broker.host}".encode()), data[cut:]):
                writer.write(piece)
                await asyncio.sleep(0)
            writer.close()
            assert (await broker.get()).status == 200

    asyncio.run(main())


@TRIES
@given(data=HTTP_LIKE, http2=st.booleans())
def test_no_bytes_of_a_vendor_break_the_broker(tmp_path, data, http2):
    async def raw(reader, writer):
        await reader.read(65536)
        writer.write(data)
        await writer.drain()

    async def main():
        async with Vendor(http2=http2) as vendor, Broker(tmp_path, rule(vendor)) as broker:
            vendor.raw = raw
            answer = await broker.get()
            assert answer.status or not answer.whole
            vendor.raw = None
            assert (await broker.get()).status == 200

    asyncio.run(main())


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_head_is_refused_or_whole_however_it_is_cut(data, size):
    whole = data.replace(b"|", b"\r\n") + b"\r\n\r\n"
    outcomes = []
    for step in (size, len(whole)):
        reader = HeadReader()
        try:
            found = None
            for start in range(0, len(whole), step):
                found = reader.feed(whole[start : start + step])
                if found is not None:
                    break
            outcomes.append(found is not None)
        except Refused:
            outcomes.append(False)
    assert outcomes[0] == outcomes[1]
