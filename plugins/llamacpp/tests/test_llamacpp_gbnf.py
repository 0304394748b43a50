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


LEVELS = "\n".join(f"a{level} ::= a{level - 1} a{level - 1} | a{level - 1}" for level in range(1, 41))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f'root ::= "x"\n{LEVELS}\na0 ::= "x"?', "a[0-9]+"),
        (f'root ::= a40\n{LEVELS}\na0 ::= ""', None),
        ('root ::= ("a"?){2000}', "root"),
        ('root ::= "b" (c? d*){400}\nc ::= "a"\nd ::= "a" | "e"', "root"),
        ('root ::= many "!"\nmany ::= ' + '"a"? ' * 400, "root"),
        ("root ::= " + " | ".join(f'"v{number}"' for number in range(12_000)), "root"),
        ("root ::= " + " | ".join(f'"v{number}"' for number in range(6_000)), None),
        ('root ::= "\\"" [a-z]{0,1000} "\\""', None),
        ('root ::= ("a"*)* (("a" | "aa")+ "b")* ("" | "a")+', None),
        ('root ::= one | one ("," one)*\none ::= "a" | "[" root "]" | ("a"?){100}', None),
        ('root ::= x "a" | "b"\nx ::= root', None),  # left recursion, which llama.cpp refuses
        ("\n".join(("root ::= r0", *(f"r{n} ::= r{n + 1}" for n in range(5000)), 'r5000 ::= "a"')), None),
        ('root ::= "a"' + "*" * 5000, None),
    ],
    ids=[
        "levels", "empty levels", "empty parts", "empty parts later", "a rule of them", "12,000 values", "6,000 values",
        "a long text", "nested loops", "nested lists", "left recursion", "a chain", "a loop of loops",
    ],
)  # fmt: skip
def test_a_grammar_that_leaves_too_much_open_is_refused_before_llama_cpp_tries_it(text: str, rule: str | None) -> None:
    if rule is None:
        check_gbnf(text, "g")
        return
    with pytest.raises(InvalidRequest, match=f"g: rule '{rule}': expected at most 10000 ways on"):
        check_gbnf(text, "g")


@settings(deadline=None)
@given(text=st.text(max_size=60) | st.text(alphabet='root ::=\n"ab|()[]{}1,*<>!\\.', max_size=60))
def test_arbitrary_text_is_judged(text: str) -> None:
    for whole in (text, f"root ::= {text}"):
        with suppress(InvalidRequest):
            check_gbnf(whole, "g")
