"""Google's own client reads what is written here, and what it sends is read as it was meant."""

from contextlib import nullcontext

import pytest
from google import genai
from google.genai import errors, types
from tests.sdk.formats.cases import load, pieces, response_of

from byenatos_sdk.formats import gemini
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.errors import error_from_code
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    Image,
    Logprobs,
    Message,
    ModelSpecification,
    Moved,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenCount,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    system,
    user,
)

REPLY = Reply("r1", "gemini-x", 1763800000)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ASK = {"model": "gemini-x", "contents": "Hi"}


@pytest.fixture
def client(replay):
    options = types.HttpOptions(base_url=replay.url)
    with genai.Client(api_key="k", http_options=options) as client:
        yield client


def streamed(replay, client, deltas, **config):
    """Return the pieces that the client reads of a stream, each delta in a piece of its own."""
    encoder = gemini.stream_encoder(REPLY)
    replay.stream(*(encoder.encode([delta]) + encoder.keep_alive() for delta in deltas))
    return list(client.models.generate_content_stream(**ASK, config=config or None))


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [one for one in load("gemini", "response", "stream") if one.meaning.get("finish")], ids=str
)
def test_the_client_reads_an_answer_as_it_was_meant(replay, client, case):
    response = response_of(case.meaning)
    replay.answer(gemini.encode_response(response, REPLY))
    answer = client.models.generate_content(**ASK)

    (candidate,) = answer.candidates
    parts = candidate.content.parts or []
    assert "".join(part.text for part in parts if part.text and not part.thought) == case.meaning["text"]
    assert "".join(part.text for part in parts if part.thought) == case.meaning.get("thinking", "")
    wanted = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
    assert candidate.finish_reason.value == wanted.get(case.meaning["finish"], "STOP")
    assert (answer.response_id, answer.model_version) == ("r1", "gemini-x")
    if "total" in case.meaning.get("usage", {}):
        assert answer.usage_metadata.total_token_count == case.meaning["usage"]["total"]


def test_the_client_reads_a_stream(replay, client):
    deltas = [
        ReasoningDelta("Hm"),
        TextDelta("é🦙\u2028"),
        ReasoningDelta("", "c2ln", "gemini"),
        ToolCallDelta("call_0_f", "f", '{"a":1}', "Y2FsbA=="),
        ToolCallDelta("x", "f", "{}"),
        Logprobs((TokenLogprob("a", -0.5, (("a", -0.5), ("b", -2.0))),)),
        Finish("tool_calls", Usage(30, 9, 10, 0, 2)),
    ]
    chunks = streamed(replay, client, deltas)
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]

    assert [(part.text, part.thought) for part in parts[:2]] == [("Hm", True), ("é🦙\u2028", None)]
    assert parts[2].thought_signature == b"sig"
    assert [(part.function_call.id, part.function_call.args) for part in parts[3:5]] == [
        ("call_0_f", {"a": 1}),
        ("x", {}),
    ]
    assert (parts[3].thought_signature, parts[4].thought_signature) == (b"call", None)
    logprobs = chunks[-2].candidates[0].logprobs_result
    assert logprobs.chosen_candidates[0].log_probability == -0.5
    usage = chunks[-1].usage_metadata
    assert chunks[-1].candidates[0].finish_reason.value == "STOP"
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (30, 7, 2)
    assert (usage.cached_content_token_count, usage.total_token_count) == (10, 39)


def test_the_client_sends_back_what_it_read(replay, client):
    encoder = gemini.stream_encoder(REPLY)
    deltas = [
        ReasoningDelta("", "EmwK", "anthropic_messages", redacted=True),
        ToolCallDelta("t", "f", "{}", "Y2FsbA=="),
    ]
    deltas[1:1] = [TextDelta("Hel"), Moved("a", "b", "c"), TextDelta("lo")]
    replay.stream(encoder.encode([*deltas, Finish("tool_calls")]))
    chat = client.chats.create(model="gemini-x")
    assert len(list(chat.send_message_stream("Hi"))) == 4
    replay.answer(gemini.encode_response(response_of({"text": "ok", "finish": "stop"}), REPLY))
    chat.send_message(types.Part.from_function_response(name="f", response={"output": "22C"}))

    messages = gemini.decode_request(replay.requests[-1]).request.messages
    thought, text, call = messages[1].parts
    assert text == Text("Hello")
    assert (thought.signature, thought.source, thought.redacted) == ("EmwK", "anthropic_messages", True)
    assert call == ToolCall("t", "f", "{}", "Y2FsbA==")
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert messages[-1] == Message("tool", (ToolResult("t", "22C", name="f"),))


def test_the_client_raises_what_a_stream_fails_with(replay, client):
    encoder = gemini.stream_encoder(REPLY)
    replay.stream(encoder.encode([TextDelta("Par")]), encoder.encode([Failure("overloaded", "busy", partial=True)]))
    chunks = client.models.generate_content_stream(**ASK)
    assert next(chunks).text == "Par"
    with pytest.raises(errors.ServerError, match="busy") as raised:
        next(chunks)
    assert (raised.value.code, raised.value.status) == (503, "UNAVAILABLE")


