import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import strategies
from tests.sdk.formats.cases import (
    Case,
    assert_deltas,
    assert_request,
    assert_response,
    load,
    request_of,
    response_of,
    wire_request,
    wire_response,
)
from tests.sdk.formats.laws import (
    answers_or_fails,
    decoded,
    holds_for_any_bytes,
    joined,
    reads_or_refuses,
    same_however_cut,
)

from byenatos_sdk.formats import dashscope
from byenatos_sdk.formats.contract import EmbeddingFormat, Format
from byenatos_sdk.formats.dashscope.growth import CERTAIN, Growth, Mode
from byenatos_sdk.formats.dashscope.requests import MULTIMODAL
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
    Unsupported,
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    File,
    Finish,
    InferenceRequest,
    Logprobs,
    Message,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolResult,
    Usage,
    user,
)

REPLY = Reply("r1", "qwen-plus", 1763800000)


def asking(path: str = "", **extra: Any) -> Reply:
    return replace(REPLY, asked=Decoded(InferenceRequest((user("x"),), extra=extra), path=path))


PIECES, GROWING, TEXT = asking(incremental_output=True), asking(), asking(incremental_output=True, result_format="text")
PICTURES = asking("/api/v1" + MULTIMODAL, incremental_output=True)


def cases(*kinds: str) -> list[Case]:
    return [case for case in load("dashscope", *kinds) + load("dashscope_own", *kinds) if "compat-s" not in case.id]


def ends(case: Case) -> bool:
    return bool(case.meaning.get("finish"))


def test_the_module_is_a_format_with_embeddings():
    assert isinstance(dashscope, Format)
    assert isinstance(dashscope, EmbeddingFormat)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    assert_request(dashscope.decode_request(wire_request(case)), case.meaning)


@pytest.mark.parametrize("case", [one for one in cases("request") if "lenient" not in one.meaning], ids=str)
def test_a_request_is_written_as_the_vendor_takes_it(case):
    encoded = dashscope.encode_request(request_of(case.meaning), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert case.wire["path"].endswith(encoded.wire.path)
    assert (encoded.wire.headers.get("x-dashscope-sse") == "enable") == case.meaning["stream"]
    found, wanted = json.loads(encoded.wire.body), json.loads(json.dumps(case.wire["body"]))
    if wanted["parameters"].get("tool_choice") == "auto":
        del wanted["parameters"]["tool_choice"]
    for message in (*found["input"]["messages"], *wanted["input"]["messages"]):
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert found == wanted


@pytest.mark.parametrize("case", [one for one in cases("response", "stream") if ends(one)], ids=str)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    for reply in (REPLY, PIECES, GROWING, PICTURES):
        assert_response(dashscope.decode_response(dashscope.encode_response(response, reply)), case.meaning)
        encoder = dashscope.stream_encoder(reply)
        raw = b"".join(encoder.encode([delta]) for delta in deltas_of(response))
        assert_deltas(decoded(dashscope, [raw]), case.meaning)


# ---- requests --------------------------------------------------------------------------------------------------


def asked(parameters: Any = None, messages: Any = None, **fields: Any) -> WireRequest:
    messages = [{"role": "user", "content": "x"}] if messages is None else messages
    body = {"model": "m", "input": {"messages": messages}, "parameters": parameters} | fields
    return WireRequest("/api/v1/services/aigc/text-generation/generation", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("wire", "place"),
    [
        (asked(model=None), "model: expected"),
        (asked(model=""), "model: expected"),
        (asked(input=None), "input: expected an object"),
        (asked(input={}), "input.prompt: expected a string"),
        (asked(messages=[]), "input.messages: expected at least one"),
        (asked(messages=[{"role": "robot"}]), r"input.messages\[0\].role: expected one of system"),
        (asked(messages=[{"role": "user", "content": 5}]), r"input.messages\[0\].content: expected a list"),
        (asked(messages=[{"role": "user", "content": [{"video": "x"}]}]), "expected text, image or audio"),
        (asked(messages=[{"role": "user", "content": [{"image": "data:x"}]}]), r"content\[0\].image: expected data:"),
        (asked(messages=[{"role": "user", "content": [{"audio": "https://x/a.wav"}]}]), "audio: expected a data:"),
        (asked({"temperature": "hot"}), "parameters.temperature: expected a number"),
        (asked({"seed": 1.5}), "parameters.seed: expected a whole number"),
        (asked({"stop": [None]}), "parameters.stop: expected a string or a list"),
        (asked({"enable_thinking": "yes"}), "parameters.enable_thinking: expected true or false"),
        (asked({"tools": [{"type": "function"}]}), r"parameters.tools\[0\].function: expected"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(wire, place):
    with pytest.raises(InvalidRequest, match=place):
        dashscope.decode_request(wire)


def test_results_without_ids_find_their_calls():
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}] * 2},
        {"role": "tool", "content": "one", "name": "f"},
        {"role": "tool", "content": [{"text": "two"}]},
    ]
    found = dashscope.decode_request(asked(messages=messages)).request
    assert found.messages[2] == Message(
        "tool", (ToolResult("call_0_f", "one", name="f"), ToolResult("call_1_f", "two", name="f"))
    )


