"""Tests of the text assembler."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_text import TextAssembler

LETTERS = st.text(alphabet="ab\né😀", max_size=30)


def assembled(pieces: list[bytes], stops: tuple[str, ...] = (), *, lstrip: bool = False) -> str:
    assembler = TextAssembler(stops, lstrip=lstrip)
    text = ""
    for piece in pieces:
        text += assembler.feed(piece)
        if assembler.stopped:
            return text
    return text + assembler.finish()


def expected(text: str, stops: tuple[str, ...]) -> str:
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(
    text=LETTERS | st.text(max_size=40),
    stops=st.lists(st.text(alphabet="ab\né😀", min_size=1, max_size=4), max_size=3).map(tuple),
    places=st.lists(st.integers(0, 200), max_size=30),
)
def test_the_text_does_not_depend_on_where_its_bytes_were_cut(
    text: str, stops: tuple[str, ...], places: list[int]
) -> None:
    assert assembled(cut(text.encode(), places), stops) == expected(text, stops)


@given(data=st.binary(max_size=60), places=st.lists(st.integers(0, 100), max_size=20))
def test_any_bytes_become_whole_characters(data: bytes, places: list[int]) -> None:
    text = assembled(cut(data, places))
    assert data.decode(errors="replace").startswith(text)
    text.encode()


def test_a_stop_sequence_across_tokens_is_not_sent() -> None:
    assert assembled([b"one ", b"EN", b"D two"], ("END",)) == "one "


def test_the_beginning_of_a_stop_sequence_is_sent_once_it_is_none() -> None:
    assembler = TextAssembler(("END",))
    assert assembler.feed(b"an E") == "an "
    assert assembler.feed(b"N") == ""
    assert assembler.feed(b"T") == "ENT"


def test_what_was_held_back_is_sent_at_the_end() -> None:
    assert assembled([b"the EN"], ("END",)) == "the EN"


def test_half_a_character_at_the_end_is_dropped() -> None:
    assert assembled(["ab😀".encode()[:-1]]) == "ab"


@pytest.mark.parametrize("pieces", [[b" ", b"\n Paris "], [b" \n Paris "], [b" Paris", b" "]])
def test_leading_white_space_is_dropped_if_asked(pieces: list[bytes]) -> None:
    assert assembled(pieces, lstrip=True) == "Paris "
