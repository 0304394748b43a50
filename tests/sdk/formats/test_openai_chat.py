"""OpenAI's chats: the cases both ways, OpenAI's own client as the judge, and properties."""

import contextlib
import json

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies
from tests.sdk.formats.chat_dialects import (
    REPLY,
    WITHOUT_USAGE,
    client,
    read_stream,
)
from tests.sdk.formats.replay import Answer as Said

from byenatos_sdk.formats import openai_chat
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.answer import Answer, deltas_of
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContextLengthExceeded,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unsupported,
    UpstreamFailed,
    error_codes,
    error_from_code,
)
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    Message,
    ModelSpecification,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    user,
)

VENDOR = "openai_chat"


def asked(body, path="/v1/chat/completions"):
    return openai_chat.decode_request(WireRequest(path, json_body(body)))


def chat(**fields):
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields


def chunk(delta=None, finish=None, **fields):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish} | fields
    return b"data: " + json_body({"id": "1", "choices": [choice]}) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_every_choice_of_a_stream_can_be_read():
    (case,) = [case for case in cases.load(VENDOR) if case.id.endswith("stream-n2")]
    for index, meaning in enumerate(case.meaning["choices"]):
        cases.assert_deltas(laws.decoded(openai_chat, cases.pieces(case), choice=index), meaning)


