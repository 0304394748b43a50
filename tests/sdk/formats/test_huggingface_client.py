"""Hugging Face's own client reads what is written here, and what it sends is read as it was meant."""

import json

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import OverloadedError, UnknownError, ValidationError
from msgspec.structs import replace
from tests.sdk.formats.cases import load, pieces, response_of

from byenatos_sdk.formats import huggingface_tgi as tgi
from byenatos_sdk.formats.wire import Reply, WireRequest, json_body
from byenatos_sdk.protocol.errors import ContextLengthExceeded
from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    Logprobs,
    Sampling,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCallDelta,
    Usage,
    user,
)

NOW = 1763800000
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


@pytest.fixture
def client(replay):
    with InferenceClient(replay.url, token="hf_test") as made:
        yield made


def reply_to(replay):
    asked = tgi.decode_request(replay.requests[-1])
    return Reply("r1", asked.request.model, NOW, asked)


def test_what_the_client_sends_to_continue_a_text_is_read_as_it_was_meant(client, replay):
    replay.answer(tgi.encode_response(response_of({"text": "upon", "finish": "stop"}), Reply("r1", "m", NOW)))
    with pytest.raises(Exception, match="generated_text"):
        client.text_generation("Once")
    replay.answer(tgi.encode_response(response_of({"text": "upon", "finish": "stop"}), reply_to(replay)))
    found = client.text_generation(
        "Once", max_new_tokens=5, temperature=0.5, top_p=0.9, top_k=10, seed=7, stop=["END"], repetition_penalty=1.1,
        frequency_penalty=0.5, do_sample=True, grammar={"type": "regex", "value": r"\d+"},
    )  # fmt: skip
    assert found == "upon"
    decoded = tgi.decode_request(replay.requests[-1])
    assert decoded.request.messages == (user("Once"),)
    assert decoded.request.raw
    assert not decoded.stream
    assert decoded.request.sampling == Sampling(
        temperature=0.5, top_p=0.9, top_k=10, max_tokens=5, stop=("END",), seed=7, frequency_penalty=0.5,
        repetition_penalty=1.1,
    )  # fmt: skip
    assert decoded.request.extra["do_sample"] is True
    assert decoded.request.extra["grammar"] == {"type": "regex", "value": r"\d+"}


def test_the_client_reads_an_answer_with_details(client, replay):
    tokens = (TokenLogprob("up", -0.5, (("up", -0.5),)), TokenLogprob("on", -0.25, (("on", -0.25),)))
    response = response_of({"text": "upon", "finish": "length", "usage": {"output": 2}})
    replay.answer(tgi.encode_response(response, asked_for_details()))
    found = client.text_generation("Once", details=True)
    assert (found.generated_text, found.details.finish_reason, found.details.generated_tokens) == ("upon", "length", 2)
    replay.answer(tgi.encode_response(replace(response, logprobs=tokens), asked_for_details()))
    found = client.text_generation("Once", details=True, top_n_tokens=1)
    assert [one.text for one in found.details.tokens] == ["up", "on"]
    assert found.details.top_tokens[0][0]["logprob"] == -0.5


def asked_for_details():
    wire = WireRequest("/", json_body({"inputs": "Once", "parameters": {"details": True}}))
    return Reply("r1", "m", NOW, tgi.decode_request(wire))


def test_the_client_reads_a_stream_of_a_text(client, replay):
    deltas = [TextDelta("up\u2028"), TextDelta("on\x85"), Finish("length", Usage(10, 3))]
    encoder = tgi.stream_encoder(asked_for_details())
    replay.stream(*(encoder.encode([delta]) for delta in deltas), content_type=encoder.content_type)
    events = list(client.text_generation("Once", details=True, stream=True))
    assert tgi.decode_request(replay.requests[-1]).stream
    assert [event.token.text for event in events if not event.token.special] == ["up\u2028", "on\x85"]
    assert events[-1].generated_text == "up\u2028on\x85"
    details = events[-1].details
    assert (details.finish_reason, details.generated_tokens, details.input_length) == ("length", 3, 10)
    encoder = tgi.stream_encoder(asked_for_details())
    replay.stream(*(encoder.encode([delta]) for delta in deltas), content_type=encoder.content_type)
    assert "".join(client.text_generation("Once", stream=True)) == "up\u2028on\x85"