@pytest.mark.parametrize("case", load("gemini", "stream"), ids=str)
def test_the_cases_are_what_the_client_reads(replay, client, case):
    """The vendor's client and this decoder agree about the same bytes, but for what only this decoder bears."""
    if case.id in {"gemini/stream-json-array", "gemini/stream-keepalive-comment"}:
        outcome = pytest.raises(Exception)  # noqa: PT011  # of any library
    else:
        outcome = nullcontext()
    replay.stream(*pieces(case))
    with outcome:
        texts = [chunk.text or "" for chunk in client.models.generate_content_stream(**ASK)]
        assert "".join(texts) == case.meaning["text"]


@pytest.mark.parametrize(
    ("code", "raised", "status"),
    [
        ("invalid_request", errors.ClientError, 400),
        ("unauthenticated", errors.ClientError, 401),
        ("permission_denied", errors.ClientError, 403),
        ("not_found", errors.ClientError, 404),
        ("rate_limited", errors.ClientError, 429),
        ("upstream_failed", errors.ServerError, 500),
        ("overloaded", errors.ServerError, 503),
        ("upstream_timeout", errors.ServerError, 504),
    ],
)
def test_the_client_raises_the_error_of_its_kind(replay, client, code, raised, status):
    replay.answer(gemini.encode_error(error_from_code(code, "because", retry_after_s=34.5)))
    with pytest.raises(raised, match="because") as found:
        client.models.generate_content(**ASK)
    assert found.value.code == status
    assert found.value.details["error"]["details"][1]["retryDelay"] == "34.5s"


# ---- requests --------------------------------------------------------------------------------------------------


def test_what_the_client_sends_is_read_as_it_was_meant(replay, client):
    config = types.GenerateContentConfig(
        system_instruction="S",
        temperature=0.5,
        top_k=40,
        max_output_tokens=64,
        stop_sequences=["END"],
        seed=7,
        response_logprobs=True,
        logprobs=3,
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024),
        tools=[
            types.Tool(
                function_declarations=[
                    types.FunctionDeclaration(name="f", description="d", parameters_json_schema=SCHEMA),
                    types.FunctionDeclaration(
                        name="g",
                        parameters=types.Schema(type="OBJECT", properties={"b": types.Schema(type="STRING")}),
                    ),
                ]
            )
        ],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["f"])
        ),
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
    )
    contents = [
        types.Content(
            role="user",
            parts=[types.Part.from_bytes(data=b"\xfb\xff\xbf", mime_type="image/png"), types.Part.from_text(text="Hi")],
        ),
        types.Content(role="model", parts=[types.Part.from_function_call(name="f", args={"a": 1})]),
        types.Content(role="user", parts=[types.Part.from_function_response(name="f", response={"error": "no"})]),
    ]
    replay.stream(gemini.stream_encoder(REPLY).encode([TextDelta("{}"), Finish()]))
    assert list(client.models.generate_content_stream(model="gemini-x", contents=contents, config=config))

    decoded = gemini.decode_request(replay.requests[-1])
    request = decoded.request
    assert (decoded.stream, request.model) == (True, "gemini-x")
    assert "alt" not in request.extra
    assert request.messages == (
        system("S"),
        Message("user", (Image("image/png", b"\xfb\xff\xbf"), Text("Hi"))),
        Message("assistant", (ToolCall("call_0_f", "f", '{"a":1}'),)),
        Message("tool", (ToolResult("call_0_f", "no", is_error=True, name="f"),)),
    )
    assert request.tools == (
        Tool("f", "d", SCHEMA),
        Tool("g", "", {"type": "object", "properties": {"b": {"type": "string"}}}),
    )
    assert request.tool_choice == "f"
    assert request.reasoning == ReasoningOptions(budget=1024, summary="auto")
    assert request.sampling == Sampling(0.5, None, 40, None, 64, ("END",), 7, logprobs=3)
    assert request.response_format == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    assert request.extra["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]


# ---- lists, counts, embeddings ---------------------------------------------------------------------------------


def test_the_client_lists_models(replay, client):
    replay.answer(gemini.encode_models([ModelSpecification("a", name="A", context_length=9)], 0))
    (model,) = client.models.list()
    assert (model.name, model.display_name, model.input_token_limit) == ("models/a", "A", 9)


def test_the_client_counts_tokens(replay, client):
    replay.answer(gemini.encode_count(TokenCount(12)))
    assert client.models.count_tokens(**ASK).total_tokens == 12
    request = gemini.decode_count_request(replay.requests[-1])
    assert (request.model, request.messages) == ("gemini-x", (user("Hi"),))


def test_the_client_embeds_texts(replay, client):
    vectors = EmbeddingResponse(((0.5, 1.0), (0.25, -1.0)), "e", Usage(2, 0))
    asked = gemini.encode_embedding_request(EmbeddingRequest(("a", "b"), "e"))
    replay.answer(gemini.encode_embedding_response(vectors, REPLY, asked))
    config = {"output_dimensionality": 2, "task_type": "CLUSTERING"}
    answer = client.models.embed_content(model="e", contents=["a", "b"], config=config)
    assert [one.values for one in answer.embeddings] == [[0.5, 1.0], [0.25, -1.0]]
    request = gemini.decode_embedding_request(replay.requests[-1])
    assert (request.inputs, request.model, request.dimensions) == (("a", "b"), "e", 2)
    assert request.extra["taskType"] == "CLUSTERING"
