"""Heads of HTTP/1.1: read as h11 reads them or not at all, and written so that nothing put into one ends its line."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sandbox.broker.bodies import CHUNKED, UNTIL_CLOSED
from byenatos_sandbox.broker.framing import check_head, parse_answer, parse_request, write_head
from byenatos_sandbox.broker.refusal import Refused

LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"content-length: 5", b"Content-Length:5 ", b"content-length: 6", b"content-length: 5, 5"]),
        st.sampled_from([b"transfer-encoding: chunked", b"Transfer-Encoding: gzip", b"connection: close", b"a:\tb\t"]),
        st.sampled_from([b" folded", b"no colon", b": no name", b"space : x", b"a: \xe4", b"a: \x01", b"a: b\nc: d"]),
    ),
    max_size=5,
)
FIRST = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 404 ", b"HTTP/1.1 204 \xe4", b"HTTP/1.1 100 x",
                         b"HTTP/2.0 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1  200 OK", b"http/1.1 200 OK"])  # fmt: skip


@given(FIRST, LINES, st.sampled_from([b"GET", b"HEAD"]))
def test_no_answer_is_taken_that_h11_reads_otherwise(first, lines, method):
    head = b"\r\n".join([first, *lines, b"", b""])
    if head.index(b"\r\n\r\n") + 4 != len(head):
        return
    found = parse_answer(head, method)
    if found is None:
        return
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(head)
    event = http.next_event()
    assert event.status_code == found.status
    assert dict(event.headers) == dict(found.headers)
    if found.status >= 200:
        http.receive_data(b"5\r\nhello\r\n0\r\n\r\n")
        content, event = b"", http.next_event()
        while isinstance(event, h11.Data):
            content, event = content + event.data, http.next_event()
        if found.length == CHUNKED:
            assert content == b"hello"
        elif found.length == UNTIL_CLOSED:
            assert event is h11.NEED_DATA
        else:
            assert len(content) == found.length
        assert not found.lasting or found.length == UNTIL_CLOSED or http.our_state is h11.DONE


@given(LINES)
def test_no_request_is_taken_that_h11_reads_otherwise(lines):
    head = b"\r\n".join([b"POST /v1/x HTTP/1.1", b"host: x", *lines, b"", b""])
    if head.index(b"\r\n\r\n") + 4 != len(head):
        return
    try:
        check_head(head)
        found = parse_request(head)
    except Refused:
        return
    http = h11.Connection(h11.SERVER)
    http.receive_data(head)
    event = http.next_event()
    assert (event.method, event.target) == (found.method, found.target)
    assert [(name, value.lower()) for name, value in event.headers] == [
        (name, value.lower()) for name, value in found.headers
    ]
    assert (found.length == CHUNKED) == ((b"transfer-encoding", b"chunked") in list(event.headers))


FIELDS = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4)


@given(FIELDS)
def test_a_head_that_is_written_is_read_as_what_was_meant(headers):
    head = write_head(b"POST / HTTP/1.1", headers)
    if head is not None:
        assert parse_request(head).headers == [(name.lower(), value.strip(b" \t")) for name, value in headers]


@pytest.mark.parametrize(
    "header",
    [
        (b"a", b"b\r\nc: d"),
        (b"a", b"b\n"),
        (b"a", b"b\r"),
        (b"a", b"\0"),
        (b"a b", b"c"),
        (b"a:", b""),
        (b"a: b", b"c"),
        (b"a: b\r\nc", b"d"),
        (b"", b""),
    ],
)
def test_a_header_that_would_be_two_or_none_is_not_written(header):
    assert write_head(b"HTTP/1.1 200 ", [(b"good", b"one"), header]) is None


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length: 1\r\ncontent-length: 2\r\n",
        b"content-length: 1\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"content-length: +1\r\n",
        b"content-length: \r\n",
        b"content-length: 1_0\r\n",
    ],
)
def test_an_answer_with_two_lengths_or_a_length_that_is_none_is_malformed(lines):
    assert parse_answer(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n", b"GET") is None
