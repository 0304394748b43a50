"""Tests of the tool calls in a model's text: families, pieces cut anywhere, and what is no call after all."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.messages import ToolCallDelta
from llamacpp_calls import CallParser, call_id
from llamacpp_tools import Family, family_of

HERMES, LLAMA, MISTRAL, FUNCTIONARY = (
    family_of(mark) or Family() for mark in ("<tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "<function=")
)
GLM = "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"
QWEN_CODER = (
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
    "<parameter=b>\nx y\n</parameter>\n</function>\n</tool_call>"
)
ADD = ("add", {"a": 1})


def parse(
    family: Family, pieces: list[str], opened: str = "", *, several: bool = True
) -> list[str | tuple[str, object]]:
    """Feed ``pieces``; return texts, joined, and calls."""
    parser = CallParser(family, {"add", "sub"}, 7, opened, several=several)
    found: list[str | tuple[str, object]] = []
    for delta in [delta for piece in pieces for delta in parser.feed(piece)] + parser.finish():
        if isinstance(delta, ToolCallDelta):
            found.append((delta.name, json.loads(delta.arguments)))
        elif found and isinstance(found[-1], str):
            found[-1] += delta
        else:
            found.append(delta)
    assert parser.calls == sum(isinstance(one, tuple) for one in found)
    return found


@pytest.mark.parametrize(
    ("family", "text", "found"),
    [
        (HERMES, 'Yes.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', ["Yes.\n", ADD]),
        (HERMES, '<tool_call>[{"name": "add", "arguments": {"a": 1}}]</tool_call>', [ADD]),
        (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', [ADD]),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": 1}}', [ADD]),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>\n' * 2, [ADD, ADD]),
        (HERMES, GLM, [ADD]),
        (HERMES, QWEN_CODER, [("add", {"a": 1, "b": "x y"})]),
        (LLAMA, '{"name": "add", "parameters": {"a": 1}}', [ADD]),
        (
            LLAMA,
            '<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "sub", "parameters": {}}',
            [ADD, ("sub", {})],
        ),
        (MISTRAL, '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}, {"name": "sub"}]', [ADD, ("sub", {})]),
        (MISTRAL, 'Well[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]sub{}', ["Well", ADD, ("sub", {})]),
        (FUNCTIONARY, 'So: <function=add>{"a": 1}</function>', ["So: ", ADD]),
    ],
)
def test_each_familys_calls_are_found(family: Family, text: str, found: list[object]) -> None:
    for pieces in ([text], list(text)):
        result = parse(family, pieces)
        assert result[: len(found)] == found


@pytest.mark.parametrize(
    ("family", "text"),
    [
        (HERMES, "a < b, and <tool> is none"),
        (HERMES, "<tool_call>this is no JSON</tool_call> so"),
        (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        (HERMES, '{"name": "add", "arguments": {}}'),
        (LLAMA, "{x} is a set"),
        (LLAMA, '{"answer": 42}'),
        (LLAMA, 'Here: {"name": "add", "parameters": {}}'),
        (FUNCTIONARY, "<function=>x"),
        (MISTRAL, "[TOOL_CALL] no"),
    ],
)
def test_what_is_no_call_is_text(family: Family, text: str) -> None:
    for pieces in ([text], list(text)):
        assert parse(family, pieces) == [text]


@pytest.mark.parametrize(
    ("family", "text"),
    [
        (HERMES, 'Yes.<tool_call>{"name": "add", "arguments": {"a": '),
        (LLAMA, '{"name": "add", "parameters": {"a": '),
        (MISTRAL, 'Yes.[TOOL_CALLS][{"name": "add", "argu'),
        (FUNCTIONARY, 'Yes.<function=add>{"a": '),
    ],
)
def test_a_call_that_is_cut_off_is_never_given_out(family: Family, text: str) -> None:
    assert parse(family, list(text)) in (["Yes."], [])


@pytest.mark.parametrize(
    "arguments",
    ['{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", '{"a": ' + "9" * 5000 + "}", '{"a": NaN}', '{"a": 1e999}'],
    ids=["too deep", "too many digits", "no number", "too large"],
)
@pytest.mark.parametrize("as_text", [True, False], ids=["as text", "as an object"])
def test_arguments_that_are_no_json_that_others_read_make_no_call(arguments: str, as_text: bool) -> None:
    written = json.dumps(arguments) if as_text else arguments
    text = f'<tool_call>{{"name": "add", "arguments": {written}}}</tool_call>'
    assert parse(HERMES, [text]) == [text]


def test_half_a_surrogate_pair_in_arguments_travels_as_an_escape() -> None:
    parser = CallParser(HERMES, {"add"}, 7)
    (call,) = parser.feed('<tool_call>{"name": "add", "arguments": {"a": "x\\ud83d"}}</tool_call>')
    assert isinstance(call, ToolCallDelta)
    assert call.arguments.encode() == b'{"a": "x\\ud83d"}'


@pytest.mark.parametrize("name", ["{}", "[]", "null", "1", '["add"]'])
def test_a_name_that_is_no_text_makes_no_call(name: str) -> None:
    text = f'<tool_call>{{"name": {name}, "arguments": {{"a": 1}}}}</tool_call>'
    assert parse(HERMES, [text]) == [text]


def test_a_call_that_the_prompt_began_is_found() -> None:
    assert parse(HERMES, ['{"name": "add", ', '"arguments": {"a": 1}}\n</tool_call>'], HERMES.opening) == [ADD]


def test_only_the_first_call_counts_if_several_are_not_wanted() -> None:
    text = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>' * 2
    assert parse(HERMES, [text], several=False) == [ADD]
    assert parse(HERMES, list(text), several=False) == [ADD]


def test_ids_follow_from_seed_and_number() -> None:
    ids = [call_id(seed, number) for seed in range(50) for number in range(20)]
    assert ids == [call_id(seed, number) for seed in range(50) for number in range(20)]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 9 and one.isalnum() for one in ids)


@settings(deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            ["a ", "<", "<tool_call>", "</tool_call>", '{"name": "add", "arguments": {"a": 1}}', "{}", '"']
        ),
        max_size=12,
    ),
    places=st.lists(st.integers(0, 400), max_size=20),
    family=st.sampled_from([HERMES, MISTRAL, FUNCTIONARY]),
)
def test_what_is_found_does_not_depend_on_where_the_text_is_cut(
    parts: list[str], places: list[int], family: Family
) -> None:
    text = "".join(parts)
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert parse(family, pieces) == parse(family, [text])


@settings(deadline=None)
@given(text=st.text(max_size=80), family=st.sampled_from([HERMES, LLAMA, MISTRAL, FUNCTIONARY]))
def test_any_text_is_parsed_and_text_without_marks_comes_back_whole(text: str, family: Family) -> None:
    found = parse(family, list(text))
    if not any(mark in text for mark in family.marks):
        assert found == ([text] if text else [])
