"""OpenAI's streams of chunks, in both directions."""

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies
from tests.sdk.formats.chat_dialects import (
    DONE,
    REPLY,
    WITHOUT_USAGE,
    chunk,
    client,
    read_stream,
)

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.wire import json_body
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    Logprobs,
    Moved,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)


def test_every_choice_of_a_stream_can_be_read():
    (case,) = [case for case in cases.load("openai_chat") if case.id.endswith("stream-n2")]
    for index, meaning in enumerate(case.meaning["choices"]):
        cases.assert_deltas(laws.decoded(openai_chat, cases.pieces(case), choice=index), meaning)


@given(strategies.deltas(reasoning=True, logprobs=True), st.lists(st.integers(0, 10**6), max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_stream_comes_back_as_it_was_however_it_is_cut(deltas, cuts):
    encoder = openai_chat.stream_encoder(replace(REPLY, model=""))
    raw = b"".join(encoder.encode([delta]) for delta in deltas) + encoder.encode(deltas)

    assert laws.decoded(openai_chat, [raw]) == deltas
    laws.same_however_cut(openai_chat, raw, cuts)


_PIECES = st.sampled_from(
    [
        b"data: ",
        b"\n\n",
        b"{}",
        b'{"choices":[{"delta":{"content":"x"}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":0}]},"finish_reason":"stop"}]}',
        b'{"error":"x"}',
        b"[DONE]",
        b"event: error\n",
    ]
)


@given(st.lists(_PIECES | st.binary(max_size=8), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_one_terminal(pieces):
    laws.holds_for_any_bytes(openai_chat, pieces)


_CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 1, None]),
        "delta": st.none()
        | st.dictionaries(
            st.sampled_from(["content", "reasoning_content", "reasoning", "thinking", "refusal", "tool_calls", "role"]),
            st.sampled_from(["x", "", None, [], [{"index": 0, "function": {"name": "f"}}], [{"text": "y"}]]),
        ),
        "finish_reason": st.sampled_from([None, "stop", ""]),
        "logprobs": st.none(),
    },
)
_CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(_CHOICES, max_size=2)},
    optional={"usage": st.sampled_from([None, {"prompt_tokens": 1}]), "model": st.sampled_from(["m", "", None])},
)


@given(st.lists(_CHUNKS, max_size=4))
@settings(max_examples=200, deadline=None)
def test_the_quick_way_and_the_long_way_say_the_same(chunks):
    """Most chunks are read by their type; the long way is taken where a dialect has chunks of its own."""
    long = openai_chat.Dialect(replace(openai_chat.OPENAI, as_chat=lambda body: body))
    raw = [b"data: " + json_body(one) + b"\n\n" for one in chunks]

    assert laws.decoded(openai_chat, raw) == laws.decoded(long, raw)


def test_a_stream_without_an_end_broke_off():
    deltas = laws.decoded(openai_chat, [chunk({"content": "Par"})])

    assert deltas == [
        TextDelta("Par"),
        Failure("stream_interrupted", "the stream broke off before the answer's end", partial=True),
    ]
    assert laws.decoded(openai_chat, [])[-1].partial is False


def test_calls_of_a_stream_that_broke_off_are_not_handed_on():
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a":'}}

    assert [type(delta) for delta in laws.decoded(openai_chat, [chunk({"tool_calls": [call]})])] == [Failure]


def test_a_missing_done_is_tolerated_and_so_is_a_missing_reason_before_it():
    whole = [TextDelta("x"), Finish("stop", Usage(None, None))]

    assert laws.decoded(openai_chat, [chunk({"content": "x"}), chunk(finish="stop")]) == whole
    assert laws.decoded(openai_chat, [chunk({"content": "x"}), DONE]) == whole
    assert laws.decoded(openai_chat, [chunk({"content": "x"}), chunk(finish=""), chunk(finish="null"), DONE]) == whole


def test_done_alone_is_no_answer():
    assert [delta.code for delta in laws.decoded(openai_chat, [DONE])] == ["upstream_failed"]


def test_calls_that_all_have_index_0_are_told_apart_by_their_ids():
    calls = [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}} for name in "ab"]

    found = laws.decoded(openai_chat, [chunk({"tool_calls": calls}), chunk(finish="tool_calls"), DONE])

    assert found[:2] == [ToolCallDelta("a", "a", "{}"), ToolCallDelta("b", "b", "{}")]


def test_ids_and_names_that_come_again_or_blank_change_nothing():
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}},
        {"index": 0, "id": "", "function": {"name": "", "arguments": '{"x'}},
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '":1}'}},
    ]

    found = laws.decoded(
        openai_chat, [*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk(finish="tool_calls")]
    )

    assert found[0] == ToolCallDelta("a", "f", '{"x":1}')


