"""Tests of JSON schemas as grammars: whatever such a grammar lets through is an instance of the schema."""

import json
import random
import re
from typing import Any

import pytest
from gbnf_writer import write
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_gbnf import check_gbnf
from llamacpp_json import ANY_OBJECT
from llamacpp_schema import schema_to_gbnf

jsonschema = pytest.importorskip("jsonschema")


def written(schema: Any, count: int = 6) -> list[Any]:
    """Return values that the grammar of ``schema`` lets through, at random."""
    grammar = schema_to_gbnf(schema, "s")
    check_gbnf(grammar, "s")
    return [json.loads(write(grammar, random.Random(seed))) for seed in range(count)]


SCHEMAS: list[Any] = [
    {"type": "string"},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{1,3}$"},
    {"type": "string", "pattern": 'a("|\\\\)?[^b-z\\s]+|x.y'},
    {"type": "integer", "minimum": -12, "maximum": 340},
    {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
    {"type": "integer", "minimum": 98},
    {"type": "integer", "maximum": -98},
    {"type": "number", "minimum": -3, "exclusiveMaximum": 2},
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "number", "minimum": 7, "maximum": 7},
    {"type": ["boolean", "null"]},
    {"enum": ['a"b', 3, None, {"x": [1]}]},
    {"const": "é\n"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "null"}, "minItems": 3},
    {"type": "object"},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"const": 1}}, "required": ["b"]},
    {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}},
    {"type": "object", "properties": {"ab": {"const": 1}, "a": {"const": 2}}, "additionalProperties": {"type": "null"}},
    {"properties": {"a": {"type": "string"}}, "required": ["a", "z"]},
    {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]},
    {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]},
            {"type": "object", "properties": {"kind": {"const": "y"}, "n": {"type": "null"}}, "required": ["kind"]},
        ]
    },
    {"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}}, {"required": ["a"]}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
    {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
    {"type": "object", "properties": {"again": {"$ref": "#"}, "n": {"type": "integer"}}, "required": ["n"]},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "email"},
    {"title": "T", "description": "d", "type": "object", "properties": {"a": {"type": "string", "title": "A"}}},
    True,
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_the_grammar_lets_through_matches_the_schema(schema: Any) -> None:
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for value in written(schema):
        checker.validate(value)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": {}}, "s: #: a grammar cannot express 'not'"),
        ({"type": "object", "properties": {"a": {"multipleOf": 3}}}, "s: #/properties/a: a grammar cannot express"),
        ({"type": "array", "uniqueItems": True}, "s: #: a grammar cannot express 'uniqueItems'"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "branches that can match the same value"),
        ({"type": "number", "minimum": 0.5}, "a bound that is not whole for a number"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no whole number lies between the bounds"),
        ({"type": "string", "pattern": "a(?=b)"}, "pattern: a grammar cannot express assert"),
        ({"type": "string", "pattern": "(a)\\1"}, "pattern: a grammar cannot express groupref"),
        ({"type": "string", "pattern": "("}, "pattern: not a regular expression"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "'pattern' together with a length"),
        ({"$ref": "#/nowhere"}, r"s: #: \$ref leads nowhere: '#/nowhere'"),
        ({"$ref": "http://x/y"}, r"expected a \$ref into this schema"),
        ({"type": "text"}, "s: #: expected the type to be of object, array"),
        ({"type": "string", "minLength": -1}, "expected minLength to be a whole number from 0, found -1"),
        ({"type": "array", "minItems": 3, "maxItems": 1}, "expected maxItems of at least minItems, found 1 and 3"),
        ({"enum": []}, "expected enum to be a list of values"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "two different 'type' at once"),
        ({"type": "object", "properties": {"a": False}}, "s: #/properties/a: nothing is valid against 'false'"),
        ([], "s: #: expected a schema"),
        ("x", "s: #: expected a schema"),
    ],
)
def test_what_a_grammar_cannot_express_is_refused_by_name_and_place(schema: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        schema_to_gbnf(schema, "s")


def test_endless_schemas_are_refused() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"type": "array", "items": deep, "minItems": 1}
    with pytest.raises(InvalidRequest, match="nested at most"):
        schema_to_gbnf(deep, "s")
    with pytest.raises(InvalidRequest, match="a schema of at most"):
        schema_to_gbnf({"enum": ["x" * 70_000]}, "s")
    with pytest.raises(InvalidRequest, match=r"circle|nested at most"):
        schema_to_gbnf({"allOf": [{"$ref": "#"}]}, "s")


def test_any_object_is_json() -> None:
    for seed in range(30):
        assert isinstance(json.loads(write(ANY_OBJECT, random.Random(seed))), dict)


@given(
    bounds=st.fixed_dictionaries(
        {},
        optional={
            key: st.integers(-(10**9), 10**9) | st.integers(-20, 20)
            for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        },
    ),
    kind=st.sampled_from(["integer", "number"]),
)
@settings(max_examples=40, deadline=None)
def test_numbers_lie_between_any_bounds(bounds: dict[str, int], kind: str) -> None:
    schema = {"type": kind, **bounds}
    low = max(bounds.get("minimum", -(10**12)), bounds.get("exclusiveMinimum", -(10**12)) + (kind == "integer"))
    high = min(bounds.get("maximum", 10**12), bounds.get("exclusiveMaximum", 10**12) - (kind == "integer"))
    ends_out = kind == "number" and bool({bounds.get("exclusiveMinimum"), bounds.get("exclusiveMaximum")} & {low, high})
    if low > high or (low == high and ends_out):
        with pytest.raises(InvalidRequest, match="lies between the bounds"):
            written(schema, 1)
        return
    for value in written(schema, 6):
        jsonschema.validate(value, schema)


@given(names=st.lists(st.text(alphabet='ab"é\\\n', max_size=3), max_size=4, unique=True))
@settings(max_examples=25, deadline=None)
def test_further_properties_never_have_the_name_of_a_listed_one(names: list[str]) -> None:
    schema = {
        "type": "object",
        "properties": {name: {"const": 1} for name in names},
        "additionalProperties": {"const": 2},
    }
    for value in written(schema, 6):
        jsonschema.validate(value, schema)


PATTERNS = st.recursive(
    st.sampled_from(["a", "é", "\\d", "\\w", "[a-f]", "[^a-f]", "\\\\", '"', "\\n", '["x]', "."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        inner.map(lambda one: f"({one})?"),
        inner.map(lambda one: f"({one}){{1,3}}"),
        inner.map(lambda one: f"({one})*?"),
    ),
    max_leaves=6,
)


@given(pattern=PATTERNS, begins=st.booleans(), ends=st.booleans())
@settings(max_examples=40, deadline=None)
def test_strings_match_any_pattern(pattern: str, begins: bool, ends: bool) -> None:
    whole = "^" * begins + pattern + "$" * ends
    for value in written({"type": "string", "pattern": whole}, 5):
        assert re.search(whole, value), (whole, value)
