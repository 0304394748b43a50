"""What Qianfan adds to OpenAI's chats, and its first version."""

import json

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies
from tests.sdk.formats.chat_dialects import REPLY

from byenatos_sdk.formats import qianfan
from byenatos_sdk.formats.wire import WireRequest, WireResponse, json_body
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Message,
    ReasoningOptions,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    assistant,
    system,
    user,
)

OLD = "/rpc/2.0/ai_custom/v1/wenxinworkshop/chat/completions_pro?access_token=t"


def sent(request):
    return json.loads(qianfan.encode_request(request).wire.body)


def old(body, path=OLD):
    return qianfan.decode_request(WireRequest(path, json_body(body)))


def event(**body):
    return b"data: " + json_body(body) + b"\n\n"


@given(strategies.requests(qianfan.CAPABILITIES))
@settings(max_examples=50, deadline=None)
def test_what_qianfan_can_say_comes_back_as_it_was(request):
    encoded = qianfan.encode_request(request)

    assert encoded.losses == ()
    assert qianfan.decode_request(encoded.wire).request == request


def test_penalties_and_thinking_have_their_own_names():
    request = InferenceRequest(
        (user("x"),),
        sampling=Sampling(repetition_penalty=1.5, top_k=5, stop=("x" * 21, "y")),
        reasoning=ReasoningOptions(budget=100),
    )

    encoded = qianfan.encode_request(request)

    body = json.loads(encoded.wire.body)
    assert (body["penalty_score"], body["enable_thinking"], body["thinking_budget"]) == (1.5, True, 100)
    assert (body["stop"], encoded.stops) == (["y"], ("x" * 21,))
    assert [loss.parameter for loss in encoded.losses] == ["top_k", "stop"]
    assert sent(replace(request, reasoning=ReasoningOptions("none")))["enable_thinking"] is False


def test_instructions_lead_and_turns_alternate():
    request = InferenceRequest((user("a"), system("b"), user("c"), user("d"), assistant("e"), user("f")))

    messages = sent(request)["messages"]

    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, {"code": "tokens_too_long", "type": "invalid_request_error"}, "context_length_exceeded"),
        (400, {"code": "invalid_model", "type": "invalid_request_error"}, "invalid_request"),
        (401, {"code": "access_denied", "type": "invalid_request_error"}, "permission_denied"),
        (401, {"code": "other", "type": "invalid_request_error"}, "unauthenticated"),
        (429, {"code": "tpm_rate_limit_exceeded", "type": "rate_limit_exceeded"}, "rate_limited"),
        (500, {"code": "internal_error", "type": "internal_error"}, "upstream_failed"),
    ],
)
def test_codes_of_errors(status, error, code):
    wire = WireResponse(json_body({"error": error | {"message": "m"}, "id": "as-1"}), status)

    assert qianfan.decode_error(wire).code == code


# ---- version 1 -------------------------------------------------------------------------------------------------


