"""OpenAI's Responses: the cases both ways, OpenAI's own client and its helper as judges, and properties."""

import json

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies
from tests.sdk.formats.chat_dialects import added, client, read_answer

from byenatos_sdk.formats import openai_responses
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Failure,
    File,
    Finish,
    Image,
    InferenceRequest,
    Logprobs,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenCount,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    system,
    user,
)

VENDOR = "openai_responses"
REPLY = Reply("resp_1", "m", 1763800000, Decoded(InferenceRequest((user("x"),), sampling=Sampling(temperature=0.5))))


def asked(body, path="/v1/responses"):
    return openai_responses.decode_request(WireRequest(path, json_body(body)))


def sent(request, **more):
    return json.loads(openai_responses.encode_request(request, **more).wire.body)


def events(*bodies):
    return [b"event: %b\ndata: %b\n\n" % (body["type"].encode(), json_body(body)) for body in bodies]


def read(raw):
    """Return the events in a stream that we wrote."""
    return [json.loads(part.partition(b"data: ")[2]) for part in raw.split(b"\n\n") if part]


# ---- the cases -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases.load_all(VENDOR, "request"), ids=str)
def test_a_client_s_request_is_read_as_it_was_meant(case):
    cases.assert_request(openai_responses.decode_request(cases.wire_request(case)), case.meaning)


def _normal(body):
    normal = {key: value for key, value in body.items() if value is not None and key not in {"store", "stream"}}
    if isinstance(normal["input"], str):
        normal["input"] = [{"role": "user", "content": normal["input"]}]
    for item in normal["input"]:
        if item.get("type") == "message":
            del item["type"]
    return normal


@pytest.mark.parametrize("case", cases.load(VENDOR, "request"), ids=str)
def test_a_request_is_written_as_the_vendor_wants_it(case):
    request = cases.request_of(case.meaning)

    encoded = openai_responses.encode_request(request, stream=case.meaning["stream"])

    assert encoded.losses == ()
    body = json.loads(encoded.wire.body)
    assert body.get("stream", False) == case.meaning["stream"]
    assert _normal(body) == _normal(case.wire["body"])


@pytest.mark.parametrize("case", cases.load_all(VENDOR, "response"), ids=str)
def test_an_answer_is_read(case):
    read_answer(openai_responses, cases.wire_response(case), case.meaning)


@pytest.mark.parametrize("case", cases.load_all(VENDOR, "stream"), ids=str)
def test_a_stream_is_read_however_it_is_cut(case):
    cases.assert_deltas(laws.decoded(openai_responses, cases.pieces(case)), case.meaning)
    laws.same_however_cut(openai_responses, case.wire["raw"].encode(), [len(case.wire["raw"]) // 2])


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in cases.load_all(VENDOR, "response", "stream")
        if case.meaning.get("finish") not in {None, "error"}
    ],
    ids=str,
)
def test_openai_s_client_reads_what_is_written(case, replay):
    response = cases.response_of(case.meaning)
    replay.answer(openai_responses.encode_response(response, REPLY))
    written = openai_responses.stream_encoder(REPLY).encode(deltas_of(response))
    replay.stream(written)

    whole = client(replay).responses.create(model="m", input="x")
    with client(replay).responses.stream(model="m", input="x") as stream:
        *_, last = list(stream)

    for answer in (whole, last.response):
        assert answer.output_text == case.meaning["text"]
        parts = [part for item in answer.output if item.type == "message" for part in item.content]
        assert [part.refusal for part in parts if part.type == "refusal"] == (
            [case.meaning["refusal"]] if case.meaning.get("refusal") else []
        )
        expected = "incomplete" if case.meaning["finish"] in {"length", "content_filter"} else "completed"
        assert answer.status == expected
        if "usage" in case.meaning:
            assert answer.usage.input_tokens_details.cached_tokens == case.meaning["usage"]["cached_read"]
            assert answer.usage.output_tokens_details.reasoning_tokens == case.meaning["usage"]["reasoning"]


# ---- requests --------------------------------------------------------------------------------------------------


