"""Anthropic's own client reads what is written here, and what it sends is read as it was meant."""

import json
from contextlib import nullcontext

import anthropic as client_library
import pytest
from tests.sdk.formats.cases import load, pieces, response_of

from byenatos_sdk.formats import anthropic_messages as anthropic
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.errors import error_from_code
from byenatos_sdk.protocol.messages import (
    Failure,
    File,
    Finish,
    Image,
    Message,
    ModelSpecification,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenCount,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    system,
    user,
)

OLD, NEW = "2023-06-01", "2026-10-21"
REPLY = Reply("msg_1", "claude-x", 1763800000)
HI = [{"role": "user", "content": "Hi"}]
ASK = {"model": "claude-x", "max_tokens": 64, "messages": HI}
WEATHER = {
    "name": "f",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


@pytest.fixture
def client(replay):
    with client_library.Anthropic(api_key="k", base_url=replay.url, max_retries=0) as client:
        yield client


def parts_of(message):
    """Return what the client read as canonical parts."""
    found = []
    for block in message.content:
        if block.type == "text":
            found.append(Text(block.text))
        elif block.type == "thinking":
            found.append(Reasoning(block.thinking, block.signature or None))
        elif block.type == "redacted_thinking":
            found.append(Reasoning("", block.data, redacted=True))
        elif block.type == "tool_use":
            found.append(ToolCall(block.id, block.name, json.dumps(block.input)))
    return tuple(found)


def answered(replay, client, deltas):
    """Return the message that the client's helper puts together out of a stream, each delta in a piece of its own."""
    encoder = anthropic.stream_encoder(REPLY)
    replay.stream(*(encoder.encode([delta]) + encoder.keep_alive() for delta in deltas))
    with client.messages.stream(**ASK) as stream:
        return stream.get_final_message()


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [one for one in load("anthropic", "response", "stream") if one.meaning.get("finish") not in {None, "unknown"}],
    ids=str,
)
def test_the_client_reads_an_answer_as_it_was_meant(replay, client, case):
    response = response_of(case.meaning)
    replay.answer(anthropic.encode_response(response, REPLY))
    message = client.messages.create(**ASK)

    assert [str(part) for part in parts_of(message)] == [str(part) for part in response.message.parts]
    wanted = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "pause": "pause_turn"}
    assert message.stop_reason == wanted.get(case.meaning["finish"], case.meaning["finish"])
    assert message.stop_sequence == response.stop_sequence
    if "usage" in case.meaning:
        usage = message.usage
        read = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
        assert (read, usage.output_tokens) == (case.meaning["usage"]["input"], case.meaning["usage"]["output"])


def test_the_client_puts_a_stream_together(replay, client):
    message = answered(
        replay,
        client,
        [
            ReasoningDelta("H"),
            ReasoningDelta("m", "EqQB", "anthropic_messages"),
            ReasoningDelta("", "EmwK", "anthropic_messages", redacted=True),
            TextDelta("é🦙\u2028"),
            TextDelta("!"),
            ToolCallDelta("toolu_a", "f", '{"a": 1}'),
            ToolCallDelta("toolu_b", "f", "{}"),
            Finish("tool_calls", Usage(30, 9, 10, 5, 2)),
        ],
    )
    assert parts_of(message) == (
        Reasoning("Hm", "EqQB"),
        Reasoning("", "EmwK", redacted=True),
        Text("é🦙\u2028!"),
        ToolCall("toolu_a", "f", '{"a": 1}'),
        ToolCall("toolu_b", "f", "{}"),
    )
    usage = message.usage
    assert (message.id, message.model, message.stop_reason) == ("msg_1", "claude-x", "tool_use")
    assert (usage.input_tokens, usage.output_tokens) == (15, 9)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (10, 5)
    assert usage.output_tokens_details.thinking_tokens == 2


def test_the_client_reads_an_input_that_is_no_json_as_an_object(replay, client):
    message = answered(replay, client, [ToolCallDelta("t", "f", '{"a":'), Finish("length")])
    assert message.content[0].input == {"raw_arguments": '{"a":'}


def test_the_client_reads_another_vendors_signatures_and_sends_them_back(replay, client):
    deltas = [ReasoningDelta("Hm", "c2ln", "gemini"), ToolCallDelta("t", "f", "{}", "Y2FsbA=="), Finish("tool_calls")]
    message = answered(replay, client, deltas)
    replay.answer(anthropic.encode_count(TokenCount(1)))
    client.messages.count_tokens(model="claude-x", messages=[*HI, {"role": "assistant", "content": message.content}])
    found = anthropic.decode_count_request(replay.requests[-1])
    assert found.messages[1].parts == (Reasoning("Hm", "c2ln", "gemini"), ToolCall("t", "f", "{}", "Y2FsbA=="))


def test_the_client_raises_what_a_stream_fails_with(replay, client):
    encoder = anthropic.stream_encoder(REPLY)
    replay.stream(encoder.encode([TextDelta("Par")]), encoder.encode([Failure("overloaded", "busy", partial=True)]))
    texts = []
    with (
        client.messages.stream(**ASK) as stream,
        pytest.raises(client_library.APIStatusError, match="overloaded_error"),
    ):
        texts += stream.text_stream
    assert "Par" in "".join(texts) or stream.current_message_snapshot.content[0].text == "Par"


def _read(events, into):
    for event in events:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            into += [event.delta.text]


