import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdk.formats.strategies import json_objects

from byenatos_sdk.formats.calls import CallBook, arguments_object, arguments_text, invented_id


@given(json_objects)
def test_arguments_survive_as_an_object(value):
    text = json.dumps(value)
    assert json.loads(arguments_text(bytes(arguments_object(text)))) == value


@given(st.text(max_size=20))
def test_arguments_that_are_no_object_survive_as_text(text):
    wire = bytes(arguments_object(text))
    assert isinstance(json.loads(wire), dict)
    assert b"\n" not in wire
    if text.strip():
        assert "".join(arguments_text(wire).split()) == "".join(text.split())
    else:
        assert arguments_text(wire) == "{}"


def test_numbers_stay_as_they_were_written():
    assert bytes(arguments_object('{ "a": 1.10, "b": 12345678901234567890 }')) == b'{"a":1.10,"b":12345678901234567890}'


def test_calls_without_ids_get_the_same_ones_each_time():
    for _ in range(2):
        book = CallBook()
        assert [book.called("f", None).id, book.called("g", ""), book.called("f", "x").id] == [
            "call_0_f",
            ("call_1_g", "g", True, 1),
            "x",
        ]


def test_a_result_without_an_id_belongs_to_the_first_call_of_its_name_that_waits():
    book = CallBook()
    for name in ("f", "g", "f"):
        book.called(name, None)
    assert book.answered("f", None) == ("call_0_f", "f")
    assert book.answered("f", None) == ("call_2_f", "f")
    assert book.answered("", None) == ("call_1_g", "g")
    assert book.answered("h", None) == (invented_id(3, "h"), "h")


def test_a_result_with_an_id_gets_its_calls_name():
    book = CallBook()
    book.called("f", "a")
    book.called("g", "b")
    assert book.answered("", "b") == ("b", "g")
    assert book.expected("g") is None
    assert book.expected("").id == "a"


@pytest.mark.parametrize("calls", [50_000])
def test_a_long_conversation_is_followed_in_time_that_grows_with_it(calls):
    book = CallBook()
    for _ in range(calls):
        book.called("f", None)
    assert [book.answered("f", None)[0] for _ in range(calls)][-1] == f"call_{calls - 1}_f"
