"""Dialects of vendors that speak OpenAI's chats with small changes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sdk.formats import laws, strategies
from tests.sdk.formats.chat_dialects import chunk

from byenatos_sdk.formats import openai_compatible
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat
from byenatos_sdk.formats.openai_compatible import DIALECTS
from byenatos_sdk.formats.wire import WireResponse, json_body
from byenatos_sdk.protocol.errors import Overloaded, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Finish,
    InferenceRequest,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    Usage,
    assistant,
    user,
)


def sent(name, **fields):
    return json.loads(DIALECTS[name].encode_request(InferenceRequest((user("x"),), **fields)).wire.body)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_a_format_of_its_own(name):
    dialect = DIALECTS[name]

    assert isinstance(dialect, Format)
    assert isinstance(dialect, EmbeddingFormat)
    assert isinstance(dialect, ModelListFormat)
    assert dialect.CAPABILITIES.format == dialect.NAME
    assert dialect.CAPABILITIES.parameters["max_tokens"].wire == "max_tokens"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_a_dialect_can_say_comes_back_as_it_was(data):
    dialect = DIALECTS[data.draw(st.sampled_from(sorted(DIALECTS)))]
    request = data.draw(strategies.requests(dialect.CAPABILITIES))

    encoded = dialect.encode_request(request)

    assert encoded.losses == ()
    assert dialect.decode_request(encoded.wire).request == request


@pytest.mark.parametrize("name", ["deepseek", "zhipu", "moonshot", "ark"])
def test_thinking_is_a_switch(name):
    assert sent(name, reasoning=ReasoningOptions("none"))["thinking"] == {"type": "disabled"}
    assert sent(name, reasoning=ReasoningOptions("high"))["thinking"] == {"type": "enabled"}


def test_openrouter_takes_efforts_and_budgets_and_shows_its_reasoning():
    assert sent("openrouter", reasoning=ReasoningOptions("high"))["reasoning"] == {"effort": "high"}
    assert sent("openrouter", reasoning=ReasoningOptions(budget=2000))["reasoning"] == {"max_tokens": 2000}
    assert sent("openrouter", reasoning=ReasoningOptions("none"))["reasoning"] == {"enabled": False}
    raw = [
        b": OPENROUTER PROCESSING\n\n",
        chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
        chunk({"content": "42"}),
        chunk(finish="stop", native_finish_reason="STOP"),
    ]

    assert laws.decoded(openai_compatible.openrouter, raw) == [
        ReasoningDelta("hm"),
        TextDelta("42"),
        Finish("stop", Usage(None, None)),
    ]


def test_openrouter_s_failing_providers_are_failures():
    broken = {"error": {"code": 502, "message": "Provider disconnected"}}
    raw = b"data: " + json_body(
        broken | {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}
    )

    *_, last = laws.decoded(openai_compatible.openrouter, [chunk({"content": "Par"}), raw + b"\n\n"])

    assert (last.code, last.message, last.partial) == ("upstream_failed", "Provider disconnected", True)


def test_deepseek_counts_what_its_cache_held_and_fails_when_it_is_short_of_machines():
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6}
    body = {
        "choices": [{"message": {"content": "x", "reasoning_content": "hm"}, "finish_reason": "stop"}],
        "usage": usage,
    }

    found = openai_compatible.deepseek.decode_response(WireResponse(json_body(body)))

    assert found.usage == Usage(10, 5, 4)
    assert found.message.parts == (Reasoning("hm"), Text("x"))
    body["choices"][0]["finish_reason"] = "insufficient_system_resource"
    with pytest.raises(Overloaded):
        openai_compatible.deepseek.decode_response(WireResponse(json_body(body)))
    raw = [chunk({"content": "x"}), chunk(finish="insufficient_system_resource")]
    assert laws.decoded(openai_compatible.deepseek, raw)[-1].code == "overloaded"


def test_reasoning_of_earlier_turns_goes_back_only_where_it_must():
    messages = (user("x"), Message("assistant", (Reasoning("hm"), Text("y"))), user("z"))

    def said(name):
        body = DIALECTS[name].encode_request(InferenceRequest(messages)).wire.body
        return json.loads(body)["messages"][1]

    assert said("deepseek") == {"role": "assistant", "content": "y"}
    assert said("moonshot") == {"role": "assistant", "content": "y", "reasoning_content": "hm"}
    assert said("openrouter") == {"role": "assistant", "content": "y", "reasoning": "hm"}


def test_moonshot_continues_a_message_that_is_marked_and_counts_in_the_choice():
    request = InferenceRequest((user("JSON"), assistant("{")))
    body = json.loads(openai_compatible.moonshot.encode_request(request).wire.body)
    raw = [chunk({"content": "x"}), chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 1})]

    assert body["messages"][-1] == {"role": "assistant", "content": "{", "partial": True}
    assert laws.decoded(openai_compatible.moonshot, raw)[-1] == Finish("stop", Usage(3, 1))


def test_limits_of_zhipu_are_kept():
    encoded = openai_compatible.zhipu.encode_request(
        InferenceRequest((user("x"),), sampling=Sampling(temperature=1.5, stop=("a", "b"), seed=5))
    )

    body = json.loads(encoded.wire.body)
    assert (body["temperature"], body["stop"], encoded.stops) == (1, ["a"], ("b",))
    assert [loss.parameter for loss in encoded.losses] == ["temperature", "stop", "seed"]


def test_ends_of_zhipu():
    def ended(word):
        body = {"choices": [{"message": {"content": "x"}, "finish_reason": word}]}
        found = openai_compatible.zhipu.decode_response(WireResponse(json_body(body)))
        return found.reason, found.detail

    assert ended("sensitive") == ("content_filter", "")
    assert ended("model_context_window_exceeded") == ("length", "context_length")
    with pytest.raises(UpstreamFailed):
        ended("network_error")


@pytest.mark.parametrize(
    ("name", "status", "error", "code"),
    [
        ("deepseek", 402, {"message": "Insufficient Balance", "code": "invalid_request_error"}, "quota_exceeded"),
        ("openrouter", 403, {"message": "flagged", "code": 403}, "content_filtered"),
        ("openrouter", 429, {"message": "slow", "code": 429}, "rate_limited"),
        ("zhipu", 429, {"code": "1302", "message": "m"}, "rate_limited"),
        ("zhipu", 429, {"code": "1113", "message": "m"}, "quota_exceeded"),
        ("zhipu", 400, {"code": "1301", "message": "m"}, "content_filtered"),
        ("zhipu", 400, {"code": "1261", "message": "m"}, "context_length_exceeded"),
        ("zhipu", 401, {"code": "1002", "message": "m"}, "unauthenticated"),
        ("moonshot", 429, {"type": "engine_overloaded_error", "message": "m"}, "overloaded"),
        ("moonshot", 429, {"type": "exceeded_current_quota_error", "message": "m"}, "quota_exceeded"),
        ("moonshot", 400, {"type": "content_filter", "message": "high risk"}, "content_filtered"),
        (
            "moonshot",
            400,
            {"type": "invalid_request_error", "message": "Your request exceeded model token limit: 262144"},
            "context_length_exceeded",
        ),
        ("ark", 403, {"code": "AccountOverdueError", "type": "Forbidden", "message": "m"}, "quota_exceeded"),
        ("ark", 429, {"code": "RateLimitExceeded.EndpointRPMExceeded", "message": "m"}, "rate_limited"),
        ("ark", 429, {"code": "ServerOverloaded", "message": "m"}, "overloaded"),
        ("ark", 404, {"code": "ModelNotOpen", "message": "m"}, "permission_denied"),
        ("ark", 404, {"code": "InvalidEndpointOrModel.NotFound", "message": "m"}, "not_found"),
        ("ark", 400, {"code": "InputTextSensitiveContentDetected", "message": "m"}, "content_filtered"),
        ("generic", 500, {"message": "m"}, "upstream_failed"),
    ],
)
def test_every_dialect_s_errors_are_classed(name, status, error, code):
    found = DIALECTS[name].decode_error(WireResponse(json_body({"error": error}), status))

    assert found.code == code


def test_a_wrapped_error_is_found():
    body = {"detail": {"error": {"message": "m", "code": "model_not_found"}}}

    assert openai_compatible.generic.decode_error(WireResponse(json_body(body), 404)).code == "not_found"


def test_a_server_that_does_not_stream_is_understood():
    body = json_body({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "model": "m"})

    assert laws.decoded(openai_compatible.generic, [b" \n", body[:5], body[5:]]) == [
        TextDelta("Hi"),
        Finish("stop", Usage(None, None), "m"),
    ]
    assert laws.decoded(openai_compatible.generic, [b'{"error":{"code":429}}'])[-1].code == "rate_limited"
    assert laws.decoded(openai_compatible.generic, [body[:20]])[-1].code == "upstream_failed"
