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

from byenatos_sdk.formats import hunyuan
from byenatos_sdk.formats.contract import EmbeddingFormat, Format
from byenatos_sdk.formats.hunyuan.messages import MAX_MESSAGES, PLACEHOLDER
from byenatos_sdk.formats.wire import Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    Unauthenticated,
    Unsupported,
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import (
    Audio,
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    Message,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenLogprob,
    Tool,
    Usage,
    assistant,
    system,
    user,
)

REPLY = Reply("req-1", "hunyuan-turbos-latest", 1763800000)


def cases(*kinds: str) -> list[Case]:
    return load("tencent", *kinds) + load("tencent_own", *kinds)


def ends(case: Case) -> bool:
    return bool(case.meaning.get("finish"))


def test_the_module_is_a_format_with_embeddings():
    assert isinstance(hunyuan, Format)
    assert isinstance(hunyuan, EmbeddingFormat)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    assert_request(hunyuan.decode_request(wire_request(case)), case.meaning)


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with JSON that is text as values: blanks in it mean nothing."""
    found = json.loads(json.dumps(body))
    for tool in (*found.get("Tools", ()), *([found["CustomTool"]] if "CustomTool" in found else [])):
        tool["Function"]["Parameters"] = json.loads(tool["Function"]["Parameters"])
    for message in found["Messages"]:
        for call in message.get("ToolCalls", ()):
            call["Function"]["Arguments"] = json.loads(call["Function"]["Arguments"])
    return found


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_written_as_the_vendor_takes_it(case):
    encoded = hunyuan.encode_request(request_of(case.meaning), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.wire.path == "/"
    assert encoded.wire.headers["x-tc-action"] == "ChatCompletions"
    assert encoded.wire.headers["x-tc-version"] == "2023-09-01"
    assert normal(json.loads(encoded.wire.body)) == normal(case.wire["body"])


@pytest.mark.parametrize("case", [one for one in cases("response", "stream") if ends(one)], ids=str)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    assert_response(hunyuan.decode_response(hunyuan.encode_response(response, REPLY)), case.meaning)
    assert_deltas(decoded(hunyuan, [hunyuan.stream_encoder(REPLY).encode(deltas_of(response))]), case.meaning)


@pytest.mark.parametrize("case", cases("error"), ids=str)
def test_an_error_is_written_with_a_good_status(case):
    wire = hunyuan.encode_error(hunyuan.decode_error(wire_response(case)))
    assert wire.status == 200
    assert wire.headers["content-type"] == "application/json"


# ---- requests --------------------------------------------------------------------------------------------------


def asked(**fields: Any) -> WireRequest:
    body = {"Model": "m", "Messages": [{"Role": "user", "Content": "x"}]} | fields
    return WireRequest("/", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("wire", "place"),
    [
        (asked(Model=None), "Model: expected"),
        (asked(Model=""), "Model: expected"),
        (asked(Messages=[]), "Messages: expected at least one"),
        (asked(Messages=[{"Role": "robot"}]), r"Messages\[0\].Role: expected one of system"),
        (asked(Messages=[{"Role": "user", "Content": 5}]), r"Messages\[0\].Content: expected a string"),
        (asked(Messages=[{"Role": "user", "Contents": [{"Type": "video_url"}]}]), "Type: expected text or image_url"),
        (asked(Tools=[{"Type": "function"}]), r"Tools\[0\].Function: expected an object"),
        (asked(Tools=[{"Function": {"Name": "f", "Parameters": "{"}}]), "Parameters: expected a JSON schema as text"),
        (asked(Tools=[{"Function": {"Name": "f", "Parameters": {}}}]), "Parameters: expected a string"),
        (asked(ToolChoice="required"), "ToolChoice: expected none, auto or custom"),
        (asked(ToolChoice="custom"), "CustomTool: expected an object"),
        (asked(Temperature="hot"), "Temperature: expected a number"),
        (asked(Seed=1.5), "Seed: expected a whole number"),
        (asked(Stream="yes"), "Stream: expected true or false"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(wire, place):
    with pytest.raises(InvalidRequest, match=place):
        hunyuan.decode_request(wire)


def test_a_custom_tool_may_stand_alone():
    tool = {"Type": "function", "Function": {"Name": "f", "Parameters": "{}"}}
    found = hunyuan.decode_request(asked(ToolChoice="custom", CustomTool=tool)).request
    assert (found.tools, found.tool_choice) == ((Tool("f"),), "f")


def test_results_without_ids_find_their_calls():
    messages = [
        {"Role": "user", "Content": "x"},
        {"Role": "assistant", "Content": "", "ToolCalls": [{"Function": {"Name": "f", "Arguments": ""}}]},
        {"Role": "tool", "Content": "one"},
    ]
    call, result = hunyuan.decode_request(asked(Messages=messages)).request.messages[1:]
    assert (call.parts[0].id, call.parts[0].arguments) == ("call_0_f", "{}")
    assert (result.parts[0].call_id, result.parts[0].name) == ("call_0_f", "f")


def test_content_is_never_empty_and_reads_as_nothing_again():
    request = InferenceRequest((user("a"), Message("assistant", ()), user("b")), model="m")
    encoded = hunyuan.encode_request(request)
    assert json.loads(encoded.wire.body)["Messages"][1]["Content"] == PLACEHOLDER
    assert hunyuan.decode_request(encoded.wire).request == request


def test_what_cannot_be_said_is_told():
    request = InferenceRequest(
        (user("a"), user("b"), system("later")),
        sampling=Sampling(max_tokens=5, seed=0, temperature=3.0, top_k=4),
        tools=(Tool("f"),),
        tool_choice="required",
        response_format={"type": "json_object"},
        reasoning=ReasoningOptions("high"),
    )
    encoded = hunyuan.encode_request(request)
    body = json.loads(encoded.wire.body)
    assert [message["Role"] for message in body["Messages"]] == ["system", "user"]
    assert body["Messages"][1]["Content"] == "a\n\nb\n\n[system] later"
    assert (body["Seed"], body["Temperature"], body["EnableThinking"]) == (1, 2.0, True)
    assert (body["ToolChoice"], body["CustomTool"]["Function"]["Name"]) == ("custom", "f")
    assert {loss.parameter for loss in encoded.losses} == {
        "messages", "max_tokens", "seed", "temperature", "top_k", "tool_choice", "response_format", "reasoning.effort",
    }  # fmt: skip
    with pytest.raises(Unsupported):
        hunyuan.encode_request(InferenceRequest((Message("user", (Audio(b"x"),)),)))


def test_a_stop_sequence_is_cut_by_whoever_reads_because_it_stays_in_the_text():
    encoded = hunyuan.encode_request(InferenceRequest((user("a"),), sampling=Sampling(stop=("END", "\n"))))
    assert json.loads(encoded.wire.body)["Stop"] == ["END", "\n"]
    assert encoded.stops == ("END", "\n")
    assert encoded.losses == ()


def test_a_conversation_that_is_too_long_is_refused():
    turns = [turn for _ in range(MAX_MESSAGES) for turn in (user("a"), assistant("b"))]
    assert hunyuan.encode_request(InferenceRequest(tuple(turns[: MAX_MESSAGES - 1]))).losses == ()
    with pytest.raises(InvalidRequest, match="at most 40"):
        hunyuan.encode_request(InferenceRequest((*turns, user("c"))))


def expressible(request: InferenceRequest) -> InferenceRequest:
    """Return ``request`` as this format keeps it: without pictures a message's text is one; tools are not strict."""
    messages = []
    for message in request.messages:
        if all(isinstance(part, Text) for part in message.parts):
            messages.append(Message(message.role, (Text(message.text),)))
        else:
            messages.append(message)
    return replace(request, messages=tuple(messages), tools=tuple(replace(tool, strict=None) for tool in request.tools))


