"""Server-sent events are read as the standard says, however their bytes are cut."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.formats import sse
from byenatos_sdk.formats.sse import Event, EventReader, event
from byenatos_sdk.protocol.errors import UpstreamFailed


def read(*pieces):
    reader = EventReader()
    events = [one for piece in pieces for one in reader.feed(piece)]
    return events + reader.end()


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_any_of_three_ways(newline):
    wire = newline.join([b": hello", b"event: a", b"data: 1", b"data:2", b"id: 7", b"", b"data: 3", b"", b""])
    assert read(wire) == [Event(b"1\n2", "a", (b"hello",)), Event(b"3")]


def test_only_one_blank_after_the_colon_is_dropped():
    assert read(b"data:  x\n\n") == [Event(b" x")]


def test_a_line_separator_of_unicode_ends_no_line():
    text = "a\u2028b\u2029c\u0085d\x0b\x0c\x1c".encode()
    assert read(b"data: " + text + b"\n\n") == [Event(text)]


def test_a_byte_order_mark_is_skipped_even_if_it_is_cut():
    assert read(b"\xef", b"\xbb", b"\xbfdata: x\n\n") == [Event(b"x")]
    assert read(b"\xef\xbb") == []


def test_an_event_without_its_last_blank_line_is_returned_at_the_end():
    reader = EventReader()
    assert reader.feed(b"data: x") == []
    assert reader.end() == [Event(b"x")]
    assert reader.end() == []


def test_an_event_without_data_is_none():
    assert read(b"event: ping\n\nretry: 3\n\ndata: x\n\n") == [Event(b"x")]


@given(
    st.lists(st.sampled_from([b"data: 1", b"data:", b": c", b"event: e", b"", b"data: \xe2\x80\xa8"]), max_size=12),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.data(),
)
def test_the_events_are_the_same_wherever_the_bytes_are_cut(lines, newline, data):
    wire = newline.join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read(*pieces) == read(wire) == read(*(wire[at : at + 1] for at in range(len(wire))))


def by_the_standard(raw):
    """Read a whole stream the plain way: by lines, and an event at each blank one and at the end."""
    events, data, name, comments = [], [], "", []
    for line in [*raw.removeprefix(b"\xef\xbb\xbf").splitlines(), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                events.append(Event(b"\n".join(data), name, tuple(comments)))
            data, name, comments = [], "", []
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"error":
            data.append(value)
            name = "error"
        elif not field:
            comments.append(value)
    return events


_PIECES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"event: e",
        b": c",
        b"id: 1",
        b"error: x",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\xe2\x80\xa8",
    ]
)


@given(st.lists(_PIECES | st.binary(max_size=3), max_size=15), st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_as_the_standard_says_however_they_are_cut(pieces, cuts):
    raw = b"".join(pieces)
    expected = by_the_standard(raw)
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})

    assert read(raw) == expected
    assert read(*pieces) == expected
    assert read(*(raw[at : at + 1] for at in range(len(raw)))) == expected
    assert read(*(raw[a:b] for a, b in itertools.pairwise(edges))) == expected


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_without_an_error_and_the_same_byte_by_byte(data):
    assert read(data) == read(*(data[at : at + 1] for at in range(len(data))))


def test_what_is_written_is_what_is_read():
    assert read(event(b'{"a":1}', "b") + event(b"[DONE]")) == [Event(b'{"a":1}', "b"), Event(b"[DONE]")]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 100 + b"\n", b"x" * 106, b": " + b"x" * 100 + b"\r"])
def test_an_endless_event_is_refused(monkeypatch, piece):
    monkeypatch.setattr(sse, "MAX_EVENT", 1000)
    reader = EventReader()
    for _ in range(9):
        assert reader.feed(piece) == []
    with pytest.raises(UpstreamFailed, match="at most 1000 bytes"):
        reader.feed(piece * 2)