def test_items_of_one_turn_are_one_message():
    found = asked(
        {
            "model": "m",
            "instructions": "A",
            "input": [
                {"role": "developer", "content": "B"},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Paris?"}]},
                {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "sig"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "status": "completed"},
                {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
                {"type": "function_call_output", "call_id": "b", "output": "2"},
                {
                    "type": "function_call_output",
                    "call_id": "a",
                    "output": [
                        {"type": "input_text", "text": "1"},
                        {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                    ],
                },
                {"type": "web_search_call", "id": "ws", "status": "completed"},
                {"role": "user", "content": "and?"},
            ],
        }
    ).request

    assert found.messages == (
        system("A"),
        system("B"),
        user("Paris?"),
        Message(
            "assistant",
            (
                Reasoning("", "sig", "openai_responses", redacted=True),
                Text("Wait."),
                ToolCall("a", "f", "{}"),
                ToolCall("b", "g", "{}"),
            ),
        ),
        Message(
            "tool",
            (
                ToolResult("b", "2", name="g"),
                ToolResult("a", "1", name="f", images=(Image("image/png", b"\0\0\0"),)),
            ),
        ),
        user("and?"),
    )
    assert asked(sent(found)).request == found


def test_pictures_and_documents_come_in_every_way():
    parts = (
        Text("see"),
        Image("image/png", b"\1"),
        Image(url="https://example.com/a.png", detail="high"),
        Image(file_id="file-1"),
        File("a.pdf", "application/pdf", b"\2"),
        File("b.pdf", url="https://example.com/b.pdf"),
        File(file_id="file-2"),
    )
    request = InferenceRequest((Message("user", parts),))

    assert asked(sent(request)).request == request


def test_what_the_vendor_would_keep_goes_through_extra():
    body = {
        "model": "m",
        "input": "x",
        "store": True,
        "previous_response_id": "resp_0",
        "conversation": {"id": "conv_1"},
        "metadata": {"a": "b"},
        "tools": [{"type": "web_search"}],
        "tool_choice": {"type": "web_search"},
        "text": {"verbosity": "low"},
        "unknown": 1,
    }

    found = asked(body).request

    assert found.extra == {
        "format": "openai_responses",
        "store": True,
        "previous_response_id": "resp_0",
        "conversation": {"id": "conv_1"},
        "metadata": {"a": "b"},
        "tools": [{"type": "web_search"}],
        "tool_choice": {"type": "web_search"},
        "verbosity": "low",
    }
    assert sent(found) == {key: value for key, value in body.items() if key != "unknown"}


def test_a_conversation_that_the_vendor_keeps_needs_no_input():
    assert asked({"model": "m", "previous_response_id": "resp_0"}).request.messages == ()


def test_log_probabilities_are_included_and_counted():
    request = InferenceRequest(
        (user("x"),), sampling=Sampling(logprobs=2), extra={"format": "openai_responses", "include": ["other"]}
    )

    body = sent(request)

    assert (body["top_logprobs"], body["include"]) == (2, ["other", "message.output_text.logprobs"])
    assert asked(body).request == replace(request, model="default")


def test_stop_sequences_are_cut_by_whoever_reads():
    encoded = openai_responses.encode_request(InferenceRequest((user("x"),), sampling=Sampling(stop=("END",), seed=5)))

    assert encoded.stops == ("END",)
    assert [loss.parameter for loss in encoded.losses] == ["stop", "seed"]


def test_allowed_tools_leave_the_others_out():
    tools = [{"type": "function", "name": name, "parameters": {}} for name in "fg"]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}

    found = asked({"input": "x", "tools": tools, "tool_choice": choice}).request

    assert (found.tools, found.tool_choice) == ((Tool("g"),), "required")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": "x", "tools": [{"name": "f"}]}, "tools[0].type"),
        ({"input": "x", "tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"input": "x", "max_output_tokens": "many"}, "max_output_tokens"),
        ({"input": "x", "reasoning": {"effort": "enormous"}}, "reasoning.effort"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(body, field):
    with pytest.raises(InvalidRequest) as caught:
        asked(body)

    assert caught.value.message.startswith(field + ":")


@given(strategies.requests(openai_responses.CAPABILITIES))
@settings(max_examples=80, deadline=None)
def test_what_the_api_can_say_comes_back_as_it_was(request):
    encoded = openai_responses.encode_request(request)

    assert encoded.losses == ()
    assert openai_responses.decode_request(encoded.wire).request == request


@given(
    st.dictionaries(
        st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "include", "instructions"]),
        strategies.json_values,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_json_is_a_request_or_a_refusal(body):
    laws.reads_or_refuses(openai_responses, WireRequest("/v1/responses", json_body(body)))


# ---- answers ---------------------------------------------------------------------------------------------------


@given(
    strategies.responses(reasoning=True, signatures=True, source="openai_responses", logprobs=False),
)
@settings(max_examples=80, deadline=None)
def test_an_answer_comes_back_as_it_was(response):
    reply = replace(REPLY, model=response.model)

    assert openai_responses.decode_response(openai_responses.encode_response(response, reply)) == response
    written = openai_responses.stream_encoder(reply).encode(deltas_of(response))
    assert laws.joined(laws.decoded(openai_responses, [written])) == laws.joined(deltas_of(response))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "upstream_failed"),
        (b"{}", "upstream_failed"),
        (b"[]", "upstream_failed"),
        (b'{"output": [], "status": "in_progress"}', "upstream_failed"),
        (b'{"output": [], "status": "failed", "error": {"code": "rate_limit_exceeded"}}', "rate_limited"),
    ],
)
def test_what_is_no_answer_is_an_error(body, code):
    with pytest.raises(ByenatosError) as caught:
        openai_responses.decode_response(WireResponse(body))

    assert caught.value.code == code


def test_ends_of_answers():
    for status, reason, expected in [
        ("incomplete", "max_output_tokens", ("length", "")),
        ("incomplete", "content_filter", ("content_filter", "")),
        ("incomplete", "bored", ("stop", "bored")),
        ("incomplete", None, ("length", "")),
        ("completed", None, ("stop", "")),
    ]:
        body = {"output": [], "status": status, "incomplete_details": {"reason": reason}}
        found = openai_responses.decode_response(WireResponse(json_body(body)))
        assert (found.reason, found.detail) == expected


@given(st.binary(max_size=30) | strategies.json_values.map(json_body))
@settings(max_examples=100, deadline=None)
def test_any_body_is_an_answer_or_an_error(body):
    for status in (200, 500):
        for decode in (openai_responses.decode_response, openai_responses.decode_count):
            laws.answers_or_fails(lambda decode=decode, status=status: decode(WireResponse(body, status)))


def test_what_was_asked_is_said_again():
    request = asked(
        {
            "input": "x",
            "instructions": "I",
            "temperature": 0.5,
            "max_output_tokens": 20,
            "metadata": {"a": "b"},
            "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
            "tool_choice": "required",
            "reasoning": {"effort": "low"},
        }
    )
    response = cases.response_of({"text": "y", "finish": "stop"})

    body = json.loads(openai_responses.encode_response(response, replace(REPLY, asked=request)).body)

    assert (body["instructions"], body["temperature"], body["max_output_tokens"]) == ("I", 0.5, 20)
    assert (body["tools"][0]["name"], body["tool_choice"], body["metadata"]) == ("f", "required", {"a": "b"})
    assert body["reasoning"] == {"effort": "low", "summary": None}


# ---- streams ---------------------------------------------------------------------------------------------------


DELTAS = [
    ReasoningDelta("Let me "),
    ReasoningDelta("think."),
    ReasoningDelta("", "sig", "openai_responses"),
    TextDelta("Check"),
    TextDelta("ing.\u2028"),
    Logprobs((TokenLogprob("Check", -0.1, (("Check", -0.1),)),)),
    ToolCallDelta("a", "f", '{"x":1}'),
    ToolCallDelta("b", "g", "{}"),
    Finish("tool_calls", Usage(10, 5, 4, 0, 2), "m"),
]


def test_a_stream_comes_back_as_it_was_however_it_is_fed():
    whole = openai_responses.stream_encoder(REPLY).encode(DELTAS)
    encoder = openai_responses.stream_encoder(REPLY)
    raw = b"".join(encoder.encode([delta]) for delta in DELTAS)

    assert raw == whole
    assert encoder.encode([TextDelta("more")]) == b""
    assert laws.decoded(openai_responses, [raw]) == DELTAS
    laws.same_however_cut(openai_responses, raw, [7, 1001, 2500])


def test_events_are_numbered_and_indexed():
    found = read(openai_responses.stream_encoder(REPLY).encode(DELTAS))

    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    assert [one["output_index"] for one in found if one["type"] == "response.output_item.added"] == [0, 1, 2, 3]
    assert [one["item"]["type"] for one in found if one["type"] == "response.output_item.done"] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["output"] == [
        one["item"] for one in found if one["type"] == "response.output_item.done"
    ]


@pytest.mark.parametrize(
    "deltas",
    [
        [
            ReasoningDelta("Let me see"),
            TextDelta("Checking.\u2028"),
            ToolCallDelta("a", "f", '{"x":1}'),
            Finish("tool_calls", Usage(10, 5, 4, 0, 2), "m"),
        ],
        [ReasoningDelta("Hm", "sig", "openai_responses"), TextDelta("Cut"), Finish("length", Usage(1, 1), "m")],
        [TextDelta("I will not"), Finish("content_filter", Usage(1, 1), "m", "refusal")],
        [Finish("stop", Usage(1, 0), "m")],
    ],
)
def test_a_whole_answer_is_streamed_again_with_the_events_with_which_it_came(deltas):
    came = read(openai_responses.stream_encoder(REPLY).encode(deltas))
    answer = came[-1]["response"]

    assert read(openai_responses.encode_replay(answer)) == came
    for last in range(len(came) - 1):
        assert read(openai_responses.encode_replay(answer, last)) == came[last + 1 :]
    with pytest.raises(InvalidRequest, match="starting_after"):
        openai_responses.encode_replay(answer, len(came) - 1)


def test_a_call_with_free_text_is_streamed_again_as_one():
    reply = replace(REPLY, asked=asked({"input": "x", "tools": [{"type": "custom", "name": "patch"}]}))
    deltas = [ToolCallDelta("a", "patch", '{"input":"+1"}'), Finish("tool_calls", Usage(1, 1), "m")]
    came = read(openai_responses.stream_encoder(reply).encode(deltas))

    assert read(openai_responses.encode_replay(came[-1]["response"])) == came


def test_openai_s_helper_adds_a_stream_up(replay):
    replay.stream(openai_responses.stream_encoder(REPLY).encode(DELTAS))

    with client(replay).responses.stream(model="m", input="x") as stream:
        answer = stream.get_final_response()

    assert answer.output_text == "Checking.\u2028"
    assert [(item.call_id, item.name, item.arguments) for item in answer.output if item.type == "function_call"] == [
        ("a", "f", '{"x":1}'),
        ("b", "g", "{}"),
    ]
    assert answer.output[0].encrypted_content == "sig"
    assert answer.output[1].content[0].logprobs[0].token == "Check"
    assert (answer.temperature, answer.usage.total_tokens) == (0.5, 15)


def test_calls_to_a_client_s_tools_of_free_text_come_back_as_free_text(replay):
    found = asked({"input": "x", "tools": [{"type": "custom", "name": "patch", "description": "d"}]})
    assert found.request.tools[0].parameters["required"] == ["input"]
    reply = replace(REPLY, asked=found)
    deltas = [ToolCallDelta("a", "patch", '{"input":"+1"}'), Finish("tool_calls", Usage(1, 1), "m")]
    raw = openai_responses.stream_encoder(reply).encode(deltas)
    replay.stream(raw)

    with client(replay).responses.stream(model="m", input="x") as stream:
        (item,) = stream.get_final_response().output

    assert (item.type, item.call_id, item.name, item.input) == ("custom_tool_call", "a", "patch", "+1")
    assert laws.decoded(openai_responses, [raw]) == deltas
    whole = openai_responses.encode_response(added(deltas), reply)
    assert openai_responses.decode_response(whole).message.parts == (ToolCall("a", "patch", '{"input":"+1"}'),)


def test_a_failure_is_a_failed_response(replay):
    encoder = openai_responses.stream_encoder(REPLY)
    raw = [encoder.encode([TextDelta("Par")]), encoder.encode([Failure("rate_limited", "slow", partial=True)])]
    replay.stream(*raw)

    *_, last = list(client(replay).responses.create(model="m", input="x", stream=True))

    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert (last.response.error.code, last.response.error.message) == ("rate_limit_exceeded", "slow")
    assert laws.decoded(openai_responses, raw) == [TextDelta("Par"), Failure("rate_limited", "slow", None, True)]


@pytest.mark.parametrize("text", ["No.", ""])
def test_a_refusal_is_a_part_of_its_own(text):
    deltas = [*([TextDelta(text)] if text else []), Finish("content_filter", Usage(3, 1), "m", "refusal")]

    raw = openai_responses.stream_encoder(REPLY).encode(deltas)

    assert laws.decoded(openai_responses, [raw]) == deltas
    assert read(raw)[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": text}]
    assert read(raw)[-1]["response"]["status"] == "completed"


def test_a_refusal_that_was_said_as_text_ends_as_filtered():
    encoder = openai_responses.stream_encoder(REPLY)

    raw = encoder.encode([TextDelta("No.")]) + encoder.encode([Finish("content_filter", detail="refusal")])

    assert read(raw)[-1]["type"] == "response.incomplete"
    assert laws.decoded(openai_responses, [raw])[-1].reason == "content_filter"


def test_a_server_that_leaves_out_numbers_and_indices_is_understood():
    item = {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}'}
    raw = events(
        {"type": "response.created", "response": {}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.output_item.added", "item": item | {"arguments": ""}},
        {"type": "response.function_call_arguments.delta", "delta": '{"x":1}'},
        {"type": "response.output_item.done", "item": item},
        {
            "type": "response.completed",
            "response": {"status": "completed", "output": [{"type": "message", "content": [{"text": "Hi"}]}, item]},
        },
    )

    assert laws.decoded(openai_responses, raw) == [
        TextDelta("Hi"),
        ToolCallDelta("a", "f", '{"x":1}'),
        Finish("tool_calls", Usage(None, None)),
    ]


def test_what_was_not_streamed_is_taken_from_the_last_event():
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
    ]
    raw = events({"type": "response.completed", "response": {"status": "completed", "output": output}})

    assert laws.decoded(openai_responses, raw)[:2] == [TextDelta("Hi"), ToolCallDelta("a", "f", "{}")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "error", "code": "context_length_exceeded", "message": "m"}, "context_length_exceeded"),
        ({"type": "error", "error": {"code": "server_error", "message": "m"}}, "upstream_failed"),
        ({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}, "rate_limited"),
        ({"type": "response.failed", "response": {}}, "upstream_failed"),
        ({"type": "response.completed", "response": {"status": "failed", "output": []}}, "upstream_failed"),
    ],
)
def test_an_error_in_the_middle_of_a_stream_ends_it(body, code):
    raw = events({"type": "response.output_text.delta", "delta": "Par"}, body)

    *before, last = laws.decoded(openai_responses, raw)

    assert before == [TextDelta("Par")]
    assert (last.code, last.partial) == (code, True)


