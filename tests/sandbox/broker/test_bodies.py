"""Bodies of HTTP/1.1: what goes out comes in again however it is cut, and nothing is taken that h11 reads otherwise."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sandbox.broker.bodies import (
    CHUNKED,
    LONGEST_LINE,
    MOST_TRAILERS,
    UNTIL_CLOSED,
    Incoming,
    MalformedBodyError,
    Outgoing,
)

CHUNKS = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [b"\r\n", b"\r", b"\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\n", b"a: b\r\n", b"3;x=y\r\nabc\r\n"]
        ),
        st.sampled_from(
            [b"5 ", b"F" * 16, b"-1\r\n", b"0x5\r\n", b"2\r\nabc\r\n", b"00\r\n", b";", b"HTTP/1.1 200 OK\r\n"]
        ),
    ),
    max_size=12,
).map(b"".join)


def pieces_of(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def take_in(length, pieces):
    """Content and what followed it; ``None`` for what followed if the end has not come, or for both if malformed."""
    body, content, rest = Incoming(length), b"", b""
    try:
        for piece in pieces:
            if body.over:
                rest += piece
            else:
                content += body.feed(piece)
    except MalformedBodyError:
        return None
    return content, body.rest + rest if body.over else None


@given(st.lists(st.binary(max_size=300)), st.binary(max_size=30), st.integers(1, 100))
def test_chunks_that_went_out_come_in_again_however_they_are_cut(contents, behind, size):
    out = Outgoing(CHUNKED)
    data = b"".join([out.data(one) for one in contents]) + out.end() + behind
    assert take_in(CHUNKED, pieces_of(data, size)) == (b"".join(contents), behind)


@given(CHUNKS, st.integers(1, 7))
def test_chunks_are_taken_or_refused_however_they_are_cut(data, size):
    assert take_in(CHUNKED, pieces_of(data, size)) == take_in(CHUNKED, [data])


@given(CHUNKS)
def test_no_chunks_are_taken_that_h11_reads_otherwise(data):
    taken = take_in(CHUNKED, [data])
    if taken is None or taken[1] is None:
        return
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    content = b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            content += event.data
    assert taken == (content, http.trailing_data[0])


@given(st.binary(max_size=100), st.integers(1, 90), st.integers(1, 20))
def test_a_body_of_a_length_ends_there(data, length, size):
    content, behind = take_in(length, pieces_of(data, size))
    assert content == data[:length]
    assert behind == (data[length:] if len(data) >= length else None)


def test_a_body_without_a_length_ends_with_its_connection_and_no_other_does():
    body = Incoming(UNTIL_CLOSED)
    assert body.feed(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert not body.over
    body.end()
    assert body.over
    for length in (CHUNKED, 3):
        with pytest.raises(MalformedBodyError):
            Incoming(length).end()


@pytest.mark.parametrize(
    "data",
    [
        b"5" + b" " * LONGEST_LINE + b"\r\n",
        b"5;" + b"x" * LONGEST_LINE,
        b"0\r\n" + b"a: b\r\n" * MOST_TRAILERS,
        b"0\r\na" + b"x" * LONGEST_LINE,
    ],
)
def test_lines_and_trailers_are_bounded(data):
    assert take_in(CHUNKED, pieces_of(data, 1000)) is None


def test_what_goes_out_is_as_long_as_was_announced():
    out = Outgoing(3)
    assert out.data(b"ab") == b"ab"
    with pytest.raises(MalformedBodyError, match="longer"):
        out.data(b"cd")
    with pytest.raises(MalformedBodyError, match="shorter"):
        out.end()
    assert out.data(b"c") + out.end() == b"c"
    assert out.over