@pytest.mark.parametrize("case", load("anthropic", "stream"), ids=str)
def test_the_cases_are_what_the_client_reads(replay, client, case):
    """The vendor's client and this decoder agree about the same bytes."""
    replay.stream(*pieces(case), abort=case.wire.get("abort", False))
    texts = []
    with pytest.raises(Exception) if "error" in case.meaning else nullcontext():  # noqa: PT011  # of any library
        _read(client.messages.create(**ASK, stream=True), into=texts)
    assert "".join(texts) == case.meaning["text"]


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("invalid_request", client_library.BadRequestError),
        ("context_length_exceeded", client_library.BadRequestError),
        ("unauthenticated", client_library.AuthenticationError),
        ("quota_exceeded", client_library.PaymentRequiredError),
        ("permission_denied", client_library.PermissionDeniedError),
        ("not_found", client_library.NotFoundError),
        ("request_too_large", client_library.ContentTooLargeError),
        ("rate_limited", client_library.RateLimitError),
        ("upstream_failed", client_library.InternalServerError),
        ("upstream_timeout", client_library.GatewayTimeoutError),
        ("overloaded", client_library.OverloadedError),
    ],
)
def test_the_client_raises_the_error_of_its_kind(replay, client, code, raised):
    replay.answer(anthropic.encode_error(error_from_code(code, "because")))
    with pytest.raises(raised, match="because"):
        client.messages.create(**ASK)


def test_the_client_waits_and_asks_again_only_where_that_helps(replay):
    with client_library.Anthropic(api_key="k", base_url=replay.url, max_retries=1) as client:
        replay.answer(
            anthropic.encode_error(error_from_code("rate_limited", "slow", retry_after_s=0.001)),
            anthropic.encode_count(TokenCount(7)),
            anthropic.encode_error(error_from_code("internal", "broken")),
        )
        assert client.messages.count_tokens(model="m", messages=HI).input_tokens == 7
        with pytest.raises(client_library.InternalServerError):
            client.messages.count_tokens(model="m", messages=HI)
    assert len(replay.requests) == 3


# ---- requests --------------------------------------------------------------------------------------------------


def test_what_the_client_sends_is_read_as_it_was_meant(replay, client):
    replay.answer(anthropic.encode_response(response_of(load("anthropic", "response")[0].meaning), REPLY))
    client.messages.create(
        model="claude-x",
        max_tokens=4096,
        system=[{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                        "title": "t",
                    },
                    {"type": "text", "text": "Hi"},
                ],
            },
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True}],
            },
        ],
        tools=[WEATHER],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2048},
        stop_sequences=["END"],
        metadata={"user_id": "u"},
    )
    decoded = anthropic.decode_request(replay.requests[-1])
    request = decoded.request
    assert not decoded.stream
    assert request.messages == (
        system("S"),
        Message("user", (Image("image/png", b"\x89PNG"), File("t", "text/plain", b"d"), Text("Hi"))),
        Message("assistant", (ToolCall("t", "f", '{"a":1}'),)),
        Message("tool", (ToolResult("t", "no", is_error=True, name="f"),)),
    )
    assert request.tools == (Tool("f", "d", WEATHER["input_schema"]),)
    assert (request.tool_choice, request.parallel_tool_calls) == ("auto", False)
    assert request.reasoning == ReasoningOptions(budget=2048)
    assert request.sampling == Sampling(max_tokens=4096, stop=("END",))
    assert request.metadata == {"end_user": "u"}
    assert request.extra["anthropic_version"] == NEW


def test_an_older_client_still_sends_sampling_parameters(replay):
    headers = {"anthropic-version": OLD}
    with client_library.Anthropic(api_key="k", base_url=replay.url, default_headers=headers) as client:
        replay.answer(anthropic.encode_response(response_of(load("anthropic", "response")[0].meaning), REPLY))
        client.messages.create(**ASK, extra_body={"temperature": 0.5})
    request = anthropic.decode_request(replay.requests[-1]).request
    assert (request.extra["anthropic_version"], request.sampling.temperature) == (OLD, 0.5)


def test_a_stream_is_asked_for_in_the_body(replay, client):
    answered(replay, client, [TextDelta("Hi"), Finish()])
    assert anthropic.decode_request(replay.requests[-1]).stream


def test_a_structured_answer_is_asked_for_and_read(replay, client):
    pydantic = pytest.importorskip("pydantic")

    class Weather(pydantic.BaseModel):
        city: str

    deltas = [TextDelta('{"city":'), TextDelta('"Paris"}'), Finish()]
    replay.stream(anthropic.stream_encoder(REPLY).encode(deltas))
    with client.messages.stream(**ASK, output_format=Weather) as stream:
        assert stream.get_final_message().parsed_output == Weather(city="Paris")
    form = anthropic.decode_request(replay.requests[-1]).request.response_format
    assert form["json_schema"]["schema"]["required"] == ["city"]


# ---- lists and counts ------------------------------------------------------------------------------------------


def test_the_client_lists_models(replay, client):
    replay.answer(anthropic.encode_models([ModelSpecification("a", name="A", context_length=9)], 1763800000))
    (model,) = client.models.list()
    assert (model.id, model.display_name, model.max_input_tokens, model.created_at.year) == ("a", "A", 9, 2025)
    assert replay.requests[-1].path.startswith("/v1/models")


def test_the_client_counts_tokens(replay, client):
    replay.answer(anthropic.encode_count(TokenCount(12)))
    counted = client.messages.count_tokens(model="claude-x", system="S", messages=HI, tools=[WEATHER])
    assert counted.input_tokens == 12
    request = anthropic.decode_count_request(replay.requests[-1])
    assert request.messages == (system("S"), user("Hi"))
    assert [tool.name for tool in request.tools] == ["f"]