def test_the_client_raises_errors_by_their_type(client, replay):
    replay.answer(tgi.encode_error(ContextLengthExceeded("too much")))
    with pytest.raises(ValidationError, match="too much"):
        client.text_generation("Once")
    failure = Failure("overloaded", "full", partial=True)
    raw = tgi.stream_encoder(asked_for_details()).encode([TextDelta("Par"), failure])
    replay.stream(raw)
    with pytest.raises(OverloadedError, match="full"):
        list(client.text_generation("Once", stream=True))
    replay.stream(tgi.stream_encoder(Reply("r1", "m", NOW)).encode([TextDelta("Par"), failure]))
    with pytest.raises(OverloadedError, match="full"):
        list(client.chat_completion([{"role": "user", "content": "x"}], stream=True))
    replay.stream(tgi.stream_encoder(Reply("r1", "m", NOW)).encode([Failure("upstream_timeout", "late")]))
    with pytest.raises(Exception, match="late") as caught:
        list(client.chat_completion([{"role": "user", "content": "x"}], stream=True))
    assert not isinstance(caught.value, UnknownError)


def test_what_the_client_sends_as_a_conversation_is_read_as_it_was_meant(client, replay):
    replay.answer(tgi.encode_response(response_of({"text": "Hi", "finish": "stop"}), Reply("r1", "m", NOW)))
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    client.chat_completion(
        [{"role": "user", "content": "x"}], tools=[TOOL], tool_choice="f", max_tokens=9, seed=7, stop=["END"],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
    )  # fmt: skip
    decoded = tgi.decode_request(replay.requests[-1])
    assert decoded.request.messages == (user("x"),)
    assert decoded.request.tools == (Tool("f", "d", {"type": "object"}),)
    assert decoded.request.tool_choice == "f"
    assert decoded.request.sampling == Sampling(max_tokens=9, seed=7, stop=("END",))
    assert decoded.request.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }


@pytest.mark.parametrize(
    "case",
    [one for one in load("huggingface", "response", "stream") if one.meaning.get("finish")],
    ids=str,
)
def test_the_client_reads_what_is_written_for_each_meaning(case, client, replay):
    replay.answer(tgi.encode_response(response_of(case.meaning), Reply("r1", "m", NOW)))
    found = client.chat_completion([{"role": "user", "content": "x"}])
    message = found.choices[0].message
    assert (message.content or "") == case.meaning["text"]
    assert found.choices[0].finish_reason == case.meaning["finish"]
    calls = [(one.id, one.function.name, json.loads(one.function.arguments)) for one in message.tool_calls or ()]
    assert calls == [(one["id"], one["name"], one["arguments"]) for one in case.meaning.get("tool_calls", [])]
    assert (found.created, found.model) == (NOW, "m")


def test_the_client_reads_a_stream_of_a_conversation(client, replay):
    deltas = [
        TextDelta("Hel\u2028"),
        TextDelta("lo"),
        Logprobs((TokenLogprob("lo", -0.5),)),
        ToolCallDelta("c1", "f", '{"a":1}'),
        Finish("tool_calls", Usage(10, 5)),
    ]
    encoder = tgi.stream_encoder(Reply("r1", "m", NOW))
    replay.stream(*(encoder.encode([delta]) for delta in deltas), content_type=encoder.content_type)
    chunks = list(client.chat_completion([{"role": "user", "content": "x"}], stream=True))
    parts = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(part.content or "" for part in parts) == "Hel\u2028lo"
    calls = [call for part in parts for call in part.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [("f", '{"a":1}')]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].usage.completion_tokens == 5


@pytest.mark.parametrize("case", [one for one in load("huggingface", "stream") if one.meaning.get("finish")], ids=str)
def test_the_client_and_the_decoder_agree_on_what_the_server_says(case, client, replay):
    replay.stream(*pieces(case))
    if "chat" in case.id:
        chunks = list(client.chat_completion([{"role": "user", "content": "x"}], stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        events = client.text_generation("x", stream=True, details=True)
        text = "".join(event.token.text for event in events if not event.token.special)
    assert text == case.meaning["text"]