def test_a_client_that_accepts_events_gets_them_and_how_they_are_to_be_is_kept():
    wire = asked({"result_format": "text", "n": 3})
    found = dashscope.decode_request(replace(wire, headers={"accept": "text/event-stream"}))
    assert (found.stream, found.choices) == (True, 3)
    assert found.request.extra == {"format": "dashscope", "result_format": "text"}
    assert not dashscope.decode_request(wire).stream


def test_what_cannot_be_said_is_told():
    request = InferenceRequest(
        (user("x"),),
        sampling=Sampling(temperature=2.0, frequency_penalty=1.0, min_p=0.1),
        tools=(Tool("f"), Tool("g")),
        tool_choice="required",
        reasoning=ReasoningOptions("high"),
        metadata={"end_user": "u"},
    )
    encoded = dashscope.encode_request(request)
    parameters = json.loads(encoded.wire.body)["parameters"]
    assert parameters["temperature"] == 1.99
    assert "tool_choice" not in parameters
    assert (parameters["enable_thinking"], parameters["thinking_budget"]) == (True, 16384)
    assert {loss.parameter for loss in encoded.losses} == {
        "temperature", "frequency_penalty", "min_p", "tool_choice", "reasoning.effort", "end_user",
    }  # fmt: skip
    with pytest.raises(Unsupported):
        dashscope.encode_request(request, strict=True)
    with pytest.raises(Unsupported):
        dashscope.encode_request(InferenceRequest((Message("user", (File("a.pdf", data=b"x"),)),)))


def test_parameters_of_other_vendors_stay_away():
    request = InferenceRequest((user("x"),), extra={"enable_search": True, "num_ctx": 5})
    assert json.loads(dashscope.encode_request(request).wire.body)["parameters"] == {
        "result_format": "message", "enable_search": True,
    }  # fmt: skip


def expressible(request: InferenceRequest) -> InferenceRequest:
    """Return ``request`` as this format keeps it: where all is text, a message's text is one."""
    if dashscope.encode_request(request).wire.path == MULTIMODAL:
        return request
    messages = []
    for message in request.messages:
        others = tuple(part for part in message.parts if not isinstance(part, Text))
        text = (Text(message.text),) if message.text else ()
        messages.append(Message(message.role, text + others))
    return replace(request, messages=tuple(messages))


@settings(max_examples=60, deadline=None)
@given(strategies.requests(dashscope.CAPABILITIES).map(expressible), st.booleans())
def test_a_request_survives_both_ways(request, stream):
    encoded = dashscope.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = dashscope.decode_request(encoded.wire)
    assert found.stream == stream
    assert replace(found.request, extra={}) == request


@settings(max_examples=100)
@given(st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_read_or_refused(data):
    reads_or_refuses(dashscope, WireRequest("/api/v1/services/aigc/text-generation/generation", data))


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"output": {}}', b'{"output": {"choices": [7]}}', b'{"output": {"text": null}}']
)
def test_a_body_that_is_no_answer_is_the_vendors_failure(body):
    with pytest.raises(UpstreamFailed):
        dashscope.decode_response(WireResponse(body))


@settings(max_examples=60, deadline=None)
@given(
    strategies.responses(usage=strategies.usages() | st.just(Usage(None, None)), reasoning=True, logprobs=True),
    st.sampled_from([REPLY, PIECES, GROWING, PICTURES]),
)
def test_a_response_survives_both_ways(response, reply):
    found = dashscope.decode_response(dashscope.encode_response(response, reply))
    assert replace(found, model=response.model) == response


def test_a_text_alone_is_written_where_it_was_asked_for():
    response = response_of({"text": "Hello", "finish": "length", "usage": {"input": 1, "output": 2}})
    assert json.loads(dashscope.encode_response(response, TEXT).body)["output"] == {
        "text": "Hello", "finish_reason": "length",
    }  # fmt: skip


# ---- streams ---------------------------------------------------------------------------------------------------


def encoded_stream(deltas, reply=REPLY):
    encoder = dashscope.stream_encoder(reply)
    return b"".join(encoder.encode([delta]) for delta in deltas)