@settings(max_examples=60, deadline=None)
@given(strategies.requests(hunyuan.CAPABILITIES).map(expressible), st.booleans())
def test_a_request_survives_both_ways(request, stream):
    encoded = hunyuan.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = hunyuan.decode_request(encoded.wire)
    assert found.stream == stream
    assert found.request == request


@settings(max_examples=100)
@given(st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_read_or_refused(data):
    reads_or_refuses(hunyuan, WireRequest("/", data))


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"Response": {}}', b'{"Response": {"Choices": [7]}}', b'{"Response": []}']
)
def test_a_body_that_is_no_answer_is_the_vendors_failure(body):
    with pytest.raises(UpstreamFailed):
        hunyuan.decode_response(WireResponse(body))


def sayable(usage: Usage) -> Usage:
    """Return what of a usage this format can say."""
    return Usage(usage.input_tokens, usage.output_tokens, usage.cached_tokens)


usages = strategies.usages().map(sayable) | st.just(Usage(None, None))


@settings(max_examples=60, deadline=None)
@given(strategies.responses(usage=usages, reasoning=True))
def test_a_response_survives_both_ways(response):
    found = hunyuan.decode_response(hunyuan.encode_response(response, REPLY))
    assert replace(found, model=response.model) == response


# ---- streams ---------------------------------------------------------------------------------------------------


