import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sdk.formats import ndjson
from byenatos_sdk.formats.ndjson import LineReader, in_lines
from byenatos_sdk.protocol.errors import UpstreamFailed


def read(*pieces):
    reader = LineReader()
    return [line for piece in pieces for line in reader.feed(piece)] + reader.end()


def test_blank_lines_and_carriage_returns_mean_nothing():
    assert read(b'{"a":1}\r\n\n  \n{"b":2}') == [b'{"a":1}', b'{"b":2}']


@given(st.lists(st.binary(max_size=8), max_size=8), st.data())
def test_the_lines_are_the_same_wherever_the_bytes_are_cut(lines, data):
    wire = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read(*pieces) == read(wire)


def test_an_endless_line_is_refused(monkeypatch):
    monkeypatch.setattr(ndjson, "MAX_LINE", 1000)
    reader = LineReader()
    for _ in range(10):
        assert reader.feed(b"x" * 100) == []
    with pytest.raises(UpstreamFailed, match="at most 1000 bytes"):
        reader.feed(b"x")


@given(st.text(max_size=30))
def test_lines_end_only_where_they_are_meant_to(text):
    data = in_lines(json.dumps({"a": text}, ensure_ascii=False).encode())
    assert json.loads(data) == {"a": text}
    assert len(data.decode().splitlines()) == 1
