"""Tests of forms of an answer that come in the words of other servers: as grammars, they let through what was asked."""

import random
import re
from typing import Any

import pytest
from gbnf_writer import write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_llamacpp_schema import PATTERNS

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, user
from llamacpp_forms import own_form
from llamacpp_gbnf import check_gbnf

LINES = ["yes", 'no\nor "yes"', "\\", "价格 é😀"]


def form(**extra: Any) -> Any:
    return own_form(InferenceRequest((user("Hi"),), extra=extra))


def enum(values: Any, name: str = "responseSchema") -> dict[str, Any]:
    return {"generationConfig": {"responseMimeType": "text/x.enum", name: {"type": "STRING", "enum": values}}}


def written(grammar: str, count: int = 6) -> set[str]:
    check_gbnf(grammar, "form")
    return {write(grammar, random.Random(seed)) for seed in range(count)}


def test_a_request_without_one_has_none() -> None:
    assert form() is None
    assert form(grammar=None, structured_outputs=None, generationConfig={"responseMimeType": "text/plain"}) is None
    assert form(format="gemini", generationConfig={"candidateCount": 1}) is None


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ({"structured_outputs": {"choice": LINES}}, "extra.structured_outputs.choice"),
        (enum(LINES), "generationConfig.responseSchema.enum"),
        (enum(LINES, "responseJsonSchema"), "generationConfig.responseJsonSchema.enum"),
    ],
)
def test_an_answer_is_one_of_several_texts(extra: dict[str, Any], where: str) -> None:
    found = form(**extra)
    assert found.where == where
    assert written(found.grammar, 40) == set(LINES)


@given(pattern=PATTERNS, begins=st.booleans(), ends=st.booleans(), vllm=st.booleans())
@settings(max_examples=40, deadline=None)
def test_an_answer_matches_a_regular_expression_as_a_whole(pattern: str, begins: bool, ends: bool, vllm: bool) -> None:
    whole = "^" * begins + pattern + "$" * ends
    found = form(structured_outputs={"regex": whole}) if vllm else form(grammar={"type": "regex", "value": whole})
    for text in written(found.grammar):
        assert re.fullmatch(pattern, text), (whole, text)


def test_what_must_be_escaped_in_json_stands_in_a_plain_answer_as_it_is() -> None:
    assert written(form(grammar={"type": "regex", "value": 'a"\\\\\\n\\tb'}).grammar) == {'a"\\\n\tb'}
    assert written(form(grammar={"type": "regex", "value": '["]'}).grammar) == {'"'}


def test_a_grammar_goes_as_it_is() -> None:
    assert form(grammar='root ::= "a"') == ("extra.grammar", 'root ::= "a"')
    assert form(structured_outputs={"grammar": 'root ::= "a"', "regex": None}).grammar == 'root ::= "a"'


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"grammar": 7}, "extra.grammar: expected a GBNF grammar as text, found 7"),
        ({"grammar": {"type": "xml"}}, "extra.grammar: expected a GBNF grammar as text, found {'type': 'xml'}"),
        ({"grammar": {"type": "regex"}}, "extra.grammar.value: expected pattern to be a regular expression"),
        ({"grammar": {"type": "regex", "value": "(a"}}, "extra.grammar.value: pattern: not a regular expression"),
        ({"grammar": {"type": "regex", "value": r"(a)\1"}}, "pattern: a grammar cannot express groupref"),
        ({"grammar": {"type": "regex", "value": "\ud800"}}, "pattern: U+D800 cannot stand in an answer"),
        (
            {"grammar": {"type": "regex", "value": "[\ud800\ud801]"}},
            "a class holds no character that can stand in an answer",
        ),
        ({"structured_outputs": "x"}, "extra.structured_outputs: expected an object with one of regex, choice"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "extra.structured_outputs: expected an object with one of"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "extra.structured_outputs: expected an object with"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice: expected a list of 1 to 1000 texts"),
        ({"structured_outputs": {"choice": ["a", 7]}}, "choice: expected texts of 1 to 1000 characters, found 7"),
        (enum(None), "generationConfig.responseSchema.enum: expected a list of 1 to 1000 texts, found None"),
        ({"grammar": "root ::= x", **enum(["a"])}, "extra.grammar and generationConfig.responseSchema.enum: expected"),
    ],
)
def test_what_is_no_form_is_refused_by_name(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        form(**extra)