def test_calls_that_come_under_one_number_are_told_apart_by_their_ids():
    calls = [
        ToolCallDelta("call_1", "0", "{}"),
        ToolCallDelta("call_2", "0", "{}"),
        ToolCallDelta("call_0", "0", '{"":1}'),
    ]
    raw = encoded_stream([*calls, Finish("tool_calls")], REPLY)
    assert b'"index":2' in raw
    for number in (b'"index":1', b'"index":2'):
        raw = raw.replace(number, b'"index":0')
    assert [one for one in decoded(dashscope, [raw]) if isinstance(one, ToolCallDelta)] == calls


@settings(max_examples=50, deadline=None)
@given(
    strategies.deltas(reasoning=True, logprobs=True),
    st.lists(st.integers(0, 10**4), max_size=4),
    st.sampled_from([REPLY, PIECES, PICTURES]),
)
def test_a_stream_of_pieces_survives_both_ways_however_it_is_cut(deltas, cuts, reply):
    raw = encoded_stream(deltas, reply)
    found = decoded(dashscope, [raw])
    tokens = [delta for delta in found if isinstance(delta, Logprobs)]
    assert tokens == [delta for delta in deltas if isinstance(delta, Logprobs)]
    assert sums(found) == sums(deltas)
    same_however_cut(dashscope, raw, cuts)
    assert dashscope.stream_encoder(reply).encode(deltas) == raw


def sums(deltas):
    """Return what a stream's deltas add up to: where a text was cut means nothing."""
    return joined([delta for delta in deltas if not isinstance(delta, Logprobs)])


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(reasoning=True))
def test_a_stream_that_grows_survives_both_ways(deltas):
    found = decoded(dashscope, [encoded_stream(deltas, GROWING)])
    assert sums(found) == sums(deltas)


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(tools=False))
def test_a_stream_of_a_text_alone_survives_both_ways(deltas):
    assert sums(decoded(dashscope, [encoded_stream(deltas, TEXT)])) == sums(deltas)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_end_in_one_terminal(found):
    holds_for_any_bytes(dashscope, found)


_call = strategies.odd_objects("index", "id", function=strategies.odd_objects("name", "arguments"))
_message = strategies.odd_objects(
    "reasoning_content",
    content=st.lists(strategies.odd_objects("text"), max_size=2),
    tool_calls=st.lists(_call, max_size=2),
)
_choice = strategies.odd_objects("index", "finish_reason", "logprobs", message=_message)
_output = strategies.odd_objects("text", "finish_reason", choices=st.lists(_choice, max_size=2))
EVENTS = strategies.odd_objects("usage", "code", output=_output)


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=4))
def test_events_of_any_shape_end_in_one_terminal(events):
    holds_for_any_bytes(dashscope, [b"data:" + json.dumps(event).encode() + b"\n\n" for event in events])
    for event in events:
        answers_or_fails(lambda event=event: dashscope.decode_response(WireResponse(json.dumps(event).encode())))


def test_the_second_of_two_answers_can_be_read():
    first = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
    second = {"index": 1, "message": {"content": "b"}, "finish_reason": "null"}
    last = {"index": 1, "message": {"content": ""}, "finish_reason": "length"}
    raw = b"".join(
        b"data:" + json.dumps({"output": {"choices": choices}}).encode() + b"\n\n"
        for choices in ([first, second], [last])
    )
    assert decoded(dashscope, [raw], choice=1) == [TextDelta("b"), Finish("length", Usage(None, None))]
    assert decoded(dashscope, [raw]) == [TextDelta("a"), Finish("stop", Usage(None, None))]


def test_a_failure_is_an_event_of_its_own_with_its_status():
    failure = Failure(ContentFiltered.code, "Output data may contain inappropriate content.", partial=True)
    raw = encoded_stream([TextDelta("Par"), failure])
    assert raw.endswith(
        b"id:2\nevent:error\n:HTTP_STATUS/400\nstatus:400\n"
        b'data:{"code":"DataInspectionFailed","message":"Output data may contain inappropriate content.",'
        b'"request_id":"r1"}\n\n'
    )
    assert decoded(dashscope, [raw]) == [TextDelta("Par"), failure]
    context = Failure(ContextLengthExceeded.code, "too much")
    assert decoded(dashscope, [encoded_stream([context])])[0].code == ContextLengthExceeded.code


def test_a_keep_alive_means_nothing():
    encoder = dashscope.stream_encoder(REPLY)
    raw = encoder.keep_alive() + encoder.encode([TextDelta("a")]) + encoder.keep_alive()
    raw += encoder.encode([Finish("stop", Usage(1, 1))])
    assert decoded(dashscope, [raw]) == [TextDelta("a"), Finish("stop", Usage(1, 1))]


# ---- texts that grow -------------------------------------------------------------------------------------------


def read_through(sent, mode=None):
    growth = Growth(mode or Mode())
    given = [growth.feed(piece) for piece in sent]
    return given, growth.end()


