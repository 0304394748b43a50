"""Keys are taken out of what comes back, in every spelling and however it is cut."""

import base64
import html
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sandbox.broker.redact import Redactor

KEY = 'sk-ca"n/ary+0123=456\\789<a&b>'
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def through(redactor: Redactor, pieces: list[bytes]) -> bytes:
    stream = redactor.stream()
    return b"".join([stream.feed(piece) for piece in pieces] + [stream.end()])


@pytest.mark.parametrize("shift", range(6))
def test_base64_of_a_key_is_found_wherever_it_lies_in_what_was_coded(shift):
    coded = base64.b64encode(b"x" * shift + KEY.encode() + b"yz")
    shown = through(Redactor([KEY.encode()]), [coded])
    assert len(shown) == len(coded)
    decoded = base64.b64decode(shown.replace(b"*", b"A"))
    assert KEY[3:-3].encode() not in decoded
    assert b"*" * (len(KEY) - 4) in shown


@pytest.mark.parametrize(
    "coded",
    [
        KEY,
        urllib.parse.quote(KEY, safe=""),
        urllib.parse.quote(KEY),
        urllib.parse.quote_plus(KEY),
        urllib.parse.quote(KEY, safe="").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        json.dumps(KEY)[1:-1],
        json.dumps(KEY)[1:-1].replace("/", "\\/"),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
    ],
)
def test_each_spelling_is_found(coded):
    assert KEY[5:12] not in through(Redactor([KEY.encode()]), [coded.encode()]).decode()


@given(KEYS, st.binary(max_size=50), st.binary(max_size=50), st.lists(st.integers(0, 500), max_size=12))
def test_a_key_is_found_however_it_is_cut(key, before, after, places):
    redactor = Redactor([key.encode()])
    data = before + key.encode() + after
    shown = through(redactor, cut(data, places))
    assert shown == redactor.whole(data)
    assert key.encode() not in shown
    assert len(shown) == len(data)


@given(KEYS, st.binary(max_size=200), st.lists(st.integers(0, 500), max_size=12))
def test_what_holds_no_key_is_not_changed(key, data, places):
    redactor = Redactor([key.encode()])
    assert through(redactor, cut(data, places)) == redactor.whole(data)


def test_only_what_could_become_a_key_is_held_back():
    stream = Redactor([b"sk-0123456789"]).stream()
    assert stream.feed(b"data: x\n\n") == b"data: x\n\n"
    assert stream.feed(b"data: sk-01") == b"data: "
    assert stream.feed(b"x") == b"sk-01x"
    assert stream.feed(b"sk-") == b""
    assert stream.end() == b"sk-"


def test_without_a_key_nothing_is_looked_for():
    data = html.escape(KEY).encode()
    assert through(Redactor([]), [data]) == through(Redactor([b"short"]), [data]) == data
