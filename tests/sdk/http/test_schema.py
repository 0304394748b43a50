"""JSON that was asked for in words."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.http.schema import added, check_of
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceRequest, Usage, user

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def asked(schema=SCHEMA, **more):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}
    return InferenceRequest((user("who?"),), response_format=form)


def check(request=None):
    found = check_of(asked() if request is None else request, MATRIX["hunyuan"])
    assert found is not None
    return found


@pytest.mark.parametrize("text", ['{"age": 3}', ' {"age": 3}\n', '```json\n{"age": 3}\n```', '```\n{"age": 3}```\n'])
def test_json_is_found_without_its_fence(text):
    assert check().judge(text) == ('{"age": 3}', "")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("I am 3", "it is not JSON"), ('{"age": "3"}', "age must be integer"), ("{}", "must contain"), ("[" * 100000, "")],
)
def test_what_is_wrong_is_said(text, complaint):
    _, wrong = check().judge(text)
    assert wrong
    assert complaint in wrong


def test_any_object_will_do_where_no_schema_was_given():
    request = InferenceRequest((user("who?"),), response_format={"type": "json_object"})
    assert check(request).judge("{}") == ("{}", "")
    assert check(request).judge("[1]")[1] == "it is no JSON object"


def test_the_model_is_shown_its_answer_and_what_is_wrong_with_it():
    repaired = check().repair(asked(), "I am 3", "it is not JSON")
    assert [message.role for message in repaired.messages] == ["user", "assistant", "user"]
    assert "it is not JSON" in repaired.messages[-1].text


def test_a_vendor_that_sees_to_it_itself_is_not_checked():
    assert check_of(asked(), MATRIX["openai_chat"]) is None
    assert check_of(InferenceRequest((user("x"),)), MATRIX["hunyuan"]) is None
    weaker = replace(MATRIX["openai_chat"], outputs=frozenset({"json_object"}))
    assert check_of(asked(), weaker) is not None
    assert check_of(InferenceRequest((user("x"),), response_format={"type": "json_object"}), weaker) is None


@pytest.mark.parametrize("schema", [{"type": 5}, {"$ref": "https://example.test/schema"}, {"pattern": "("}])
def test_a_schema_that_is_none_is_the_callers_mistake(schema):
    with pytest.raises(InvalidRequest):
        check(asked(schema)).judge('"x"')


def test_strictness_is_what_the_request_says():
    assert check(asked(strict=True)).strict
    assert not check().strict


def test_usage_adds_up_and_unknown_stays_unknown():
    assert added(Usage(1, 2, 3, 4, 5), Usage(10, 20, 30, 40, 50)) == Usage(11, 22, 33, 44, 55)
    assert added(Usage(None, 2), Usage(1, 2)) == Usage(None, 4)


KEYWORDS = st.sampled_from(
    ["type", "properties", "items", "enum", "$ref", "pattern", "minimum", "anyOf", "format", "not"]
)
WORDS = st.sampled_from(["object", "string", "#", "#/properties/type", "(", "date", "array"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYWORDS, JSON, max_size=4), JSON)
def test_any_schema_judges_or_is_the_callers_mistake(schema, value):
    try:
        found = check(asked(schema))
    except InvalidRequest:
        return
    text, wrong = found.judge(msgspec.json.encode(value).decode())
    assert isinstance(text, str)
    assert isinstance(wrong, str)
