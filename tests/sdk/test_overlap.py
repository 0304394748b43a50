"""What is dropped where a model repeats the end of what it had said, and that nothing else is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byenatos_sdk.runtime.overlap import EVIDENT, REACH, Overlap, repeated

WORDS = st.lists(st.text("abcdefgh", min_size=3, max_size=8), min_size=3, max_size=30, unique=True)
LIKELY = st.text("ab .…\nÄ汉1", max_size=30)
"""Texts that overlap in every way, of few characters."""


def joined(before: str, pieces: list[str]) -> str:
    """What a client has in the end."""
    overlap = Overlap(before)
    rest = iter(pieces)
    for piece in rest:
        text = overlap.feed(piece)
        if text is not None:
            return before + text + "".join(rest)
    return before + overlap.end()


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:stop] for start, stop in pairwise(edges)]


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("The qui", "quick brown fox", "The quick brown fox"),
        ("The qui", "ck brown fox", "The quick brown fox"),
        ("The quick brown", " fox", "The quick brown fox"),
        ("a hel", "lo", "a hello"),
        ("It jumps over the lazy", "It jumps over the lazy dog.", "It jumps over the lazy dog."),
        ("First. It jumps over the lazy", "It jumps over the lazy dog.", "First. It jumps over the lazy dog."),
        ("It jumps over the lazy ", "…jumps over the lazy dog.", "It jumps over the lazy dog."),
        ("It jumps over the lazy", "... over the lazy dog.", "It jumps over the lazy dog."),
        ("It jumps over the lazy", "\n\njumps over the lazy dog.", "It jumps over the lazy dog."),
        ("1. Ape\n2. Bear\n3. C", "3. Cat\n4. Dog", "1. Ape\n2. Bear\n3. Cat\n4. Dog"),
        ("def f():\n    return sum(values", "    return sum(values)\n", "def f():\n    return sum(values)\n"),
        ("今天的天气非常好、我们", "天气非常好、我们去公园。", "今天的天气非常好、我们去公园。"),
    ],
)
def test_a_repetition_is_dropped(before, after, whole):
    assert joined(before, list(after)) == whole


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("I am very ", "very glad"),
        ("I am very", " very glad"),
        ("I think that", " that is it"),
        ("1 1 2 ", "2 3"),
        ("Pi is 3.14", "14"),
        ("x = [", "...rest]"),
        ("Well", "… I think"),
        ("很", "很好"),
        ("f(", "(x)"),
        ("    a\n    ", "    b"),
        ("", "anything"),
        ("same", ""),
    ],
)
def test_what_may_be_meant_is_kept(before, after):
    assert joined(before, list(after)) == before + after


@given(WORDS, st.data())
def test_whatever_end_of_it_is_repeated_the_answer_is_whole_in_the_end(words, data):
    whole = " ".join(words)
    at = data.draw(st.integers(1, len(whole)))
    first = data.draw(st.integers(0, len(words) - 1))
    start = len(" ".join(words[:first])) + bool(first)
    evident = sum(map(str.isalnum, whole[start:at])) >= EVIDENT
    after = whole[start if evident else at :]
    assert joined(whole[:at], cut(after, data.draw(st.lists(st.integers(0, 300), max_size=9)))) == whole


@given(LIKELY, LIKELY, st.lists(st.integers(0, 30), max_size=9))
def test_it_does_not_matter_how_the_answer_is_cut_into_pieces(before, after, places):
    assert joined(before, cut(after, places)) == joined(before, [after])


@given(LIKELY, LIKELY)
def test_nothing_is_dropped_but_an_end_of_what_was_said_before(before, after):
    dropped = after[: repeated(before, after)]
    assert before.endswith((dropped, dropped.lstrip().removeprefix("…").removeprefix("...").lstrip()))


@given(st.text("abc ", max_size=50), st.text("xyz ", min_size=1, max_size=50).filter(lambda text: text.strip()))
def test_what_has_nothing_in_common_passes_as_it_is(before, after):
    assert joined(before, list(after)) == before + after


@given(st.text("xyz", max_size=3), st.integers(0, 3 * REACH))
def test_no_more_is_held_back_than_reaches_the_cut(end, length):
    overlap = Overlap("ab" * (2 * REACH) + end)
    after = "ba" * length
    for at in range(0, len(after), 7):
        if overlap.feed(after[at : at + 7]) is not None:
            break
        assert len(overlap.held) <= REACH
