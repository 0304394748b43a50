"""OpenAI's whole answers, one or several."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import laws, strategies
from tests.sdk.formats.chat_dialects import (
    REPLY,
    added,
)

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import (
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import (
    Finish,
    Reasoning,
    Text,
    TextDelta,
    ToolCall,
    Usage,
)


@given(strategies.responses(reasoning=True, logprobs=True))
@settings(max_examples=150, deadline=None)
def test_an_answer_comes_back_as_it_was(response):
    wire = openai_chat.encode_response(response, replace(REPLY, model=response.model))

    assert openai_chat.decode_response(wire) == response


def test_several_answers_come_in_their_order_and_count_together():
    answers = [
        added([TextDelta("A"), Finish("stop", Usage(5, 2, 1))]),
        added([TextDelta("B"), Finish("length", Usage(5, 3, 1))]),
    ]

    wire = openai_chat.encode_choices(answers, REPLY)

    assert [(one.text, one.reason) for one in openai_chat.decode_choices(wire)] == [("A", "stop"), ("B", "length")]
    assert openai_chat.decode_response(wire).usage == Usage(5, 5, 1)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": "x"}, "finish_reason": "function_call"}, ("tool_calls", "", None)),
        ({"message": {"content": "x"}, "finish_reason": "eos"}, ("stop", "", None)),
        ({"message": {"content": "x"}, "finish_reason": None}, ("stop", "", None)),
        ({"message": {"content": "x"}, "finish_reason": "repetition"}, ("stop", "repetition", None)),
        (
            {"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "END"},
            ("stop", "stop_sequence", "END"),
        ),
        ({"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": 128001}, ("stop", "", None)),
        ({"message": {"content": "", "refusal": ""}, "finish_reason": "stop"}, ("stop", "", None)),
    ],
)
def test_ends_of_answers(choice, expected):
    found = openai_chat.decode_response(WireResponse(json_body({"choices": [choice]})))

    assert (found.reason, found.detail, found.stop_sequence) == expected
    assert found.usage == Usage(None, None)


def test_a_call_without_an_id_is_given_one_that_stays():
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    wire = WireResponse(json_body({"choices": [{"message": {"tool_calls": [call, call]}}]}))

    found = openai_chat.decode_response(wire)

    assert found.message.parts == (ToolCall("call_0_f", "f", '{"a":1}'), ToolCall("call_1_f", "f", '{"a":1}'))
    assert found.reason == "tool_calls"


def test_arguments_that_are_no_json_survive():
    call = {"id": "a", "function": {"name": "f", "arguments": '{"a": '}}

    found = openai_chat.decode_response(WireResponse(json_body({"choices": [{"message": {"tool_calls": [call]}}]})))

    assert found.message.parts[0].arguments == '{"a": '


def test_parts_of_content_are_joined_and_thoughts_among_them_told_apart():
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "4"},
        {"type": "text", "text": "2"},
    ]

    found = openai_chat.decode_response(WireResponse(json_body({"choices": [{"message": {"content": content}}]})))

    assert found.message.parts == (Reasoning("hm"), Text("42"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"choices": []}'),
        (200, b'{"choices": [5]}'),
        (200, b'{"error": {"message": "boom", "code": 502}}'),
        (200, b'{"choices": [{"finish_reason": "error", "error": {"message": "x"}}]}'),
    ],
)
def test_what_is_no_answer_is_an_error(status, body):
    with pytest.raises(UpstreamFailed):
        openai_chat.decode_response(WireResponse(body, status))


def test_a_refusal_that_says_nothing_is_told_by_its_end():
    response = added([Finish("content_filter", Usage(1, 0), detail="refusal")])

    assert openai_chat.decode_response(openai_chat.encode_response(response, REPLY)).detail == "refusal"
    assert laws.decoded(openai_chat, [openai_chat.stream_encoder(REPLY).encode(deltas_of(response))])[-1].detail == (
        "refusal"
    )


@given(st.binary(max_size=40) | strategies.json_values.map(json_body))
@settings(max_examples=150, deadline=None)
def test_any_body_is_an_answer_or_an_error(body):
    for status in (200, 429):
        for read in (openai_chat.decode_response, openai_chat.decode_embedding_response, openai_chat.decode_models):
            laws.answers_or_fails(lambda read=read, status=status: read(WireResponse(body, status)))