def test_a_request_of_version_1_is_read():
    found = old(
        {
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": "Paris?"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "22C"},
            ],
            "functions": [{"name": "f", "description": "d", "parameters": {"type": "object"}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "max_output_tokens": 64,
            "penalty_score": 1.1,
            "user_id": "u",
            "response_format": "json_object",
            "stream": True,
        }
    )

    request = found.request
    assert (found.stream, found.usage_in_stream, request.model) == (True, True, "completions_pro")
    assert request.messages[0] == system("Be brief.")
    assert request.messages[2] == Message("assistant", (ToolCall("call_0_f", "f", "{}"),))
    assert request.sampling == Sampling(max_tokens=64, repetition_penalty=1.1)
    assert (request.tools, request.tool_choice) == ((Tool("f", "d", {"type": "object"}),), "f")
    assert (request.metadata, request.response_format) == ({"end_user": "u"}, {"type": "json_object"})
    assert sent(request)["messages"][0]["role"] == "system"
    with pytest.raises(InvalidRequest, match="messages"):
        old({"system": None})


def test_a_client_of_version_1_gets_answers_of_version_1():
    reply = replace(REPLY, asked=old({"messages": [{"role": "user", "content": "x"}]}))
    deltas = [TextDelta("Hel"), TextDelta("lo"), ToolCallDelta("a", "f", "{}"), Finish("tool_calls", Usage(2, 1))]
    response = cases.response_of({"text": "Hello", "finish": "length", "usage": {"input": 2, "output": 1}})

    written = qianfan.encode_response(response, reply)
    encoder = qianfan.stream_encoder(reply)
    raw = encoder.encode(deltas) + encoder.keep_alive()

    body = json.loads(written.body)
    assert (body["result"], body["finish_reason"], body["is_truncated"]) == ("Hello", "length", True)
    assert replace(qianfan.decode_response(written), model="") == response
    assert [json.loads(part[6:])["is_end"] for part in raw.split(b"\n\n") if part] == [False, False, True]
    assert laws.decoded(qianfan, [raw]) == [*deltas[:2], ToolCallDelta("call_0_f", "f", "{}"), deltas[3]]
    failing = qianfan.stream_encoder(reply).encode([Failure("rate_limited", "slow")])
    assert json.loads(failing[6:]) == {"error_code": 4, "error_msg": "slow"}
    assert laws.decoded(qianfan, [failing])[-1].code == "rate_limited"


def test_answers_of_version_1_are_read():
    body = {"id": "as", "result": "Hi", "is_truncated": False, "need_clear_history": False, "finish_reason": "normal"}

    found = qianfan.decode_response(
        WireResponse(json_body(body | {"usage": {"prompt_tokens": 2, "completion_tokens": 1}}))
    )

    assert (found.text, found.reason, found.usage) == ("Hi", "stop", Usage(2, 1))
    called = {"result": "", "finish_reason": "function_call", "function_call": {"name": "f", "arguments": "{}"}}
    assert qianfan.decode_response(WireResponse(json_body(called))).message.parts == (ToolCall("call_0_f", "f", "{}"),)
    assert qianfan.decode_response(WireResponse(b'{"result":"x","is_truncated":true}')).reason == "length"


def test_streams_of_version_1_are_read():
    raw = [
        event(id="as", sentence_id=0, is_end=False, result="Hel"),
        event(id="as", sentence_id=1, is_end=True, result="lo", usage={"prompt_tokens": 2, "completion_tokens": 1}),
    ]

    assert laws.decoded(qianfan, raw) == [TextDelta("Hel"), TextDelta("lo"), Finish("stop", Usage(2, 1))]
    assert laws.decoded(qianfan, raw[:1])[-1].code == "stream_interrupted"


@pytest.mark.parametrize(
    ("code", "expected", "retryable"),
    [
        (2, "overloaded", True),
        (6, "permission_denied", False),
        (17, "quota_exceeded", False),
        (18, "rate_limited", True),
        (110, "unauthenticated", False),
        (336003, "invalid_request", False),
        (336007, "context_length_exceeded", False),
        (336100, "overloaded", True),
        (336501, "rate_limited", True),
        (999999, "upstream_failed", True),
    ],
)
def test_errors_of_version_1_come_in_good_answers_and_in_streams(code, expected, retryable):
    body = json_body({"error_code": code, "error_msg": "what happened", "id": "as-1"})

    error = qianfan.decode_error(WireResponse(body))

    assert (error.code, error.retryable, error.vendor_code, error.vendor_status) == (
        expected,
        retryable,
        str(code),
        200,
    )
    with pytest.raises(type(error), match="what happened"):
        qianfan.decode_response(WireResponse(body))
    for raw in (b"data: " + body + b"\n\n", body):
        assert laws.decoded(qianfan, [raw])[-1] == Failure(expected, "what happened")
