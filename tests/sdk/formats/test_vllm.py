"""What vLLM adds to OpenAI's chats."""

import json

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies
from tests.sdk.formats.chat_dialects import REPLY

from byenatos_sdk.formats import vllm
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.errors import UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Finish,
    InferenceRequest,
    Message,
    ModelSpecification,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenCount,
    Usage,
    assistant,
    user,
)


def sent(request):
    return json.loads(vllm.encode_request(request).wire.body)


def asked(body, path="/v1/chat/completions"):
    return vllm.decode_request(WireRequest(path, json_body(body))).request


@given(strategies.requests(vllm.CAPABILITIES))
@settings(max_examples=50, deadline=None)
def test_what_vllm_can_say_comes_back_as_it_was(request):
    encoded = vllm.encode_request(request)

    assert encoded.losses == ()
    assert vllm.decode_request(encoded.wire).request == request


def test_paths_stand_below_the_server_s_root():
    assert vllm.encode_request(InferenceRequest((user("x"),))).wire.path == "/v1/chat/completions"
    assert vllm.encode_request(InferenceRequest((user("x"),), raw=True)).wire.path == "/v1/completions"
    assert vllm.encode_models_request().path == "/v1/models"


def test_a_partial_answer_is_continued():
    body = sent(InferenceRequest((user("JSON"), assistant("{"))))

    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)


def test_a_stop_sequence_is_named_and_a_stop_token_is_not():
    deltas = [TextDelta("x"), Finish("stop", Usage(1, 1), "m", "stop_sequence", "END")]

    assert laws.decoded(vllm, [vllm.stream_encoder(REPLY).encode(deltas)]) == deltas
    response = cases.response_of({"text": "x", "finish": "stop_sequence", "stop_sequence": "END"})
    assert vllm.decode_response(vllm.encode_response(response, REPLY)).stop_sequence == "END"


def test_reasoning_is_switched_off_by_the_template_and_bounded_by_a_budget():
    def said(options):
        return sent(InferenceRequest((user("x"),), reasoning=options))

    assert said(ReasoningOptions("none"))["chat_template_kwargs"] == {"enable_thinking": False}
    assert said(ReasoningOptions("high"))["reasoning_effort"] == "high"
    assert said(ReasoningOptions(budget=100))["thinking_token_budget"] == 100


def test_arguments_of_the_template_go_along_beside_the_switch():
    found = asked(
        {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": 1, "enable_thinking": False}}
    )

    assert found.extra == {"format": "vllm", "chat_template_kwargs": {"a": 1}}
    assert sent(found)["chat_template_kwargs"] == {"a": 1, "enable_thinking": False}


def test_structured_outputs_by_schema_are_a_response_format():
    body = {"messages": [{"role": "user", "content": "x"}], "structured_outputs": {"json": {"type": "object"}}}

    found = asked(body)

    assert found.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
    assert found.extra == {}


def test_earlier_reasoning_goes_back_as_text():
    request = InferenceRequest((user("x"), Message("assistant", (Reasoning("hm"), Text("y"))), user("z")))

    assert sent(request)["messages"][1] == {"role": "assistant", "content": "y", "reasoning": "hm"}
    assert asked(sent(request)).messages == request.messages


def test_top_k_of_minus_one_is_none():
    assert asked({"messages": [{"role": "user", "content": "x"}], "top_k": -1}).sampling == Sampling()


def test_models_tell_how_long_their_context_is():
    wire = vllm.encode_models([ModelSpecification("org/m", context_length=4096)], 1)

    assert vllm.decode_models(wire)[0][0].context_length == 4096


def test_tokens_are_counted():
    (case,) = [case for case in cases.load("vllm") if case.id == "vllm/tokenize"]
    assert vllm.decode_count(cases.wire_response(case)) == TokenCount(case.meaning["usage"]["input"])
    assert vllm.decode_count(vllm.encode_count(TokenCount(5))) == TokenCount(5)
    for request in (InferenceRequest((user("x"),), model="m"), InferenceRequest((user("x"),), model="m", raw=True)):
        wire = vllm.encode_count_request(request)
        assert wire.path == "/tokenize"
        assert vllm.decode_count_request(wire) == request
    with pytest.raises(UpstreamFailed):
        vllm.decode_count(WireResponse(b"{}"))


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, {"error": {"message": "m", "type": "NotFoundError", "param": None, "code": 404}}, "not_found"),
        (400, {"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "invalid_request"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 9 tokens.", "type": "BadRequestError"}},
            "context_length_exceeded",
        ),
        (200, {"object": "error", "message": "m", "type": "InternalServerError", "code": 500}, "upstream_failed"),
    ],
)
def test_errors_of_old_and_new_servers(status, body, code):
    assert vllm.decode_error(WireResponse(json_body(body), status)).code == code


def test_an_answer_that_the_server_aborted_has_failed():
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]}
    with pytest.raises(UpstreamFailed, match="ended the answer: abort"):
        vllm.decode_response(WireResponse(json_body(body)))

    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "x"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]},
    ]
    *said, end = laws.decoded(vllm, [b"data: " + json_body(chunk) + b"\n\n" for chunk in chunks])

    assert said == [TextDelta("x")]
    assert (end.code, end.partial) == ("upstream_failed", True)


def test_raw_text_with_every_parameter_comes_back():
    request = InferenceRequest(
        (user("Once"),),
        model="m",
        sampling=replace(Sampling(), max_tokens=3, logprobs=2, top_k=5, stop=("x",)),
        extra={"format": "vllm", "ignore_eos": True},
        raw=True,
    )

    assert asked(sent(request), "/v1/completions") == request
