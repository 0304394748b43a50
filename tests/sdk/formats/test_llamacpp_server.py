"""llama.cpp's server: its own completions, its samplers, its counts and its state."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies
from tests.sdk.formats.chat_dialects import REPLY

from byenatos_sdk.formats import llamacpp_server
from byenatos_sdk.formats.llamacpp_server import Slots
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import InvalidRequest, UpstreamFailed, error_codes, error_from_code
from byenatos_sdk.protocol.messages import (
    EmbeddingResponse,
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    ModelSpecification,
    ReasoningOptions,
    Sampling,
    TextDelta,
    TokenCount,
    TokenLogprob,
    Usage,
    assistant,
    user,
)


def asked(body, path="/completion"):
    return llamacpp_server.decode_request(WireRequest(path, json_body(body)))


def sent(request, **more):
    return json.loads(llamacpp_server.encode_request(request, **more).wire.body)


RAW = replace(REPLY, asked=asked({"prompt": "x"}))


@given(strategies.requests(llamacpp_server.CAPABILITIES))
@settings(max_examples=50, deadline=None)
def test_what_the_server_s_chats_can_say_comes_back_as_it_was(request):
    encoded = llamacpp_server.encode_request(request)

    assert encoded.losses == ()
    assert encoded.wire.path == "/v1/chat/completions"
    assert llamacpp_server.decode_request(encoded.wire).request == request


@given(strategies.samplings(llamacpp_server.CAPABILITIES), strategies.texts, st.booleans())
@settings(max_examples=50, deadline=None)
def test_raw_texts_go_to_the_server_s_own_endpoint_and_come_back(sampling, text, stream):
    request = InferenceRequest((user(text),), sampling=replace(sampling, logprobs=sampling.logprobs or None), raw=True)

    encoded = llamacpp_server.encode_request(request, stream=stream)

    assert (encoded.wire.path, encoded.losses) == ("/completion", ())
    decoded = llamacpp_server.decode_request(encoded.wire)
    assert (decoded.request, decoded.stream) == (request, stream)


def test_samplers_without_a_canonical_name_go_through_extra():
    body = {"prompt": "x", "mirostat": 2, "grammar": "root ::= x", "id_slot": 1, "stream": False, "unknown": 1}

    found = asked(body).request

    assert found.extra == {"format": "llamacpp_server", "mirostat": 2, "grammar": "root ::= x", "id_slot": 1}
    assert sent(found) == {key: value for key, value in body.items() if key != "unknown"}


def test_a_schema_is_a_response_format():
    found = asked({"prompt": "x", "json_schema": {"type": "object"}}).request

    assert found.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    assert sent(found)["json_schema"] == {"type": "object"}


def test_unlimited_is_no_limit_and_a_forbidden_token_has_the_lowest_bias():
    found = asked({"prompt": "x", "n_predict": -1, "logit_bias": [[5, False], ["6", 1.5]], "n_probs": 0}).request

    assert found.sampling == Sampling(logit_bias={5: -100.0, 6: 1.5})
    assert asked({"prompt": "x", "logit_bias": {"7": 2}}).request.sampling.logit_bias == {7: 2}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": {"prompt_string": "x", "multimodal_data": []}}, "prompt"),
        ({"prompt": "x", "n_predict": "many"}, "n_predict"),
        ({"prompt": "x", "logit_bias": [["hello", 1]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": 5}, "logit_bias"),
        ({"prompt": "x", "stop": [5]}, "stop"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(body, field):
    with pytest.raises(InvalidRequest) as caught:
        asked(body)

    assert caught.value.message.startswith(field + ":")


def test_openai_s_completions_are_answered_as_openai_would():
    found = asked({"prompt": "x", "max_tokens": 3, "model": "m"}, "/v1/completions")
    response = cases.response_of({"text": "y", "finish": "stop"})

    written = llamacpp_server.encode_response(response, replace(REPLY, asked=found))

    assert (found.request.raw, found.request.sampling.max_tokens) == (True, 3)
    assert json.loads(written.body)["object"] == "text_completion"
    assert b"[DONE]" in llamacpp_server.stream_encoder(replace(REPLY, asked=found)).encode(deltas_of(response))


def test_vectors_come_as_they_were_asked_for():
    response = EmbeddingResponse(((1.0, 2.0), (0.5, 0.0)), "", Usage(None, None))
    for body in ({"content": ["a", "b"]}, {"input": ["a", "b"]}):
        wire = WireRequest("/embedding", json_body(body))
        assert llamacpp_server.decode_embedding_request(wire).inputs == ("a", "b")
        written = llamacpp_server.encode_embedding_response(response, replace(REPLY, model=""), wire)
        assert isinstance(json.loads(written.body), list) == ("content" in body)
        assert llamacpp_server.decode_embedding_response(written) == response


def test_a_text_in_an_object_is_a_text():
    assert asked({"prompt": {"prompt_string": "x"}}).request.messages == (user("x"),)


def test_thinking_is_a_matter_of_the_template():
    for effort, expected in [
        ("none", {"enable_thinking": False}),
        ("medium", {"enable_thinking": True}),
        ("high", {"enable_thinking": True, "reasoning_effort": "high"}),
    ]:
        request = InferenceRequest((user("x"),), reasoning=ReasoningOptions(effort))
        assert sent(request)["chat_template_kwargs"] == expected


def test_a_partial_answer_is_sent_as_it_stands():
    assert sent(InferenceRequest((user("x"), assistant("{"))))["messages"][-1]["content"] == "{"


STREAM = [
    TextDelta("Hel"),
    Logprobs((TokenLogprob("Hel", -0.5, (("Hel", -0.5), ("Yo", -1.5))),)),
    TextDelta("lo"),
    Finish("stop", Usage(10, 5, 4), "m", "stop_sequence", "END"),
]


def test_a_completion_s_stream_comes_back_as_it_was():
    encoder = llamacpp_server.stream_encoder(RAW)
    raw = encoder.encode(STREAM[:2]) + encoder.keep_alive() + encoder.encode(STREAM[2:])

    assert laws.decoded(llamacpp_server, [raw]) == STREAM
    laws.same_however_cut(llamacpp_server, raw, [3, 50, 200])
    assert json.loads(raw.split(b"\n\n")[-2][6:])["stop_type"] == "word"
    assert b"[DONE]" not in raw
    assert encoder.encode([TextDelta("more")]) == b""


@given(strategies.responses(tools=False, logprobs=True, reasons=("stop", "length")))
@settings(max_examples=50, deadline=None)
def test_a_completion_comes_back_as_it_was(response):
    usage = replace_usage(response.usage)
    response = replace(response, usage=usage)
    reply = replace(RAW, model=response.model)

    assert llamacpp_server.decode_response(llamacpp_server.encode_response(response, reply)) == response
    raw = llamacpp_server.stream_encoder(reply).encode(deltas_of(response))
    assert laws.decoded(llamacpp_server, [raw])[-1] == deltas_of(response)[-1]


def replace_usage(usage):
    """Leave out what the server does not count."""
    return Usage(usage.input_tokens, usage.output_tokens, usage.cached_tokens)


def test_a_text_cut_by_the_context_says_so():
    body = {"content": "x", "stop": True, "stop_type": "limit", "truncated": True}

    found = llamacpp_server.decode_response(WireResponse(json_body(body)))

    assert (found.reason, found.detail, found.usage) == ("length", "context_length", Usage(None, None))


def test_flags_of_older_servers_are_understood():
    word = {"content": "x", "stop": True, "stopped_word": True, "stopping_word": "END"}
    limit = {"content": "x", "stop": True, "stopped_limit": True}

    assert llamacpp_server.decode_response(WireResponse(json_body(word))).stop_sequence == "END"
    assert llamacpp_server.decode_response(WireResponse(json_body(limit))).reason == "length"


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"error":{"code":500,"message":"boom","type":"server_error"}}\n\n',
        b'error: {"code":500,"message":"boom","type":"server_error"}\n\n',
    ],
)
def test_errors_of_new_and_old_servers_end_a_stream(raw):
    first = b'data: {"content":"Par","stop":false}\n\n'

    assert laws.decoded(llamacpp_server, [first, raw]) == [
        TextDelta("Par"),
        Failure("upstream_failed", "boom", partial=True),
    ]


@pytest.mark.parametrize("code", error_codes())
def test_errors_are_written_as_the_server_does(code):
    wire = llamacpp_server.encode_error(error_from_code(code, "what happened"))

    body = json.loads(wire.body)["error"]
    assert (body["code"], body["message"]) == (wire.status, "what happened")
    kept = {
        "unauthenticated",
        "permission_denied",
        "not_found",
        "context_length_exceeded",
        "quota_exceeded",
        "overloaded",
        "rate_limited",
    }
    if code in kept:
        assert llamacpp_server.decode_error(wire).code == code


@given(
    st.lists(
        st.sampled_from([b"data: ", b"\n\n", b'{"content":5,"stop":true}', b'{"stop":false}', b"error: x"])
        | st.binary(max_size=6)
    )
)
@settings(max_examples=100, deadline=None)
def test_any_bytes_end_in_one_terminal(pieces):
    laws.holds_for_any_bytes(llamacpp_server, pieces)


def test_tokens_are_counted_with_and_without_a_template():
    chat, raw = InferenceRequest((user("x"),), model="m"), InferenceRequest((user("x"),), raw=True)

    assert llamacpp_server.encode_count_request(chat).path == "/v1/chat/completions/input_tokens"
    assert llamacpp_server.encode_count_request(raw).path == "/tokenize"
    for request in (chat, raw):
        assert llamacpp_server.decode_count_request(llamacpp_server.encode_count_request(request)) == request
    assert llamacpp_server.decode_count(WireResponse(b'{"tokens":[1,2,3]}')) == TokenCount(3)
    assert llamacpp_server.decode_count(llamacpp_server.encode_count(TokenCount(7))) == TokenCount(7)
    with pytest.raises(UpstreamFailed):
        llamacpp_server.decode_count(WireResponse(b"[]"))


def test_the_server_describes_its_model_and_its_slots():
    (props,) = [case for case in cases.load("llamacpp") if case.id == "llamacpp/props"]
    (slots,) = [case for case in cases.load("llamacpp") if case.id == "llamacpp/slots"]

    model = llamacpp_server.decode_props(cases.wire_response(props))
    busy = llamacpp_server.decode_slots(cases.wire_response(slots))

    assert (model.id, model.name, model.metadata) == ("smollm2", "m.gguf", {"slots": "2", "build": "b1"})
    assert model.context_length == props.meaning["context_window"]
    assert model.features == {"continue", "chat_template"}
    assert busy == Slots(slots.meaning["slots"], slots.meaning["busy"])
    assert [llamacpp_server.encode_props_request().path, llamacpp_server.encode_slots_request().path] == [
        "/props",
        "/slots",
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b'"x"', b'{"error":{"message":"m","code":501}}'])
def test_what_is_no_description_is_an_error(body):
    for decode in (llamacpp_server.decode_props, llamacpp_server.decode_slots):
        with pytest.raises((UpstreamFailed, InvalidRequest)):
            decode(WireResponse(body))


specifications = st.builds(
    ModelSpecification,
    strategies.texts.filter(bool),
    context_length=st.integers(0, 1 << 20),
    features=st.frozensets(st.sampled_from(["images", "audio"])),
)


@given(specifications, st.integers(1, 64))
@settings(max_examples=100, deadline=None)
def test_a_model_s_description_comes_back_with_all_that_it_can_say(model, slots):
    found = llamacpp_server.decode_props(llamacpp_server.encode_props(model, slots=slots, build="b1"))
    assert (found.id, found.context_length) == (model.id, model.context_length)
    assert found.features - {"continue"} == model.features
    assert found.metadata == {"slots": str(slots), "build": "b1"}


@given(st.lists(st.tuples(specifications, st.integers(0, 9)), max_size=5))
@settings(max_examples=50, deadline=None)
def test_slots_come_back_as_how_many_there_are_and_how_many_are_busy(slots):
    found = llamacpp_server.decode_slots(llamacpp_server.encode_slots(slots))
    assert found == Slots(len(slots), sum(streams > 0 for _, streams in slots))