def test_functions_of_old_streams_are_calls():
    found = laws.decoded(
        openai_chat,
        [
            chunk({"function_call": {"name": "f", "arguments": ""}}),
            chunk({"function_call": {"arguments": "{}"}}),
            chunk(finish="function_call"),
        ],
    )

    assert found == [ToolCallDelta("call_0_f", "f", "{}"), Finish("tool_calls", Usage(None, None))]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'data: {"error":{"message":"m","type":"server_error"}}\n\n', "upstream_failed"),
        (b'data: {"error":{"message":"m","code":"rate_limit_exceeded"}}\n\n', "rate_limited"),
        (b'data: {"error":{"message":"m","code":503}}\n\n', "overloaded"),
        (b'data: {"error":"boom"}\n\n', "upstream_failed"),
        (b'event: error\ndata: {"message":"m","code":429}\n\n', "rate_limited"),
        (b"event: error\ndata: boom\n\n", "upstream_failed"),
        (b"data: boom\n\n", "upstream_failed"),
        (b'data: {"choices":[{"delta":{"content":""},"finish_reason":"error"}]}\n\n', "upstream_failed"),
    ],
)
def test_an_error_in_the_middle_of_a_stream_ends_it(raw, code):
    *before, last = laws.decoded(openai_chat, [chunk({"content": "Par"}), raw, DONE])

    assert before == [TextDelta("Par")]
    assert (last.code, last.partial) == (code, True)


def test_a_stream_of_endless_arguments_is_cut(monkeypatch):
    monkeypatch.setattr("byenatos_sdk.formats.fragments.MAX_ARGUMENTS", 100)
    piece = chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 60}}]})

    assert [delta.code for delta in laws.decoded(openai_chat, [piece, piece, piece])] == ["upstream_failed"]


def test_usage_comes_only_if_it_was_asked_for(replay):
    deltas = [TextDelta("x"), Finish("stop", Usage(3, 1))]

    assert read_stream(replay, openai_chat, deltas)["usage"] == 3
    assert read_stream(replay, openai_chat, deltas, WITHOUT_USAGE)["usage"] is None
    assert b"usage" not in openai_chat.stream_encoder(WITHOUT_USAGE).encode(deltas)


def test_a_move_is_told_in_a_chunk_that_says_nothing_and_openai_s_client_reads_past_it(replay):
    deltas = [TextDelta("Par"), Moved("a", "b", "swap"), TextDelta("is"), Finish()]
    raw = openai_chat.stream_encoder(REPLY).encode(deltas)
    replay.stream(raw)
    chunks = list(client(replay).chat.completions.create(model="m", messages=[], stream=True))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "Paris"
    moves = [chunk.model_extra["byenatos"] for chunk in chunks if "byenatos" in chunk.model_extra]
    assert moves == [{"moved": {"from": "a", "to": "b", "reason": "swap"}}]
    assert "".join(one.text for one in laws.decoded(openai_chat, [raw]) if isinstance(one, TextDelta)) == "Paris"


def test_openai_s_client_raises_for_a_stream_that_fails(replay):
    encoder = openai_chat.stream_encoder(REPLY)
    replay.stream(encoder.encode([TextDelta("Par")]), encoder.encode([Failure("overloaded", "full", partial=True)]))

    chunks = client(replay).chat.completions.create(model="m", messages=[], stream=True)
    with pytest.raises(openai.APIError, match="full"):
        list(chunks)

    assert encoder.encode([TextDelta("x")]) == b""


def test_several_answers_in_one_stream_end_together(replay):
    encoder = openai_chat.choices_encoder(REPLY, 2)
    raw = [
        encoder.encode([TextDelta("A")], 0),
        encoder.encode([TextDelta("X"), Finish("stop", Usage(3, 1))], 1),
        encoder.encode([TextDelta("B"), Finish("length", Usage(3, 2))], 0),
    ]

    assert DONE not in raw[1]
    assert laws.decoded(openai_chat, raw)[-1] == Finish("length", Usage(3, 3), "m")
    assert laws.joined(laws.decoded(openai_chat, raw, choice=1))[0] == TextDelta("X")
    replay.stream(*raw)
    chunks = list(client(replay).chat.completions.create(model="m", messages=[], stream=True))
    assert chunks[-1].usage.completion_tokens == 3


def test_openai_s_helper_adds_a_stream_up(replay):
    deltas = [
        ReasoningDelta("hm"),
        TextDelta("4"),
        TextDelta("2\u2028"),
        Logprobs((TokenLogprob("4", -0.1, (("4", -0.1),)),)),
        ToolCallDelta("a", "f", '{"x":1}'),
        ToolCallDelta("b", "g", "{}"),
        Finish("tool_calls", Usage(3, 2)),
    ]
    replay.stream(openai_chat.stream_encoder(REPLY).encode(deltas))

    with client(replay).chat.completions.stream(model="m", messages=[]) as stream:
        answer = stream.get_final_completion()

    message = answer.choices[0].message
    assert message.content == "42\u2028"
    assert [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("a", "f", '{"x":1}'),
        ("b", "g", "{}"),
    ]
    assert answer.choices[0].logprobs.content[0].token == "4"
    assert answer.usage.total_tokens == 5
