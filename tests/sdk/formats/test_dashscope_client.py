"""DashScope's own client reads what is written here, and what it sends is read as it was meant."""

from http import HTTPStatus

import dashscope as client_library
import pytest
from tests.sdk.formats.cases import load, pieces, response_of

from byenatos_sdk.formats import dashscope
from byenatos_sdk.formats.wire import Reply, WireRequest, json_body
from byenatos_sdk.protocol.errors import RateLimited
from byenatos_sdk.protocol.messages import (
    EmbeddingResponse,
    Failure,
    Finish,
    Image,
    InferenceResponse,
    Message,
    Reasoning,
    ReasoningDelta,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    system,
    user,
)

ANSWER = InferenceResponse(
    Message("assistant", (Reasoning("hm"), Text("Hello"), ToolCall("call_a", "f", '{"a":1}'))),
    "tool_calls",
    Usage(10, 5, 4, 0, 2),
    "",
)
DELTAS = [
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    TextDelta("Hel\u2028"),
    TextDelta("lo"),
    ToolCallDelta("call_a", "f", '{"a":1}'),
    Finish("tool_calls", Usage(10, 5, 4, 0, 2)),
]
MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]


@pytest.fixture
def call(replay, monkeypatch):
    monkeypatch.setattr(client_library, "base_http_api_url", replay.url + "/api/v1")

    def call(kind=client_library.Generation, model="qwen-plus", messages=MESSAGES, **parameters):
        return kind.call(model=model, messages=messages, api_key="sk-test", **parameters)

    return call


def reply_to(replay, request=None):
    asked = dashscope.decode_request(request or replay.requests[-1])
    return Reply("r1", asked.request.model, 1763800000, asked)


def test_what_the_client_sends_is_read_as_it_was_meant(call, replay):
    replay.answer(dashscope.encode_response(ANSWER, Reply("r1", "m", 0)))
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
    found = call(
        tools=tools, tool_choice={"type": "function", "function": {"name": "f"}}, temperature=0.5, stop=["END"],
        result_format="message", max_tokens=9, enable_thinking=True, thinking_budget=100, enable_search=True,
    )  # fmt: skip
    request = reply_to(replay).asked.request
    assert request.messages == (system("s"), user("x"))
    assert request.tools == (Tool("f", "d", {"type": "object"}),)
    assert request.tool_choice == "f"
    assert request.sampling == Sampling(temperature=0.5, max_tokens=9, stop=("END",))
    assert request.reasoning.budget == 100
    assert request.extra == {"format": "dashscope", "enable_search": True, "result_format": "message"}
    assert not reply_to(replay).asked.stream
    assert found.status_code == HTTPStatus.OK
    message = found.output.choices[0].message
    assert (message.content, message.reasoning_content) == ("Hello", "hm")
    assert message.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert found.output.choices[0].finish_reason == "tool_calls"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (10, 5)


def test_the_client_reads_a_text_alone(call, replay):
    replay.answer(dashscope.encode_response(ANSWER, Reply("r1", "m", 0)))
    call(result_format="text")
    replay.answer(dashscope.encode_response(ANSWER, reply_to(replay)))
    assert call(result_format="text").output.text == "Hello"


def streamed(replay, deltas, **parameters):
    encoder = dashscope.stream_encoder(reply_with(**parameters))
    replay.stream(*(encoder.encode([delta]) for delta in deltas), content_type=encoder.content_type)


def reply_with(**parameters):
    body = {"model": "m", "input": {"messages": MESSAGES}, "parameters": parameters}
    return reply_to(None, WireRequest("/api/v1/services/aigc/text-generation/generation", json_body(body)))


def test_the_client_reads_a_stream_of_pieces(call, replay):
    streamed(replay, DELTAS, incremental_output=True)
    events = list(call(stream=True, incremental_output=True, result_format="message"))
    assert reply_to(replay).asked.stream
    assert reply_to(replay).asked.request.extra["incremental_output"] is True
    messages = [event.output.choices[0].message for event in events]
    assert "".join(message.content for message in messages) == "Hel\u2028lo"
    assert "".join(message.get("reasoning_content", "") for message in messages) == "hm"
    calls = [one for message in messages for one in message.get("tool_calls", [])]
    assert [one["function"]["arguments"] for one in calls] == ['{"a":1}']
    assert [event.output.choices[0].finish_reason for event in events] == ["null"] * 5 + ["tool_calls"]
    assert events[-1].usage.output_tokens == 5