def test_a_stream_without_an_end_broke_off():
    (last,) = laws.decoded(openai_responses, events({"type": "response.created", "response": {}}))

    assert (last.code, last.partial) == ("stream_interrupted", False)


_PIECES = st.sampled_from(
    [
        b"data: ",
        b"\n\n",
        b'{"type":"response.output_text.delta","delta":"x"}',
        b'{"type":"response.output_item.done","item":{"type":"function_call"}}',
        b'{"type":"response.completed","response":{"output":[{"type":"message","content":[1]}]}}',
        b'{"type":"error"}',
        b"event: error\n",
    ]
)


@given(st.lists(_PIECES | st.binary(max_size=8), max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_bytes_end_in_one_terminal(pieces):
    laws.holds_for_any_bytes(openai_responses, pieces)


# ---- counts and errors -----------------------------------------------------------------------------------------


def test_tokens_are_counted_before_they_are_paid_for(replay):
    replay.answer(openai_responses.encode_count(TokenCount(11)))

    assert client(replay).responses.input_tokens.count(model="m", input="Hi").input_tokens == 11

    (request,) = replay.requests
    assert openai_responses.decode_count_request(request).messages == (user("Hi"),)
    asked_for = openai_responses.encode_count_request(
        InferenceRequest((user("Hi"),), model="m", sampling=Sampling(temperature=1), reasoning=ReasoningOptions("low"))
    )
    assert asked_for.path == "/responses/input_tokens"
    assert json.loads(asked_for.body) == {"model": "m", "input": "Hi", "reasoning": {"effort": "low"}}
    assert openai_responses.decode_count(openai_responses.encode_count(TokenCount(11))) == TokenCount(11)
    with pytest.raises(UpstreamFailed):
        openai_responses.decode_count(WireResponse(b"{}"))


def test_openai_s_client_raises_errors_of_their_kind(replay):
    replay.answer(openai_responses.encode_error(InvalidRequest("input: expected a text, found none")))

    with pytest.raises(openai.BadRequestError) as caught:
        client(replay).responses.create(model="m", input="x")

    assert caught.value.param == "input"