# ---- requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "m"}, "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages="Hi"), "messages"),
        (chat(messages=[{"content": "x"}]), "messages[0].role"),
        (chat(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
        (chat(messages=[{"role": "user"}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": [{"type": "video"}]}]), "messages[0].content[0].type"),
        (
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]),
            "messages[0].content[0].image_url",
        ),
        (chat(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
        (chat(messages=[{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls[0].function"),
        (chat(temperature="hot"), "temperature"),
        (chat(temperature=True), "temperature"),
        (chat(max_tokens=1.5), "max_tokens"),
        (chat(stop=[1]), "stop"),
        (chat(n=0), "n"),
        (chat(logit_bias={"x": 1}), "logit_bias"),
        (chat(stream="yes"), "stream"),
        (chat(tools=[{"type": "function"}]), "tools[0].function"),
        (chat(tools=[{"type": "browser"}]), "tools[0].type"),
        (chat(tool_choice={"type": "function", "function": {"name": "f"}}), "tool_choice"),
        (chat(response_format={"type": "xml"}), "response_format.type"),
        (chat(reasoning_effort="enormous"), "reasoning_effort"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(body, field):
    with pytest.raises(InvalidRequest) as caught:
        asked(body)

    assert caught.value.message.startswith(field + ":")


def test_a_body_that_is_no_json_object_is_refused():
    for body in (b"", b"[]", b"{", b"\xff", b'"x"'):
        with pytest.raises(InvalidRequest, match="body: expected"):
            openai_chat.decode_request(WireRequest("/v1/chat/completions", body))


def test_unknown_fields_are_ignored_and_known_ones_without_a_canonical_name_are_kept():
    found = asked(chat(frobnicate=1, store=True, metadata={"a": "b"}, service_tier="flex", prompt_cache_key="k"))

    assert found.request.extra == {
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
    }
    again = json.loads(openai_chat.encode_request(found.request).wire.body)
    assert again == chat(store=True, metadata={"a": "b"}, service_tier="flex", prompt_cache_key="k")


def test_what_another_vendor_s_client_left_in_extra_stays_away():
    request = InferenceRequest((user("x"),), extra={"num_ctx": 5, "store": False})

    body = json.loads(openai_chat.encode_request(request).wire.body)

    assert "num_ctx" not in body
    assert body["store"] is False


def test_functions_of_old_clients_are_tools():
    found = asked(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
                {"role": "function", "name": "f", "content": "1"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
                {"role": "function", "name": "f", "content": "2"},
            ],
            "functions": [{"name": "f", "parameters": {"type": "object"}}],
            "function_call": {"name": "f"},
        }
    ).request

    assert found.tools == (Tool("f", "", {"type": "object"}),)
    assert found.tool_choice == "f"
    assert [message.parts for message in found.messages[1:]] == [
        (ToolCall("call_0_f", "f", '{"a":1}'),),
        (ToolResult("call_0_f", "1", name="f"),),
        (ToolCall("call_1_f", "f", "{}"),),
        (ToolResult("call_1_f", "2", name="f"),),
    ]


def test_a_choice_among_some_tools_leaves_the_others_out():
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in "fgh"]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": name}} for name in "fh"]}

    found = asked(chat(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})).request

    assert [tool.name for tool in found.tools] == ["f", "h"]
    assert found.tool_choice == "required"


def test_calls_to_a_client_s_tools_of_free_text_come_back_as_free_text(replay):
    found = asked(chat(tools=[{"type": "custom", "custom": {"name": "patch", "description": "d"}}]))
    assert found.request.tools[0].parameters["required"] == ["input"]
    reply = replace(REPLY, asked=replace(found, usage_in_stream=True))
    deltas = [
        ToolCallDelta("a", "patch", '{"input":"+1"}'),
        ToolCallDelta("b", "patch", "+2"),
        Finish("tool_calls", Usage(1, 1), "m"),
    ]
    replay.answer(openai_chat.encode_response(_added(deltas), reply))
    raw = openai_chat.stream_encoder(reply).encode(deltas)

    (choice,) = client(replay).chat.completions.create(model="m", messages=[]).choices

    said = [(call.type, call.id, call.custom.name, call.custom.input) for call in choice.message.tool_calls]
    assert said == [("custom", "a", "patch", "+1"), ("custom", "b", "patch", "+2")]
    assert laws.decoded(openai_chat, [raw])[0] == deltas[0]


def test_a_result_that_comes_late_is_named_after_the_last_call_of_its_id():
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    other = {"type": "function", "function": {"name": "g", "arguments": "{}"}}
    found = asked(
        chat(
            messages=[
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"id": "a", **call}]},
                {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
                {"role": "assistant", "tool_calls": [{"id": "a", **other}]},
                {"role": "tool", "tool_call_id": "a", "content": None},
            ]
        )
    ).request

    assert found.messages[2].parts == (ToolResult("a", "1", name="f"),)
    assert found.messages[4].parts == (ToolResult("a", "", name="g"),)


def test_the_newer_limit_counts_where_both_are_given():
    assert asked(chat(max_tokens=5, max_completion_tokens=7)).request.sampling.max_tokens == 7


def test_logprobs_are_a_switch_and_a_count():
    assert asked(chat(logprobs=True)).request.sampling.logprobs == 0
    assert asked(chat(logprobs=True, top_logprobs=3)).request.sampling.logprobs == 3
    assert asked(chat(logprobs=False, top_logprobs=3)).request.sampling.logprobs is None
    body = json.loads(
        openai_chat.encode_request(InferenceRequest((user("x"),), sampling=Sampling(logprobs=3))).wire.body
    )
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


def test_the_end_user_has_an_old_and_a_new_name():
    assert asked(chat(user="a")).request.metadata == {"end_user": "a"}
    assert asked(chat(user="a", safety_identifier="b")).request.metadata == {"end_user": "b"}


def test_azure_s_model_stands_in_the_address():
    found = asked({"messages": chat()["messages"]}, "/openai/deployments/my%2Fgpt/chat/completions?api-version=1")

    assert found.request.model == "my/gpt"


def test_several_answers_and_usage_in_the_stream_are_the_front_s_business():
    found = asked(chat(n=3, stream=True, stream_options={"include_usage": True}))

    assert (found.choices, found.stream, found.usage_in_stream) == (3, True, True)
    assert asked(chat(stream=True)).usage_in_stream is False


def test_bare_and_url_safe_base64_of_a_file_are_read():
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": "_-8"}}

    (message,) = asked(chat(messages=[{"role": "user", "content": [part]}])).request.messages

    assert (message.parts[0].media_type, message.parts[0].data) == ("application/pdf", b"\xff\xef")


def test_a_completion_continues_a_text_as_it_stands(replay):
    found = asked({"model": "m", "prompt": ["Once"], "max_tokens": 3, "logprobs": 2, "suffix": "."}, "/v1/completions")

    request = found.request
    assert (request.raw, request.messages, request.extra) == (True, (user("Once"),), {"suffix": "."})
    assert (request.sampling.max_tokens, request.sampling.logprobs) == (3, 2)
    able = replace(openai_chat.CAPABILITIES, raw=True)
    encoded = openai_chat.encode_request(request, capabilities=able)
    assert encoded.wire.path == "/completions"
    assert json.loads(encoded.wire.body) == {
        "model": "m",
        "prompt": "Once",
        "max_tokens": 3,
        "logprobs": 2,
        "suffix": ".",
    }
    reply = Reply("cmpl-1", "m", 1, found)
    tokens = (TokenLogprob(" upon", -0.5, ((" upon", -0.5), (" a", -1.0))),)
    deltas = [TextDelta(" upon"), Logprobs(tokens), Finish("length", Usage(1, 1))]
    replay.answer(openai_chat.encode_response(_added(deltas), reply))
    answer = client(replay).completions.create(model="m", prompt="Once")
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        " upon",
        "length",
    )
    assert answer.choices[0].logprobs.top_logprobs == [{" upon": -0.5, " a": -1.0}]
    assert laws.decoded(openai_chat, [openai_chat.stream_encoder(reply).encode(deltas)])[:2] == deltas[:2]
    replay.stream(openai_chat.stream_encoder(reply).encode(deltas))
    chunks = list(client(replay).completions.create(model="m", prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == " upon"


def test_several_texts_are_continued_each_with_all_of_its_choices_and_said_first_where_it_is_asked():
    found = asked({"model": "m", "prompt": ["a", "b"], "n": 2, "echo": True}, "/v1/completions")

    assert found.echo
    assert [one.messages for one in (found.request, *found.others)] == [(user("a"),), (user("b"),)]
    reply = Reply("cmpl-1", "m", 1, found)
    answers = [_added([TextDelta(str(at)), Finish("stop", Usage(3 + at // 2, 1))]) for at in range(4)]
    body = json.loads(openai_chat.encode_choices(answers, reply).body)
    assert [(one["index"], one["text"]) for one in body["choices"]] == [(0, "a0"), (1, "a1"), (2, "b2"), (3, "b3")]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (7, 4)
    encoder = openai_chat.choices_encoder(reply, 4)
    texts = ["", "", "", ""]
    for at in range(4):
        said = encoder.encode([TextDelta(str(at)), Finish("stop", Usage(3 + at // 2, 1))], at)
        for line in said.decode().splitlines():
            for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else ():
                texts[choice["index"]] += choice["text"]
    assert texts == ["a0", "a1", "b2", "b3"]
    with pytest.raises(InvalidRequest, match="prompt"):
        asked({"model": "m", "prompt": []}, "/v1/completions")


def test_ids_of_tokens_are_refused():
    for prompt in ([1, 2], [[1], [2]], ["a", 2], None, 5):
        with pytest.raises(InvalidRequest, match=r"^prompt: "):
            asked({"prompt": prompt}, "/v1/completions")


def _added(deltas):
    answer = Answer()
    for delta in deltas:
        answer.add(delta)
    return answer.response()


@given(strategies.requests(openai_chat.CAPABILITIES))
@settings(max_examples=150, deadline=None)
def test_what_openai_can_say_comes_back_as_it_was(request):
    encoded = openai_chat.encode_request(request, stream=True)

    assert encoded.losses == ()
    decoded = openai_chat.decode_request(encoded.wire)
    assert decoded.stream
    assert decoded.usage_in_stream
    assert decoded.request == request


@given(st.dictionaries(st.sampled_from(sorted(chat(tools=1, stop=1, n=1, functions=1))), strategies.json_values))
@settings(max_examples=150, deadline=None)
def test_any_json_is_a_request_or_a_refusal(body):
    for path in ("/v1/chat/completions", "/v1/completions"):
        with contextlib.suppress(InvalidRequest):
            asked(body, path)


# ---- answers ---------------------------------------------------------------------------------------------------


@given(strategies.responses(reasoning=True, logprobs=True))
@settings(max_examples=150, deadline=None)
def test_an_answer_comes_back_as_it_was(response):
    wire = openai_chat.encode_response(response, replace(REPLY, model=response.model))

    assert openai_chat.decode_response(wire) == response


def test_several_answers_come_in_their_order_and_count_together():
    answers = [
        _added([TextDelta("A"), Finish("stop", Usage(5, 2, 1))]),
        _added([TextDelta("B"), Finish("length", Usage(5, 3, 1))]),
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
    response = _added([Finish("content_filter", Usage(1, 0), detail="refusal")])

    assert openai_chat.decode_response(openai_chat.encode_response(response, REPLY)).detail == "refusal"
    assert laws.decoded(openai_chat, [openai_chat.stream_encoder(REPLY).encode(deltas_of(response))])[-1].detail == (
        "refusal"
    )


@given(st.binary(max_size=40) | strategies.json_values.map(json_body))
@settings(max_examples=150, deadline=None)
def test_any_body_is_an_answer_or_an_error(body):
    for status in (200, 429):
        for read in (openai_chat.decode_response, openai_chat.decode_embedding_response, openai_chat.decode_models):
            with contextlib.suppress(ByenatosError):
                read(WireResponse(body, status))


# ---- streams ---------------------------------------------------------------------------------------------------


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


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", error_codes())
def test_an_error_comes_back_as_it_was(code):
    error = error_from_code(code, "what happened", retry_after_s=1.5)

    wire = openai_chat.encode_error(error)
    found = openai_chat.decode_error(wire)

    known = {"unsupported": "invalid_request", "internal": "upstream_failed"}
    assert found.code == known.get(code, code)
    assert (found.message, found.retry_after_s) == ("what happened", 1.5)
    assert found.retryable == error.retryable
    assert wire.status >= 400


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimited("slow", retry_after_s=2), openai.RateLimitError),
        (QuotaExceeded("broke"), openai.RateLimitError),
        (ContextLengthExceeded("long"), openai.BadRequestError),
        (Overloaded("full"), openai.InternalServerError),
        (Unsupported("no"), openai.BadRequestError),
    ],
)
def test_openai_s_client_raises_the_error_of_its_kind(error, kind, replay):
    replay.answer(openai_chat.encode_error(error))

    with pytest.raises(kind) as caught:
        client(replay).chat.completions.create(model="m", messages=[])

    assert caught.value.body["message"] == error.message
    assert caught.value.response.headers["x-should-retry"] == str(error.retryable).lower()
    if error.retry_after_s:
        assert caught.value.response.headers["retry-after"] == "2"


def test_the_field_at_fault_is_named_in_its_place():
    with pytest.raises(InvalidRequest) as caught:
        asked(chat(messages=[{"role": "user", "content": [{"type": "video"}]}]))

    body = json.loads(openai_chat.encode_error(caught.value).body)
    assert body["error"]["param"] == "messages[0].content[0].type"


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "retry_after"),
    [
        (429, {"retry-after": "2"}, {"error": {"code": "rate_limit_exceeded", "message": "x"}}, "rate_limited", 2),
        (429, {"retry-after-ms": "20"}, {"error": {"message": "x"}}, "rate_limited", 0.02),
        (
            429,
            {"x-ratelimit-reset-tokens": "1m30s", "x-ratelimit-remaining-tokens": "0"},
            {"error": {"message": "x"}},
            "rate_limited",
            90,
        ),
        (
            403,
            {},
            {"error": {"code": "unsupported_country_region_territory", "message": "x"}},
            "permission_denied",
            None,
        ),
        (404, {}, {"error": {"code": "model_not_found", "message": "x"}}, "not_found", None),
        (503, {}, {"error": {"message": "x", "type": "server_error"}}, "overloaded", None),
        (
            402,
            {},
            {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}},
            "quota_exceeded",
            None,
        ),
        (422, {}, {"detail": [{"loc": ["body"], "msg": "bad"}]}, "invalid_request", None),
        (500, {}, {"title": "t", "detail": "d"}, "upstream_failed", None),
        (504, {}, "upstream request timeout", "upstream_timeout", None),
        (413, {}, "", "request_too_large", None),
        (400, {}, {"error": {"message": "blocked", "code": "content_filter"}}, "content_filtered", None),
        (400, {}, [{"error": {"message": "prompt is too long: 9 tokens"}}], "context_length_exceeded", None),
    ],
)
def test_odd_errors_are_read(status, headers, body, code, retry_after):
    raw = body.encode() if isinstance(body, str) else json_body(body)

    found = openai_chat.decode_error(WireResponse(raw, status, headers))

    assert (found.code, found.retry_after_s, found.vendor_status) == (code, retry_after, status)


def test_a_vendor_s_word_on_trying_again_counts():
    wire = WireResponse(b'{"error":{"message":"x"}}', 500, {"x-should-retry": "false"})

    assert openai_chat.decode_error(wire).retryable is False


# ---- embeddings and models -------------------------------------------------------------------------------------


def test_openai_s_client_gets_vectors_as_it_likes_them(replay):
    vectors = ((1.0, -0.5), (0.25, 2.0))
    response = EmbeddingResponse(vectors, "e", Usage(4, None))
    sent = []
    for encoding in ("float", "base64", None):
        body = {"model": "e", "input": ["a", "b"]} | ({"encoding_format": encoding} if encoding else {})
        wire = WireRequest("/v1/embeddings", json_body(body))
        assert openai_chat.decode_embedding_request(wire).inputs == ("a", "b")
        answer = openai_chat.encode_embedding_response(response, Reply("1", "e", 1), wire)
        assert openai_chat.decode_embedding_response(answer) == response
        sent.append(answer.body)
    assert sent[0] == sent[2] != sent[1]
    replay.answer(WireResponse(sent[1], headers={"content-type": "application/json"}))
    found = client(replay).embeddings.create(model="e", input=["a", "b"])
    assert [tuple(one.embedding) for one in found.data] == list(vectors)
    assert openai_chat.decode_embedding_request(replay.requests[0]).inputs == ("a", "b")
    assert json.loads(replay.requests[0].body)["encoding_format"] == "base64"


def test_a_request_for_vectors_comes_back_as_it_was():
    request = EmbeddingRequest(("a",), "e", 64, {"user": "u"})

    wire = openai_chat.encode_embedding_request(request)

    assert wire.path == "/embeddings"
    assert openai_chat.decode_embedding_request(wire) == request


def test_vectors_are_put_in_the_order_of_their_indices():
    body = {"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}], "usage": {"total_tokens": 3}}

    found = openai_chat.decode_embedding_response(WireResponse(json_body(body)))

    assert (found.vectors, found.usage) == (((1.0,), (2.0,)), Usage(3, None))


@pytest.mark.parametrize("value", [[1, 2], [[1]], [], None, 5])
def test_inputs_that_are_no_texts_are_refused(value):
    with pytest.raises(InvalidRequest, match=r"^input: "):
        openai_chat.decode_embedding_request(WireRequest("/v1/embeddings", json_body({"input": value})))


def test_openai_s_client_lists_the_models(replay):
    models = [ModelSpecification("org/a:b", driver="d"), ModelSpecification("c", metadata={"owned_by": "me"})]
    wire = openai_chat.encode_models(models, 5)
    replay.answer(wire, openai_chat.encode_model(models[1], 5), Said(b"", 404))

    found = list(client(replay).models.list())

    assert [(one.id, one.owned_by, one.created) for one in found] == [("org/a:b", "d", 5), ("c", "me", 5)]
    assert client(replay).models.retrieve("c").id == "c"
    listed, page = openai_chat.decode_models(wire)
    assert ([one.id for one in listed], page) == (["org/a:b", "c"], "")
    assert openai_chat.encode_models_request().path == "/models"


def test_lengths_of_contexts_are_found_where_servers_put_them():
    listed = {"data": [{"id": "a", "max_model_len": 5}, {"id": "b", "meta": {"n_ctx_train": 7}}, {"id": 5}, "x"]}

    models, _ = openai_chat.decode_models(WireResponse(json_body(listed)))

    assert [(one.id, one.context_length) for one in models] == [("a", 5), ("b", 7)]


def test_reasoning_is_read_in_every_dialect_s_words():
    for fields, expected in [
        ({"reasoning_effort": "high"}, ReasoningOptions("high")),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, ReasoningOptions("low", None, "auto")),
        ({"reasoning": {"max_tokens": 2000}}, ReasoningOptions(None, 2000)),
        ({"reasoning": {"enabled": False}}, ReasoningOptions("none")),
        ({"enable_thinking": True, "thinking_budget": 100}, ReasoningOptions(None, 100)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ReasoningOptions("none")),
        ({"thinking": {"type": "disabled"}}, ReasoningOptions("none")),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, ReasoningOptions(None, 9)),
        ({"reasoning_effort": None}, None),
    ]:
        assert asked(chat(**fields)).request.reasoning == expected


def test_a_conversation_with_results_in_a_user_s_message_is_written_in_order():
    messages = (
        Message("assistant", (ToolCall("a", "f"),)),
        Message("user", (ToolResult("a", "1", name="f"), Text("and?"))),
    )

    body = json.loads(openai_chat.encode_request(InferenceRequest(messages)).wire.body)

    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "user"]
