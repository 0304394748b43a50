"""From bytes to requests: what is refused, what is bounded, and that no bytes get an exception out."""

import gzip
import tracemalloc
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from http_front.exchange import Request
from http_front.limits import Limits
from http_front.reading import Phase, Reader

START = b"POST /v1 HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"

PACKED = gzip.compress(b"abc", mtime=0)  # without the time: every worker must name its tests alike


def read(*pieces: bytes, **limits: Any) -> Reader:
    reader = Reader(Limits(**limits))
    for piece in pieces:
        reader.feed(piece)
    return reader


def refused(*pieces: bytes, **limits: Any) -> int:
    """Return the status of the refusal of what must not become a request."""
    reader = read(*pieces, **limits)
    assert not reader.requests
    assert reader.refused is not None
    return reader.refused.status


def only(*pieces: bytes, **limits: Any) -> Request:
    reader = read(*pieces, **limits)
    assert reader.refused is None
    assert reader.phase is Phase.IDLE
    (request,) = reader.requests
    return request


def posted(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return START + lines + b"content-length: %d\r\n\r\n" % len(body) + body


def in_chunks(*chunks: bytes) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@given(
    st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=5), st.lists(st.integers(0, 900), max_size=9)
)
def test_requests_are_the_same_however_they_are_cut(bodies: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    data = b"".join(in_chunks(*filter(None, [body])) if chunked else posted(body) for body, chunked in bodies)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = read(*(data[start:end] for start, end in pairwise(edges)))
    assert reader.refused is None
    assert [request.body for request in reader.requests] == [body for body, _ in bodies]


PIECES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"POST /v1?x=%00 HTTP/1.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"GET / HTTP/2.0\r\n"),
        *(
            b"host: localhost\r\n",
            b"content-length: 3\r\n",
            b"transfer-encoding: chunked\r\n",
            b"expect: 100-continue\r\n",
        ),
        *(
            b"connection: upgrade\r\n",
            b"upgrade: h2c\r\n",
            b"content-encoding: gzip\r\n",
            b"x: \xff\xfe\r\n",
            b" y\r\n",
        ),
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"abc",
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            b"0\r\n",
            b"fffffff\r\n",
            gzip.compress(b"abc", mtime=0),
        ),
    ]
)


@settings(max_examples=300)
@given(st.lists(PIECES | st.binary(max_size=40), max_size=30), st.integers(1, 64))
@example([b"GET / HTTP/1.1\r\n", b"connection: upgrade\r\n", b"upgrade: h2c\r\n", b"x: \xff\r\n", b"\r\n", b"\r\n"], 64)
def test_no_bytes_get_an_exception_out_and_what_is_held_is_bounded(pieces: list[bytes], step: int) -> None:
    reader = Reader(Limits(body_bytes=100, head_bytes=200, head_count=4))
    data = b"".join(pieces)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        assert len(reader._body) <= 100
        assert len(reader._headers) <= 4
        assert sum(map(len, reader._headers.values())) + len(reader._target) <= 3 * 200
        for request in reader.requests:
            assert len(request.body) <= 100
    if reader.refused is not None:
        count = len(reader.requests)
        reader.feed(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert len(reader.requests) == count


# ---- two readers must not understand two things ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        b"content-length: 3, 3\r\n\r\nabc",
        b"content-length: +3\r\n\r\nabc",
        b"content-length: 0x3\r\n\r\nabc",
        b"content-length: -3\r\n\r\nabc",
        b"content-length: 99999999999999999999999\r\n\r\nabc",
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"x: a\r\n b\r\n\r\n",
        b"x: a\r\n\tb\r\n\r\n",
        b"x: a\n\r\n",
        b"x: a\r\r\n",
        b"x: a\ry: b\r\n\r\n",
        b"x: a\0b\r\n\r\n",
        b"x\0: a\r\n\r\n",
        b": a\r\n\r\n",
        b"x: a\r\n\n",
        b"host: elsewhere\r\n\r\n",
        b"authorization: a\r\nauthorization: b\r\n\r\n",
    ],
)
def test_a_head_that_can_be_understood_in_two_ways_is_refused(headers: bytes) -> None:
    assert refused(START + headers) == 400


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"xchunked", b"chunked, chunked", b"identity"])
def test_codings_of_the_transfer_but_chunked_are_refused(coding: bytes) -> None:
    assert refused(START + b"transfer-encoding: " + coding + b"\r\n\r\n0\r\n\r\n") in {400, 501}


def test_http_1_0_has_no_chunks() -> None:
    assert refused(CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n") == 501


@pytest.mark.parametrize(
    "body",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcX0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b"fffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_chunks_that_can_be_understood_in_two_ways_are_refused(body: bytes) -> None:
    assert refused(CHUNKED + body) == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/2.0\r\nhost: localhost\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nhost: localhost\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nhost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
    ],
)
def test_what_is_not_http_1_is_refused(data: bytes, status: int) -> None:
    assert refused(data) == status


