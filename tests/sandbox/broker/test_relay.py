"""Requests through a real port to a real TLS vendor, in one process."""

import asyncio
import base64
import json
import urllib.parse

import pytest
from broker_rig import KEY, Broker, read_answer, rule
from vendor import HOST, Vendor

from byenatos_sandbox.broker.messages import Key


async def test_the_key_is_put_in_and_taken_out_of_an_echo(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get(method="POST", body=b'{"hello": 1}', headers="content-type: application/json\r\n")
        assert answer.status == 200
        assert vendor.calls[0].headers["authorization"] == f"Bearer {KEY}"
        assert vendor.calls[0].headers["host"] == f"{HOST}:{vendor.port}"
        assert vendor.calls[0].body == b'{"hello": 1}'
        assert answer.json()["headers"]["authorization"] == "Bearer " + "*" * len(KEY)
        assert KEY.encode() not in answer.body


async def test_what_the_driver_says_of_itself_and_of_keys_is_dropped(tmp_path):
    named = "authorization x-api-key api-key x-goog-api-key cookie proxy-authorization forwarded x-forwarded-for via"
    headers = "".join(f"{name}: mine\r\n" for name in named.split())
    headers += "connection: keep-alive, x-hop\r\nx-hop: 1\r\naccept-encoding: gzip\r\nx-kept: yes\r\n"
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        await broker.get(headers=headers)
        known = vendor.calls[0].headers
        assert set(known) == {"host", "authorization", "accept-encoding", "x-kept"}
        assert known["authorization"] == f"Bearer {KEY}"
        assert known["accept-encoding"] == "identity"


async def test_credentials_in_either_spelling_and_in_the_query_are_dropped(tmp_path):
    named = (
        "x_api_key Authorization_ ocp-apim-subscription-key x_forwarded_for x-forwarded-prefix x-real_ip range if-range"
    )
    headers = "".join(f"{name}: 7\r\n" for name in (f"{named} content_length transfer_encoding").split())
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        await broker.get(
            "/v1/x?alt=sse&key=mine&a;b=1&%61pi_key=mine&KEY=mine&x=1;access_token=mine&$key", headers=headers
        )
        assert vendor.calls[0].target == "/v1/x?alt=sse&a;b=1&x=1"
        assert set(vendor.calls[0].headers) == {"host", "authorization", "accept-encoding", "authorization_"}
        await broker.get("/v1/x?k%65yword=1&a=key&monkey=2;3")
        assert vendor.calls[1].target == "/v1/x?k%65yword=1&a=key&monkey=2;3"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        ("/v1/x", "X-HTTP-Method-Override: DELETE"),
        ("/v1/x", "x_http_method_override: DELETE"),
        ("/v1/x", "X-HTTP-Method: DELETE"),
        ("/v1/x", "X-Original-URL: /v1/keys"),
        ("/v1/x", "X-Rewrite-URL: /v1/keys"),
        ("/v1/x?$httpMethod=DELETE", "x: y"),
        ("/v1/x?a=1&%24httpMethod=DELETE", "x: y"),
        ("/v1/x?a=1;_method=DELETE", "x: y"),
        ("/v1/x?$httpHeaders=authorization%3Amine", "x: y"),
    ],
)
async def test_a_request_that_asks_to_be_taken_for_another_is_refused_and_audited(tmp_path, target, header):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get(target, method="POST", headers=f"{header}\r\n")
        assert answer.status == 403
        assert "than the request's own" in answer.body.decode()
        assert vendor.calls == []
        assert "than the request's own" in (await broker.audited())[0]["refused"]


async def test_a_key_can_go_into_the_query_where_it_replaces_the_drivers(tmp_path):
    key = Key("vendor", query="key")
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor, key=key)) as broker:
        answer = await broker.get("/v1/x?alt=sse&key=mine&k%65y=too")
        assert vendor.calls[0].target == f"/v1/x?alt=sse&key={urllib.parse.quote(KEY, safe='')}"
        assert urllib.parse.quote(KEY, safe="").encode() not in answer.body
        assert "key" not in (await broker.audited())[0]["path"]


