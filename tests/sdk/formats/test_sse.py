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
    return [found for piece in pieces for found in reader.feed(piece)] + reader.end()


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


def test_what_is_written_is_read():
    raw = event(b'{"a":1}') + event(b"{}", "done")

    assert read(raw) == [Event(b'{"a":1}'), Event(b"{}", "done")]


def test_an_endless_event_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    for piece in (b"data: xxxxxxxxxx\n", b"data: xxxxxxxxxx", b"data: xxxxxxxxxx\r"):
        with pytest.raises(UpstreamFailed, match="at most 100 bytes"):
            read(*[piece] * 20)
