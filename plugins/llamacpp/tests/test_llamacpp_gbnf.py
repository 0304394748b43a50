"""Tests of the check that grammars pass before llama.cpp reads them."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_gbnf import MAX_GRAMMAR, check_gbnf


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a"',
        'root ::= "a" | b # a comment\n\nb ::= [^a-z"\\]\\x41\\u00e9] . <[12]> !<think>',
        'root ::=\n  "a" |\n  "b"\nc ::= ( "a"\n | "b" )* "c"{2} "d"{1,} "e"{ 1, 3 }+',
        'root ::= "\\"\\\\\\n" x-1\r\nx-1 ::= ""',
        "root ::= ",
    ],
)
def test_what_llama_cpp_reads_passes(text: str) -> None:
    check_gbnf(text, "g")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "g: expected a rule 'root', found 0 others"),
        ('x ::= "a"', "g: expected a rule 'root', found 1 others"),
        ('root ::= "a"\nroot = "b"', "g: line 2: expected '::=' after the name of a rule, found '= \"b\"'"),
        ('root ::= "a', "g: line 1: expected a literal, a class"),
        ("root ::= [a", "g: line 1: expected a literal, a class"),
        ('root ::= ("a"', r"g: line 1: expected '\)', found the end of the line"),
        ('root ::= "a")', r"g: line 1: expected a literal.*found '\)'"),
        ("root ::= * ", r"g: line 1: expected a literal.*found '\*"),
        ("\n\nroot ::= other", "g: line 3: expected every rule that is used to be defined, found no rule 'other'"),
        ("root ::= " + "(" * 101, "g: line 1: expected groups nested at most 100 deep"),
        ("root ::= " + '"a" ' * MAX_GRAMMAR, f"g: expected a grammar of at most {MAX_GRAMMAR} characters"),
        ('root ::= "\0"', "g: expected a grammar without NUL characters"),
    ],
)
def test_what_is_no_grammar_is_refused_with_the_line(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_gbnf(text, "g")


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.text(alphabet='root ::=\n"ab|()[]{}1,*<>!\\.', max_size=60))
def test_arbitrary_text_is_judged(text: str) -> None:
    for whole in (text, f"root ::= {text}"):
        with suppress(InvalidRequest):
            check_gbnf(whole, "g")