@settings(max_examples=100)
@given(st.lists(st.text("ab", max_size=3), max_size=8))
def test_a_text_that_grows_is_read_whole(parts):
    grown = ["".join(parts[: at + 1]) for at in range(len(parts))]
    given, rest = read_through(grown)
    assert "".join(given) + rest == "".join(parts)


@settings(max_examples=100)
@given(st.lists(st.text("ab", min_size=1, max_size=3), max_size=8))
def test_a_text_that_adds_up_is_read_whole_when_its_last_piece_is_empty(parts):
    given, rest = read_through([*parts, ""])
    assert "".join(given) + rest == "".join(parts)


def test_what_is_the_same_either_way_is_given_at_once_and_the_rest_once_it_is_certain():
    given, rest = read_through(["Hel", "Hello", "Hello wo", "Hello world, how", "Hello world, how are"])
    assert given[0] == "Hel"
    assert given[1] == given[2] == ""
    assert given[3] == "lo world, how"
    assert (given[4], rest) == (" are", "")
    assert len("Hel") + len("Hello") + len("Hello wo") >= CERTAIN


def test_a_piece_that_comes_again_and_again_alone_adds_up():
    growth = Growth(Mode())
    given = [growth.feed("ha ", alone=True) for _ in range(20)]
    assert "".join(given) == "ha " * 20
    assert given[0] == "ha "
    assert given[-1] == "ha "


def test_a_text_that_stands_still_while_calls_are_said_is_said_once_and_not_held_back_for_ever():
    given, rest = read_through(["ha" * 50] * 1000)
    assert "".join(given) + rest == "ha" * 50


def test_a_stream_of_the_same_piece_again_and_again_is_read_as_it_comes():
    encoder, decoder = dashscope.stream_encoder(PIECES), dashscope.stream_decoder()
    heard = [decoder.feed(encoder.encode([TextDelta("tok ")])) for _ in range(50)]
    assert sums([delta for deltas in heard for delta in deltas]) == [TextDelta("tok " * 50)]


def test_what_one_text_shows_holds_for_the_others():
    mode = Mode()
    text, thoughts = Growth(mode), Growth(mode)
    assert text.feed("a") == "a"
    assert text.feed("ab") == ""
    assert thoughts.feed("x") == "x"
    assert thoughts.feed("y") == "y"
    assert text.feed("c") == "abc"


# ---- embeddings ------------------------------------------------------------------------------------------------


def test_vectors_are_put_into_the_order_of_their_texts():
    (case,) = [one for one in load("dashscope") if one.id == "dashscope/embed"]
    found = dashscope.decode_embedding_response(wire_response(case))
    assert [list(vector) for vector in found.vectors] == case.meaning["embeddings"]
    assert found.usage == Usage(4, 0)
    again = dashscope.encode_embedding_response(found, REPLY, WireRequest("x"))
    assert dashscope.decode_embedding_response(again) == found


def test_a_request_for_embeddings_survives_both_ways():
    request = EmbeddingRequest(("a", "b"), "text-embedding-v4", 256, {"text_type": "query", "num_ctx": 1})
    wire = dashscope.encode_embedding_request(request)
    assert json.loads(wire.body) == {
        "model": "text-embedding-v4",
        "input": {"texts": ["a", "b"]},
        "parameters": {"text_type": "query", "dimension": 256},
    }
    assert dashscope.decode_embedding_request(wire) == replace(request, extra={"text_type": "query"})


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"code": "InvalidParameter", "message": "x"}', 400, InvalidRequest),
        (b'{"code": "DataInspectionFailed", "message": "x"}', 200, ContentFiltered),
        (b"<html>", 200, UpstreamFailed),
        (b'{"output": {"embeddings": [{"embedding": ["x"]}]}}', 200, UpstreamFailed),
        (b'{"output": {"embeddings": [{"sparse_embedding": [{"index": 1, "value": 0.5}]}]}}', 200, UpstreamFailed),
    ],
)
def test_vectors_that_are_none_are_refused(body, status, error):
    with pytest.raises(error):
        dashscope.decode_embedding_response(WireResponse(body, status))


def test_a_request_for_no_vectors_is_refused():
    with pytest.raises(InvalidRequest, match=r"input\.texts: expected at least one"):
        dashscope.decode_embedding_request(WireRequest("x", b'{"model": "m", "input": {}}'))
    empty = dashscope.encode_embedding_response(EmbeddingResponse((), usage=Usage(None, 0)), REPLY, WireRequest("x"))
    assert dashscope.decode_embedding_response(empty).vectors == ()


def test_calls_and_thoughts_come_before_the_end():
    deltas = [ReasoningDelta("hm"), ToolCallDelta("c", "f", "{}"), Finish("tool_calls", Usage(None, None))]
    assert decoded(dashscope, [encoded_stream(deltas)]) == deltas
