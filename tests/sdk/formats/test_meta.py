"""Meta's Llama API, judged by its own client, and the Model API that took its place."""

import json

import llama_api_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import cases, laws, strategies

from byenatos_sdk.formats import meta
from byenatos_sdk.formats.wire import Reply, WireRequest
from byenatos_sdk.protocol.answer import deltas_of
from byenatos_sdk.protocol.errors import RateLimited, Unsupported
from byenatos_sdk.protocol.messages import (
    Failure,
    InferenceRequest,
    ModelSpecification,
    ReasoningOptions,
    Sampling,
    TextDelta,
    Tool,
    Usage,
    user,
)

REPLY = Reply("c1", "Llama-4", 1763800000)
ANSWERS = [
    case
    for case in cases.load_all("llama_api", "response", "stream")
    if case.meaning.get("finish") and case.id != "llama_api_own/stream-openai"
]


@pytest.fixture(scope="module")
def client(replay_server):
    with llama_api_client.LlamaAPIClient(base_url=replay_server.url + "/v1", api_key="k", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("case", ANSWERS, ids=str)
def test_the_api_s_client_reads_what_is_written(case, client, replay):
    response = cases.response_of(case.meaning)
    replay.answer(meta.encode_response(response, REPLY))
    encoder = meta.stream_encoder(REPLY)
    replay.stream(encoder.encode(deltas_of(response)), encoder.keep_alive())

    answer = client.chat.completions.create(model="m", messages=[])
    chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))

    message = answer.completion_message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    expected = [(part.id, part.name, part.arguments) for part in response.message.parts if hasattr(part, "arguments")]
    assert (message.content.text, message.stop_reason, calls) == (response.text, response.reason, expected)
    total = {one.metric: one.value for one in answer.metrics or ()}.get("num_total_tokens")
    assert total == case.meaning.get("usage", {}).get("total")
    events = [chunk.event for chunk in chunks]
    assert [event.event_type for event in events if event.event_type != "progress"] == (
        ["start", "complete", "metrics"] if case.meaning.get("usage") else ["start", "complete"]
    )
    deltas = [event.delta for event in events]
    assert "".join(delta.text for delta in deltas if delta.type == "text") == response.text
    said = [(one.id, one.function.name, one.function.arguments) for one in deltas if one.type == "tool_call"]
    reasons = [event.stop_reason for event in events if event.stop_reason]
    assert (said, reasons) == (expected, [response.reason])


def test_the_api_s_client_raises_for_errors_before_and_in_a_stream(client, replay):
    encoder = meta.stream_encoder(REPLY)
    replay.answer(meta.encode_error(RateLimited("slow", retry_after_s=2)))
    replay.stream(encoder.encode([TextDelta("Par"), Failure("upstream_failed", "boom", partial=True)]))

    with pytest.raises(llama_api_client.RateLimitError) as caught:
        client.chat.completions.create(model="m", messages=[])
    assert caught.value.body == {"title": "Too Many Requests", "detail": "slow", "status": 429}
    assert caught.value.response.headers["retry-after"] == "2"
    chunks = client.chat.completions.create(model="m", messages=[], stream=True)
    with pytest.raises(llama_api_client.APIError, match="boom"):
        list(chunks)
    assert encoder.encode([TextDelta("more")]) == b""


def test_the_api_s_client_lists_the_models(client, replay):
    (case,) = [case for case in cases.load("llama_api") if case.id.endswith("models")]
    assert [model.id for model in meta.decode_models(cases.wire_response(case))[0]] == case.meaning["models"]
    replay.answer(meta.encode_models([ModelSpecification("Llama-4", driver="Meta")], 5))

    assert [(one.id, one.created, one.owned_by) for one in client.models.list()] == [("Llama-4", 5, "Meta")]


def test_calls_without_an_index_are_told_apart_by_their_ids():
    def event(**delta):
        body = {"id": "c1", "event": {"event_type": "progress", "delta": {"type": "tool_call"} | delta}}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    raw = [
        event(id="a", function={"name": "f"}),
        event(function={"arguments": '{"x":'}),
        event(function={"arguments": "1}"}),
        event(id="b", function={"name": "g", "arguments": ""}),
        b'data: {"event":{"event_type":"complete","delta":{"type":"text","text":""},"stop_reason":"tool_calls"}}\n\n',
    ]

    found = laws.decoded(meta, raw)

    assert [(one.id, one.name, one.arguments) for one in found[:2]] == [("a", "f", '{"x":1}'), ("b", "g", "{}")]
    assert (found[2].reason, found[2].usage) == ("tool_calls", Usage(None, None))


@given(strategies.requests(meta.CAPABILITIES))
@settings(max_examples=50, deadline=None)
def test_what_the_api_can_say_comes_back_as_it_was(request):
    encoded = meta.encode_request(request, stream=True)

    assert encoded.losses == ()
    assert b"stream_options" not in encoded.wire.body
    assert meta.decode_request(encoded.wire).request == request


@given(strategies.responses(usage=strategies.usages(details=False), reasons=("stop", "length")))
@settings(max_examples=50, deadline=None)
def test_an_answer_comes_back_as_it_was(response):
    response = replace(response, model="")

    assert meta.decode_response(meta.encode_response(response, REPLY)) == response
    assert laws.decoded(meta, [meta.stream_encoder(REPLY).encode(deltas_of(response))]) == deltas_of(response)


@given(
    st.lists(st.sampled_from([b"data: ", b"\n\n", b'{"event":{"delta":5}}', b'{"event":{}}']) | st.binary(max_size=6))
)
@settings(max_examples=100, deadline=None)
def test_any_bytes_end_in_one_terminal(pieces):
    laws.holds_for_any_bytes(meta, pieces)


def test_the_model_api_adapts_what_it_cannot_say():
    request = InferenceRequest(
        (user("x"),),
        sampling=Sampling(stop=("END",)),
        tools=(Tool("f"), Tool("g")),
        tool_choice="f",
        reasoning=ReasoningOptions("none"),
    )

    encoded = meta.model_api.encode_request(request)

    body = json.loads(encoded.wire.body)
    assert (encoded.stops, body["reasoning_effort"]) == (("END",), "minimal")
    assert "stop" not in body
    assert "tool_choice" not in body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]
    assert [loss.parameter for loss in encoded.losses] == ["tool_choice", "reasoning.effort", "stop"]
    with pytest.raises(Unsupported):
        meta.model_api.encode_request(request, strict=True)


def test_the_model_api_speaks_openai_s_chats(replay):
    wire = meta.model_api.encode_request(InferenceRequest((user("x"),), model="m")).wire

    assert meta.model_api.decode_request(WireRequest("/v1/chat/completions", wire.body)).request.model == "m"
    response = cases.response_of({"text": "Hello", "finish": "stop", "usage": {"input": 1, "output": 1}})
    assert meta.model_api.decode_response(meta.model_api.encode_response(response, REPLY)).text == "Hello"