def test_a_target_with_an_address_is_a_path_at_that_host() -> None:
    request = only(b"GET http://other:1/v1/models?a=b HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (request.path, request.query, request.headers["host"]) == ("/v1/models", {"a": "b"}, "other:1")
    assert only(b"GET HTTP://h HTTP/1.1\r\nhost: localhost\r\n\r\n").path == "/"
    assert only(b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n").path == "*"


def test_nothing_after_the_last_request_of_a_connection_becomes_another() -> None:
    last = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    assert len(read(last + last).requests) == 1


def test_a_trailer_is_no_header() -> None:
    request = only(CHUNKED + b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\nx-more: y\r\n\r\n")
    assert request.body == b"abc"
    assert "authorization" not in request.headers
    assert "x-more" not in request.headers


def test_trailers_are_bounded_as_heads_are() -> None:
    assert refused(CHUNKED + b"0\r\n", *[b"x: " + b"y" * 100 + b"\r\n"] * 9, head_bytes=500) == 431


def test_a_header_that_is_there_twice_is_joined() -> None:
    assert only(START + b"accept: a\r\naccept: b\r\n\r\n").headers["accept"] == "a, b"


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_a_head_is_bounded_in_bytes_and_in_number() -> None:
    assert refused(b"GET /" + b"x" * 300, b"x" * 300, head_bytes=500) == 431
    assert refused(START, *[b"x: " + b"y" * 100 + b"\r\n"] * 9, head_bytes=500) == 431
    assert refused(START + b"".join(b"x%d: y\r\n" % number for number in range(9)), head_count=5) == 431


def test_a_body_is_bounded_before_it_comes_and_while_it_comes() -> None:
    assert only(posted(b"x" * 10), body_bytes=10).body == b"x" * 10
    assert only(in_chunks(b"x" * 5, b"x" * 5), body_bytes=10).body == b"x" * 10
    assert refused(posted(b"x" * 11)[:-11], body_bytes=10) == 413
    assert refused(in_chunks(b"x" * 5, b"x" * 6), body_bytes=10) == 413


def test_small_chunks_cost_no_more_than_their_bytes() -> None:
    reader = Reader(Limits())
    reader.feed(CHUNKED)
    piece = b"2\r\nab\r\n" * 1000
    tracemalloc.start()
    try:
        for _ in range(20):
            reader.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.held_bytes == 40_000
    assert held < 3 * 40_000


# ---- packed bodies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pack"), [(b"gzip", gzip.compress), (b"x-gzip", gzip.compress), (b"deflate", zlib.compress)]
)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_packed_body_is_unpacked(name: bytes, pack: Any, step: int) -> None:
    data = posted(pack(b"abc" * 50), b"content-encoding: " + name)
    assert only(*(data[at : at + step] for at in range(0, len(data), step))).body == b"abc" * 50


def test_a_packed_bomb_is_refused_before_it_grows() -> None:
    bomb = posted(gzip.compress(b"\0" * (64 << 20)), b"content-encoding: gzip")
    reader = Reader(Limits(body_bytes=1 << 20))
    tracemalloc.start()
    try:
        reader.feed(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.refused is not None
    assert reader.refused.status == 413
    assert peak < 4 << 20


def test_a_packed_body_that_comes_to_nothing_is_bounded_by_what_it_costs() -> None:
    empty = b"\0\0\0\xff\xff" * 100  # deflate blocks that hold nothing
    packed = zlib.compressobj(wbits=31)
    start = packed.compress(b"") + packed.flush(zlib.Z_SYNC_FLUSH)
    chunks = (b"%x\r\n%b\r\n" % (len(empty), empty) for _ in range(50))
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    assert refused(head + b"%x\r\n%b\r\n" % (len(start), start), *chunks, body_bytes=10_000) == 413


@pytest.mark.parametrize("packed", [b"not packed", PACKED[:-1], PACKED + b"more", PACKED * 2])
def test_a_packed_body_that_is_not_what_it_says_is_refused(packed: bytes) -> None:
    assert refused(posted(packed, b"content-encoding: gzip")) == 400


def test_other_packings_are_refused() -> None:
    assert refused(posted(b"abc", b"content-encoding: br")) == 415
    assert refused(posted(b"abc", b"content-encoding: gzip, gzip")) == 415


# ---- upgrades -------------------------------------------------------------------------------------------------------

OFFER = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(step: int) -> None:
    data = posted(b"abc", *OFFER) + posted(b"def")
    reader = read(*(data[at : at + step] for at in range(0, len(data), step)))
    assert reader.refused is None
    assert [request.body for request in reader.requests] == [b"abc", b"def"]
    assert all(request.keep_alive for request in reader.requests)


def test_an_offer_hides_no_second_length() -> None:
    assert (
        refused(START + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\ncontent-length: 9\r\n\r\nx")
        == 400
    )
    joined = b"connection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
    assert not only(START + joined).keep_alive