def encoded_stream(deltas):
    encoder = hunyuan.stream_encoder(REPLY)
    return b"".join(encoder.encode([delta]) for delta in deltas)


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(reasoning=True), st.lists(st.integers(0, 10**4), max_size=4))
def test_a_stream_survives_both_ways_however_it_is_cut(deltas, cuts):
    raw = encoded_stream(deltas)
    *others, end = deltas
    assert joined(decoded(hunyuan, [raw])) == joined([*others, Finish(end.reason, sayable(end.usage))])
    same_however_cut(hunyuan, raw, cuts)
    assert hunyuan.stream_encoder(REPLY).encode(deltas) == raw


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_end_in_one_terminal(found):
    holds_for_any_bytes(hunyuan, found)


_call = strategies.odd_objects("Index", "Id", Function=strategies.odd_objects("Name", "Arguments"))
_message = strategies.odd_objects("Content", "ReasoningContent", ToolCalls=st.lists(_call, max_size=2))
_choice = strategies.odd_objects("Index", "FinishReason", Delta=_message, Message=_message)
EVENTS = strategies.odd_objects(
    "Usage", "Error", Choices=st.lists(_choice, max_size=2), ErrorMsg=strategies.odd_objects("Msg", "Code")
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=4))
def test_events_of_any_shape_end_in_one_terminal(events):
    holds_for_any_bytes(hunyuan, [b"data:" + json.dumps(event).encode() + b"\n\n" for event in events])
    for event in events:
        body = json.dumps({"Response": event}).encode()
        answers_or_fails(lambda body=body: hunyuan.decode_response(WireResponse(body)))


def test_a_failure_is_said_in_the_stream():
    raw = encoded_stream([TextDelta("Par"), Failure(UpstreamFailed.code, "broken", partial=True)])
    assert decoded(hunyuan, [raw]) == [TextDelta("Par"), Failure(UpstreamFailed.code, "broken", partial=True)]
    late = encoded_stream([Failure(DeadlineExceeded.code, "")])
    assert decoded(hunyuan, [late]) == [Failure("upstream_timeout", DeadlineExceeded.code)]


def test_log_probabilities_cannot_be_said_and_a_keep_alive_means_nothing():
    encoder = hunyuan.stream_encoder(REPLY)
    assert encoder.encode([Logprobs((TokenLogprob("a", -1.0),))]) == b""
    raw = encoder.keep_alive() + encoder.encode([Finish("stop", Usage(1, 1))])
    assert decoded(hunyuan, [raw]) == [Finish("stop", Usage(1, 1))]
    assert encoder.content_type == "text/event-stream"


def test_an_endless_body_ends_the_stream(monkeypatch):
    monkeypatch.setattr("byenatos_sdk.formats.hunyuan.streams.MAX_EVENT", 1000)
    decoder = hunyuan.stream_decoder()
    deltas = [delta for _ in range(20) for delta in decoder.feed(b"{" + b" " * 100)]
    assert [type(delta) for delta in deltas] == [Failure]


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ContextLengthExceeded, Overloaded, Unauthenticated, ContentFiltered])
def test_an_error_of_ours_keeps_its_kind(kind):
    assert type(hunyuan.decode_error(hunyuan.encode_error(kind("too much")))) is kind


# ---- embeddings ------------------------------------------------------------------------------------------------


def test_vectors_are_read_and_written():
    (case,) = [one for one in load("tencent") if one.id == "tencent/embed"]
    found = hunyuan.decode_embedding_response(wire_response(case))
    assert [list(vector) for vector in found.vectors] == case.meaning["embeddings"]
    assert found.usage == Usage(2, 0)
    two = EmbeddingResponse(((1.0, 2.0), (0.5, -1.0)), found.model, Usage(None, 0))
    assert hunyuan.decode_embedding_response(hunyuan.encode_embedding_response(two, REPLY, WireRequest("/"))) == two


def test_a_request_for_embeddings_survives_both_ways():
    wire = hunyuan.encode_embedding_request(EmbeddingRequest(("a", "b"), "hunyuan-embedding"))
    assert wire.headers["x-tc-action"] == "GetEmbedding"
    assert hunyuan.decode_embedding_request(wire) == EmbeddingRequest(("a", "b"), "hunyuan-embedding")
    assert hunyuan.decode_embedding_request(WireRequest("/", b'{"Input": "a"}')).inputs == ("a",)
    with pytest.raises(InvalidRequest, match="InputList: expected at least one"):
        hunyuan.decode_embedding_request(WireRequest("/", b"{}"))


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"Response": {"Error": {"Code": "AuthFailure", "Message": "x"}, "RequestId": "r"}}', 200, Unauthenticated),
        (b"<html>", 502, UpstreamFailed),
        (b"<html>", 200, UpstreamFailed),
        (b'{"Response": {"Data": [{"Embedding": ["x"]}]}}', 200, UpstreamFailed),
        (b'{"Response": {}}', 200, UpstreamFailed),
    ],
)
def test_vectors_that_are_none_are_refused(body, status, error):
    with pytest.raises(error):
        hunyuan.decode_embedding_response(WireResponse(body, status))