def test_the_client_reads_a_stream_that_grows(call, replay):
    streamed(replay, DELTAS, incremental_output=False)
    events = list(call(model="qwen-omni-x", stream=True, result_format="message"))
    last = events[-1].output.choices[0].message
    assert (last.content, last.reasoning_content) == ("Hel\u2028lo", "hm")
    assert last.tool_calls[0]["id"] == "call_a"
    assert [event.output.choices[0].message.content for event in events][2] == "Hel\u2028"


def test_the_client_puts_pieces_together_that_it_asked_for_itself(call, replay):
    streamed(replay, DELTAS, incremental_output=True)
    events = list(call(stream=True, incremental_output=False, result_format="message"))
    assert reply_to(replay).asked.request.extra["incremental_output"] is True
    assert events[-1].output.choices[0].message.content == "Hel\u2028lo"


def test_the_client_hears_of_errors_before_and_in_a_stream(call, replay):
    error = RateLimited("too fast", retry_after_s=2)
    replay.answer(dashscope.encode_error(error))
    found = call()
    assert (found.status_code, found.code, found.message) == (429, "Throttling.RateQuota", "too fast")
    failure = Failure(error.code, error.message, partial=True)
    streamed(replay, [TextDelta("Par"), failure], incremental_output=True)
    events = list(call(stream=True, incremental_output=True))
    assert events[0].output.choices[0].message.content == "Par"
    assert (events[-1].status_code, events[-1].code, events[-1].message) == (429, "Throttling.RateQuota", "too fast")


def test_the_client_sees_and_is_seen_with_pictures(call, replay):
    kind = client_library.MultiModalConversation
    messages = [{"role": "user", "content": [{"image": "https://example.com/a.png"}, {"text": "What?"}]}]
    replay.answer(dashscope.encode_response(ANSWER, Reply("r1", "m", 0)))
    call(kind, "qwen-vl-plus", messages)
    reply = reply_to(replay)
    assert reply.asked.request.messages == (Message("user", (Image(url="https://example.com/a.png"), Text("What?"))),)
    replay.answer(dashscope.encode_response(ANSWER, reply))
    assert call(kind, "qwen-vl-plus", messages).output.choices[0].message.content == [{"text": "Hello"}]


def test_the_client_embeds(replay, call):
    vectors = EmbeddingResponse(((0.5, -1.0), (1.0, 0.0)), usage=Usage(4, 0))
    replay.answer(dashscope.encode_embedding_response(vectors, Reply("r1", "m", 0), None))
    found = client_library.TextEmbedding.call(
        model="text-embedding-v4", input=["a", "b"], dimension=64, text_type="query", api_key="sk-test"
    )
    assert [one["embedding"] for one in found.output["embeddings"]] == [[0.5, -1.0], [1.0, 0.0]]
    request = dashscope.decode_embedding_request(replay.requests[-1])
    assert (request.inputs, request.dimensions, request.extra) == (("a", "b"), 64, {"text_type": "query"})


ANSWERS = [one for one in load("dashscope", "response", "stream") if one.meaning.get("finish")]


@pytest.mark.parametrize("case", [one for one in ANSWERS if "compat" not in one.id], ids=str)
def test_the_client_reads_what_is_written_for_each_meaning(case, call, replay):
    replay.answer(dashscope.encode_response(response_of(case.meaning), Reply("r1", "m", 0)))
    found = call(result_format="message")
    assert found.output.choices[0].message.content == case.meaning["text"]
    assert found.output.choices[0].finish_reason == case.meaning["finish"]
    calls = [(one["id"], one["function"]["name"]) for one in found.output.choices[0].message.get("tool_calls", [])]
    assert calls == [(one["id"], one["name"]) for one in case.meaning.get("tool_calls", [])]


@pytest.mark.parametrize("name", ["incremental", "thinking", "cumulative"])
def test_the_client_and_the_decoder_agree_on_what_the_vendor_says(name, call, replay):
    (case,) = [one for one in load("dashscope") if one.id == f"dashscope/stream-{name}"]
    replay.stream(*pieces(case), content_type=case.wire["content_type"])
    grows = name == "cumulative"
    events = list(call(model="qwen-omni-x", stream=True, incremental_output=not grows, result_format="message"))
    contents = [event.output.choices[0].message.content for event in events]
    assert (contents[-1] if grows else "".join(contents)) == case.meaning["text"]
