from hypothesis import given
from hypothesis import strategies as st

from byenatos_sdk.formats.stops import StopCutter


def cut(text, stops, pieces):
    cutter = StopCutter(stops)
    shown = "".join(cutter.feed(piece) for piece in pieces)
    return shown + cutter.end(), cutter.hit


def test_text_that_may_be_a_stop_sequence_is_held_back_until_it_is_clear():
    cutter = StopCutter(("END",))
    assert [cutter.feed(piece) for piece in ("aE", "N", "T", "EN", "D", "x")] == ["a", "", "ENT", "", "", ""]
    assert (cutter.hit, cutter.end()) == ("END", "")


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_the_answer_is_cut_at_the_first_stop_sequence_however_it_comes(text, stops, data):
    places = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(places)[1]] if places else text
    marks = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
    shown, hit = cut(text, tuple(stops), pieces)
    assert shown == expected
    assert (hit is not None) == bool(places)
