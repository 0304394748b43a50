"""HTTP/1.1 as the broker writes it: cut anywhere it reads the same, and rubbish is a violation and nothing else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sdk.egress.framing import Chunked, Counted, Head, UntilClosed, Violation, body_of, read_head


def chunked(*pieces, extension=b"", trailers=b""):
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
    return framed + b"0\r\n" + trailers + b"\r\n"


def fed(body, data, cuts=()):
    places = [0, *sorted(cuts), len(data)]
    return b"".join(body.feed(data[start:end]) for start, end in pairwise(places))


def test_a_head_is_read_with_names_in_lower_case():
    head = read_head(b"HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nx-a:1\r\nX-A: 2 ")
    fields = [(b"Retry-After", b"3"), (b"x-a", b"1"), (b"X-A", b"2")]
    assert head == Head(429, {"retry-after": "3", "x-a": "1, 2"}, fields)
    assert read_head(b"HTTP/1.1 200") == Head(200, {}, [])


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200\r\n a: b",
    ],
)
def test_what_is_no_head_is_a_violation(block):
    with pytest.raises(Violation):
        read_head(block)


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"content-length": "3"}, Counted),
        ({"transfer-encoding": "chunked"}, Chunked),
        ({}, UntilClosed),
    ],
)
def test_the_head_says_how_the_body_is_framed(headers, kind):
    assert isinstance(body_of(Head(200, headers)), kind)
    assert body_of(Head(204, headers)).over
    assert body_of(Head(200, headers), bodiless=True).over


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "-1"},
        {"content-length": "1, 1"},
        {"content-length": "٣"},
        {"content-length": "9" * 16},
        {"transfer-encoding": "gzip"},
        {"transfer-encoding": "chunked", "content-length": "3"},
    ],
)
def test_a_length_that_could_be_read_in_two_ways_is_a_violation(headers):
    with pytest.raises(Violation):
        body_of(Head(200, headers))


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 400)), st.binary(max_size=5))
def test_chunks_that_are_cut_anywhere_are_the_content_that_was_framed(pieces, cuts, more):
    data = chunked(*pieces, extension=b";x=1", trailers=b"a: b\r\n")
    body = Chunked()
    assert fed(body, data + more, [cut for cut in cuts if cut <= len(data)]) == b"".join(pieces)
    assert body.over
    assert body.closed()
    assert body.rest == more


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)), st.binary(max_size=5))
def test_a_counted_body_ends_where_it_said(content, cuts, more):
    body = Counted(len(content))
    assert fed(body, content + more, [cut for cut in cuts if cut <= len(content)]) == content
    assert body.over
    assert body.rest == more


def test_a_body_that_breaks_off_is_not_whole():
    body = Chunked()
    assert body.feed(b"5\r\nhel") == b"hel"
    assert not body.closed()
    counted = Counted(5)
    counted.feed(b"hel")
    assert not counted.closed()
    assert UntilClosed().closed()


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"0\r\n", b"5\r\n", b"\r\n", b"x", b"\n"])).map(b"".join))
def test_rubbish_is_read_or_a_violation(data):
    for body in (Chunked(), Counted(7), UntilClosed()):
        try:
            found = body.feed(data)
        except Violation:
            continue
        assert len(found) <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"-1\r\n",
        b"+5\r\n",
        b"\r\n",
        b"5\nhello",
        b"5\r\nhelloX\r\n",
        b"f" * 20 + b"\r\n",
        b"0" * 2000,
        b"0\r\n" + b"a:b\r\n" * 65,
    ],
)
def test_chunks_that_are_none_are_a_violation(data):
    with pytest.raises(Violation):
        Chunked().feed(data)