async def test_every_request_leaves_one_line_without_query_content_or_key(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        await broker.get("/v1/x?private=1", method="POST", body=b"hello")
        await broker.get("/elsewhere")
        first, second = await broker.audited(2)
        assert first["driver"] == "acme"
        assert (first["method"], first["host"], first["path"]) == ("POST", f"{HOST}:{vendor.port}", "/v1/x")
        assert (first["status"], first["bytes_up"]) == (200, 5)
        assert first["bytes_down"] > 0
        assert second["status"] == 403
        assert "plugin.toml" in second["refused"]
        text = (tmp_path / "egress.jsonl").read_text()
        assert "private" not in text
        assert KEY not in text


async def test_connections_are_kept_and_used_again(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        stream = await broker.dial()
        for _ in range(3):
            assert (await broker.get(stream=stream)).status == 200
        stream[1].close()
        assert vendor.connections == 1
        assert broker.looked_up == [HOST]


@pytest.mark.parametrize("http2", [False, True])
async def test_a_stream_arrives_piece_by_piece_and_a_driver_that_leaves_ends_it_at_the_vendor(tmp_path, http2):
    async def endless(call):
        await call.begin()
        await call.piece(b"begun\n")
        await asyncio.Event().wait()

    async with Vendor(endless, http2=http2) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        reader, writer = await broker.dial()
        writer.write(f"GET /v1/slow HTTP/1.1\r\nhost: {broker.host}\r\n\r\n".encode())
        await reader.readuntil(b"begun\n")
        vendor.gone.clear()
        writer.close()
        await vendor.gone.wait()
        assert (await broker.audited())[0]["failed"] == "the driver left"


async def test_a_key_cut_into_pieces_is_taken_out_of_a_stream_and_nothing_else_is_held_back(tmp_path):
    go = asyncio.Event()

    async def piecemeal(call):
        await call.begin()
        await call.piece(b"data: 1\n\n")
        await go.wait()
        for one in f"<{KEY}>".encode():
            await call.piece(bytes([one]))
        for form in (base64.b64encode(f"id:{KEY}".encode()), json.dumps(KEY).replace("/", "\\/").encode()):
            await call.piece(form[:5])
            await call.piece(form[5:] + b"\n")
        await call.end()

    async with Vendor(piecemeal) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        reader, writer = await broker.dial()
        writer.write(f"GET /v1/x HTTP/1.1\r\nhost: {broker.host}\r\n\r\n".encode())
        await reader.readuntil(b"data: 1\n\n")
        go.set()
        rest = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + b"\r\n"
        relay = asyncio.StreamReader()
        relay.feed_data(rest)
        await reader.readuntil(b"\r\n")
        relay.feed_data(await reader.readuntil(b"0\r\n\r\n"))
        answer = await read_answer(relay)
        writer.close()
        assert answer.body.startswith(b"<" + b"*" * len(KEY) + b">")
        assert base64.b64encode(KEY.encode())[4:-4] not in answer.body
        assert b"canary" not in answer.body


async def test_a_compressed_answer_is_refused_because_a_key_could_hide_in_it(tmp_path):
    async def compressed(call):
        await call.answer(headers=[("content-encoding", "gzip")], body=b"\x1f\x8b")

    async with Vendor(compressed) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get()
        assert (answer.status, answer.refused) == (502, True)
        assert "compressed" in answer.reason


async def test_a_redirect_is_passed_back_and_not_followed(tmp_path):
    async def elsewhere(call):
        await call.answer(302, [("location", f"https://elsewhere.test/?key={KEY}")])

    async with Vendor(elsewhere) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        answer = await broker.get()
        assert answer.status == 302
        assert answer.headers["location"] == "https://elsewhere.test/?key=" + "*" * len(KEY)
        assert len(vendor.calls) == 1


@pytest.mark.parametrize("http2", [False, True])
async def test_large_bodies_go_both_ways(tmp_path, http2):
    async with Vendor(http2=http2) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        body = bytes(range(32, 127)) * 20000
        answer = await broker.get(method="POST", body=body)
        assert answer.json()["body"].encode() == body
        assert (await broker.audited())[0]["bytes_up"] == len(body)


async def test_a_body_of_unknown_length_is_passed_on_as_it_comes(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        head = f"POST /v1/x HTTP/1.1\r\nhost: {broker.host}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        answer = await broker.ask(head + b"3\r\nabc\r\n" + b"2\r\nde\r\n0\r\n\r\n")
        assert answer.json()["body"] == "abcde"


async def test_a_driver_that_expects_100_continue_gets_it(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        reader, writer = await broker.dial()
        head = f"POST /v1/x HTTP/1.1\r\nhost: {broker.host}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"ok")
        assert (await read_answer(reader)).json()["body"] == "ok"
        writer.close()


async def test_a_request_or_an_answer_beyond_its_bound_is_stopped(tmp_path):
    async def long(call):
        await call.begin()
        for _ in range(32):
            await call.piece(b"x" * 65536)
        await call.end()

    async with Vendor(long) as vendor, Broker(tmp_path, rule(vendor, max_request_mib=1, max_response_mib=1)) as broker:
        answer = await broker.get(method="POST", body=b"x" * (1 << 20 | 1))
        assert answer.status == 413
        assert not vendor.calls
        chunk = b"80000\r\n" + b"x" * 0x80000 + b"\r\n"
        head = f"POST /v1/x HTTP/1.1\r\nhost: {broker.host}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        assert (await broker.ask(head + chunk * 3)).status == 413
        answer = await broker.get()
        assert (answer.status, answer.whole) == (200, False)
        assert "larger" in (await broker.audited(3))[-1]["failed"]


async def test_a_vendor_that_answers_before_the_request_is_whole_is_heard(tmp_path):
    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        await writer.drain()
        await reader.read()

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        reader, writer = await broker.dial()
        writer.write(f"POST /v1/x HTTP/1.1\r\nhost: {broker.host}\r\ncontent-length: 900000\r\n\r\n".encode())
        writer.write(b"x" * 100000)
        answer = await read_answer(reader)
        assert (answer.status, answer.body) == (401, b"no")
        writer.close()


async def test_a_vendor_that_hangs_up_in_the_middle_leaves_an_answer_that_is_seen_to_be_cut(tmp_path):
    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        answer = await broker.get()
        assert (answer.status, answer.whole) == (200, False)
        assert "broke" in (await broker.audited())[-1]["failed"]


async def test_a_driver_that_does_not_read_stops_its_vendor(tmp_path):
    sent = 0
    full = asyncio.Event()

    async def flood(call):
        nonlocal sent
        await call.begin()
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await call.piece(b"x" * 65536)
            except TimeoutError:
                full.set()
                await asyncio.Event().wait()
            sent += 65536

    async with Vendor(flood) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        _, writer = await broker.dial()
        writer.transport.pause_reading()
        writer.write(f"GET /v1/x HTTP/1.1\r\nhost: {broker.host}\r\n\r\n".encode())
        await full.wait()
        assert sent < 32 << 20
        writer.close()


async def test_many_requests_share_a_connection_of_http_2(tmp_path):
    async with Vendor(http2=True) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        assert (await broker.get()).json()["headers"]["authorization"] == "Bearer " + "*" * len(KEY)
        answers = await asyncio.gather(*(broker.get("/v1/count/300000") for _ in range(20)))
        assert [len(answer.body) for answer in answers] == [300000] * 20
        assert vendor.connections == 1


async def test_a_rotated_key_is_used_without_a_restart_and_the_old_one_is_still_taken_out(tmp_path):
    async def old_and_new(call):
        await call.answer(body=f"{KEY} {call.headers['authorization']}".encode())

    async with Vendor(old_and_new) as vendor, Broker(tmp_path, rule(vendor)) as broker:
        await broker.get()
        broker.keeper.write("sk-the-second-key-of-all")
        while vendor.calls[-1].headers["authorization"] != "Bearer sk-the-second-key-of-all":
            answer = await broker.get()
            assert KEY.encode() not in answer.body
        assert b"sk-the" not in answer.body


async def test_a_key_that_cannot_be_used_is_a_refusal_that_names_it(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor, key=Key("absent", header="x-api-key"))) as broker:
        answer = await broker.get()
        assert (answer.status, answer.refused) == (503, True)
        assert "NOT_SET was not set when the kernel was started" in answer.reason
        assert not vendor.calls


async def test_tencents_signature_covers_the_bytes_that_are_sent(tmp_path):
    key = Key("tencent", scheme="tc3", service="hunyuan")
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor, key=key)) as broker:
        head = f"POST /v1/ HTTP/1.1\r\nhost: {broker.host}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        assert (await broker.ask(head + b"2\r\n{}\r\n0\r\n\r\n")).status == 200
        call = vendor.calls[0]
        assert call.body == b"{}"
        assert call.headers["authorization"].startswith("TC3-HMAC-SHA256 Credential=id-0123456789/")
        assert call.headers["content-length"] == "2"
        assert "secret-0123456789" not in str(call.headers)


async def test_a_plain_http_vendor_is_reached_where_the_rule_says_so(tmp_path):
    async with Vendor(plain=True) as vendor, Broker(tmp_path, rule(vendor, scheme="http", key=None)) as broker:
        assert (await broker.get()).status == 200


async def test_a_driver_has_so_many_connections_and_no_more(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        streams = [await broker.dial() for _ in range(64)]
        assert b"64 connections are open" in await broker.dial()
        for _, writer in streams:
            writer.close()
        while broker.port.lines:
            await asyncio.sleep(0)
        assert (await broker.get()).status == 200


async def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(tmp_path):
    async def raw(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor, methods=("HEAD",))) as broker:
        vendor.raw = raw
        reader, writer = await broker.dial()
        for path, status in (("/v1/x", b"200"), ("/other", b"403"), ("/v1/x", b"200")):
            writer.write(f"HEAD {path} HTTP/1.1\r\nhost: {broker.host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"content-length: " in head
        writer.close()
        assert vendor.connections == 1


async def test_an_answer_may_last_until_its_connection_ends(tmp_path):
    async def raw(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the")
        await writer.drain()
        writer.write(b" end")
        writer.close()

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        for connections in (1, 2):
            answer = await broker.get()
            assert (answer.body, answer.whole) == (b"until the end", True)
            assert vendor.connections == connections


async def test_a_short_body_that_follows_its_head_goes_up_with_it(tmp_path):
    came = []

    async def raw(reader, writer):
        came.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 204 \r\n\r\n")
        await writer.drain()

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        reader, writer = await broker.dial()
        writer.write(f"POST /v1/x HTTP/1.1\r\nhost: {broker.host}\r\ncontent-length: 4\r\n\r\n".encode())
        (line,) = await _lines(broker)
        while line.whole:  # its head has not come yet
            await asyncio.sleep(0)
        assert not vendor.connections
        writer.write(b"bo")
        await asyncio.sleep(0)
        writer.write(b"dy")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 204")
        assert b"transfer-encoding" not in answer
        assert came[0].endswith(b"\r\n\r\nbody")
        writer.close()


async def test_a_driver_that_reads_late_gets_all_and_its_vendor_waits_for_it(tmp_path):
    size, sent = 32 << 20, 0

    async def raw(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
        await reader.read()

    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:
        vendor.raw = raw
        reader, writer = await broker.dial()
        writer.write(f"GET /v1/x HTTP/1.1\r\nhost: {broker.host}\r\n\r\n".encode())
        (line,) = await _lines(broker)
        while not line.wire.full:
            await asyncio.sleep(0)
        assert sent < size
        assert line.wire.transport.get_write_buffer_size() < 1 << 20
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(size) == b"x" * size
        writer.close()


async def _lines(broker):
    while not broker.port.lines:
        await asyncio.sleep(0)
    return broker.port.lines


async def test_what_a_vendor_said_before_it_broke_off_in_the_same_moment_is_passed_on(tmp_path):
    async with Vendor() as vendor, Broker(tmp_path, rule(vendor)) as broker:

        async def broken(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwor")
            writer.close()

        vendor.raw = broken
        answer = await broker.get()
        assert (answer.status, answer.body, answer.whole) == (200, b"hellowor", False)
