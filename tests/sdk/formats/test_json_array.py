import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sdk.formats import strategies

from byenatos_sdk.formats.json_array import ArrayReader
from byenatos_sdk.protocol.errors import UpstreamFailed


def elements(*pieces: bytes) -> list[bytes]:
    reader = ArrayReader()
    return [one for piece in pieces for one in reader.feed(piece)] + reader.end()


@settings(max_examples=100)
@given(
    st.lists(strategies.json_objects, max_size=4),
    st.none() | st.integers(0, 3),
    st.lists(st.integers(0, 300), max_size=5),
)
def test_elements_come_as_they_were_written_however_they_are_cut(values, indent, cuts):
    raw = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    pieces = [raw[first:last] for first, last in itertools.pairwise(edges)]
    for way in ([raw], [raw[at : at + 1] for at in range(len(raw))], pieces):
        assert [json.loads(one) for one in elements(*way)] == values


def test_an_object_alone_is_an_array_of_one():
    assert elements(b' {"a": [1]} ') == [b'{"a": [1]}']


def test_brackets_and_quotes_in_texts_are_text():
    assert elements(b'[{"a": "}]\\"{"}, {"b": "\\\\"}]') == [b'{"a": "}]\\"{"}', b'{"b": "\\\\"}']


def test_what_the_end_cuts_off_is_returned_last():
    assert elements(b'[{"a": 1}, {"b": ') == [b'{"a": 1}', b'{"b": ']


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=20), max_size=5))
def test_what_comes_of_bytes_of_any_kind_stands_in_them(pieces):
    raw = b"".join(pieces)
    at = 0
    for one in elements(*pieces):
        found = raw.find(one, at)
        assert found >= at
        at = found + len(one)


def test_an_element_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("byenatos_sdk.formats.json_array.MAX_ELEMENT", 100)
    reader = ArrayReader()
    assert reader.feed(b"[" + b" " * 1000) == []
    assert reader.feed(b'{"a": "' + b"x" * 90) == []
    with pytest.raises(UpstreamFailed, match="100 bytes"):
        reader.feed(b"x" * 10)
