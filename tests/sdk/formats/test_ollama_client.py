"""Ollama's own client reads what is written here, and what it sends is read as it was meant."""

import json

import ollama as client_library
import pytest
from tests.sdk.formats.cases import load, pieces, response_of, wire_request, wire_response

from byenatos_sdk.formats import ollama
from byenatos_sdk.formats.wire import Reply, WireRequest
from byenatos_sdk.protocol.errors import NotFound, Overloaded
from byenatos_sdk.protocol.messages import (
    EmbeddingResponse,
    Failure,
    Finish,
    Image,
    InferenceResponse,
    Logprobs,
    Message,
    ModelSpecification,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    system,
    user,
)

NOW = 1763800000


@pytest.fixture
def client(replay):
    client = client_library.Client(replay.url)
    yield client
    client.close()


def asked(replay, action="infer"):
    """Return the last request, decoded, and the reply that answers it."""
    decoded = ollama.decode_request(replay.requests[-1])
    assert decoded.action == action
    return decoded, Reply("r1", decoded.request.model, NOW, decoded)


def stream_of(replay, client_call, deltas, reply):
    encoder = ollama.stream_encoder(reply)
    replay.stream(*(encoder.encode([delta]) for delta in deltas), content_type=encoder.content_type)
    return list(client_call(stream=True))


CHAT = Reply("r1", "llama3.2", NOW)


def load_request(id):
    return wire_request(next(case for case in load("ollama") if case.id == id))


def test_what_the_client_sends_is_read_as_it_was_meant(client, replay):
    def get_weather(city: str) -> str:
        """Current weather.

        Args:
          city: City
        """
        return city

    replay.answer(ollama.encode_response(InferenceResponse(Message("assistant", ()), "stop", Usage(), "m"), CHAT))
    client.chat(
        "llama3.2",
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "Paris?", "images": [b"\x89PNG\r\n\x1a\n"]},
            {
                "role": "assistant",
                "tool_calls": [{"id": "x", "function": {"name": "get_weather", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "22C", "tool_name": "get_weather"},
        ],
        tools=[get_weather],
        think="low",
        format="json",
        options={"temperature": 0.5, "num_predict": 9, "stop": ["END"], "num_ctx": 1024},
        keep_alive="5m",
        logprobs=True,
        top_logprobs=2,
    )
    decoded, _ = asked(replay)
    request = decoded.request
    assert not decoded.stream
    assert request.messages == (
        system("s"),
        Message("user", (Text("Paris?"), Image("image/png", b"\x89PNG\r\n\x1a\n"))),
        Message("assistant", (ToolCall("call_0_get_weather", "get_weather", '{"a":1}'),)),
        Message("tool", (ToolResult("call_0_get_weather", "22C", name="get_weather"),)),
    )
    schema = {
        "type": "object",
        "required": ["city"],
        "properties": {"city": {"type": "string", "description": "City"}},
    }
    assert request.tools == (Tool("get_weather", "Current weather.", schema),)
    assert request.sampling == Sampling(temperature=0.5, max_tokens=9, stop=("END",), logprobs=2)
    assert request.reasoning == ReasoningOptions("low")
    assert request.response_format == {"type": "json_object"}
    assert request.extra == {"format": "ollama", "num_ctx": 1024, "keep_alive": "5m"}


def test_the_client_reads_a_whole_answer(client, replay):
    parts = (Reasoning("hm"), Text("Hello\u2028!"), ToolCall("c1", "f", '{"a": [1]}'))
    tokens = (TokenLogprob("Hello", -0.5, (("Hello", -0.5), ("Hi", float("-inf")))),)
    response = InferenceResponse(Message("assistant", parts), "tool_calls", Usage(10, 5), "m", logprobs=tokens)
    replay.answer(ollama.encode_response(response, CHAT))
    found = client.chat("llama3.2", [{"role": "user", "content": "x"}])
    assert (found.model, found.message.content, found.message.thinking) == ("llama3.2", "Hello\u2028!", "hm")
    assert found.created_at == "2025-11-22T08:26:40Z"
    assert [(call.function.name, call.function.arguments) for call in found.message.tool_calls] == [("f", {"a": [1]})]
    assert (found.done, found.done_reason, found.prompt_eval_count, found.eval_count) == (True, "stop", 10, 5)
    assert found.logprobs[0].top_logprobs[1].logprob == -9999.0


def test_the_client_reads_a_stream_of_any_text(client, replay):
    deltas = [
        ReasoningDelta("h"),
        ReasoningDelta("m\x85"),
        TextDelta("a\u2028b\u2029c\x85d\r\ne\x0b\x1c"),
        TextDelta("né🦙"),
        Logprobs((TokenLogprob("x", -1.0),)),
        ToolCallDelta("c1", "f", '{"k\u2028": "v"}'),
        ToolCallDelta("c2", "g", "{}"),
        Finish("tool_calls", Usage(10, 5)),
    ]
    chunks = stream_of(
        replay, lambda stream: client.chat("llama3.2", [{"role": "user", "content": "x"}], stream=stream), deltas, CHAT
    )
    assert "".join(chunk.message.content for chunk in chunks) == "a\u2028b\u2029c\x85d\r\ne\x0b\x1cné🦙"
    assert "".join(chunk.message.thinking or "" for chunk in chunks) == "hm\x85"
    calls = [call.function for chunk in chunks for call in chunk.message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [("f", {"k\u2028": "v"}), ("g", {})]
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {chunk.created_at for chunk in chunks} == {"2025-11-22T08:26:40Z"}
    assert (chunks[-1].done_reason, chunks[-1].prompt_eval_count, chunks[-1].eval_count) == ("stop", 10, 5)
    decoded, _ = asked(replay)
    assert decoded.stream


def test_the_client_reads_a_stream_of_generate(client, replay):
    generate = Reply("r1", "llama3.2", NOW, ollama.decode_request(load_request("ollama/req-generate-raw")))
    deltas = [ReasoningDelta("hm"), TextDelta("Once "), TextDelta("upon"), Finish("length", Usage(None, 2))]
    chunks = stream_of(
        replay, lambda stream: client.generate("llama3.2", "Once", raw=True, stream=stream), deltas, generate
    )
    assert "".join(chunk.response for chunk in chunks) == "Once upon"
    assert "".join(chunk.thinking or "" for chunk in chunks) == "hm"
    assert (chunks[-1].done_reason, chunks[-1].prompt_eval_count, chunks[-1].eval_count) == ("length", None, 2)
    decoded, reply = asked(replay)
    assert decoded.request.raw
    assert decoded.request.messages == (user("Once"),)
    replay.answer(ollama.encode_response(response_of({"text": "Hello", "thinking": "hm", "finish": "stop"}), reply))
    found = client.generate("llama3.2", "Once", raw=True)
    assert (found.response, found.thinking, found.done_reason) == ("Hello", "hm", "stop")


@pytest.mark.parametrize(
    "case", [one for one in load("ollama", "response", "stream") if one.meaning.get("finish")], ids=str
)
def test_the_client_reads_what_is_written_for_each_meaning(case, client, replay):
    response = response_of(case.meaning)
    replay.answer(ollama.encode_response(response, CHAT))
    found = client.chat("llama3.2", [{"role": "user", "content": "x"}])
    assert found.message.content == case.meaning["text"]
    assert (found.message.thinking or "") == case.meaning.get("thinking", "")
    assert found.prompt_eval_count == case.meaning.get("usage", {}).get("input")
    calls = [{"name": one.function.name, "arguments": one.function.arguments} for one in found.message.tool_calls or ()]
    assert calls == case.meaning.get("tool_calls", [])


def test_loading_and_unloading_are_told_apart(client, replay):
    for keep_alive, action in ((None, "load"), (0, "unload")):
        response = InferenceResponse(Message("assistant", ()), "stop", Usage(None, None), "m", detail=action)
        replay.answer(ollama.encode_response(response, CHAT))
        found = client.generate("llama3.2", "", keep_alive=keep_alive)
        asked(replay, action)
        assert (found.done_reason, found.prompt_eval_count, found.eval_count) == (action, None, None)


def test_the_client_raises_errors_before_and_in_a_stream(client, replay):
    replay.answer(ollama.encode_error(NotFound("model 'x' not found")))
    with pytest.raises(client_library.ResponseError, match="model 'x' not found") as caught:
        client.chat("x", [{"role": "user", "content": "x"}])
    assert caught.value.status_code == 404
    encoder = ollama.stream_encoder(CHAT)
    failure = Failure(Overloaded.code, "the queue is full", partial=True)
    replay.stream(encoder.encode([TextDelta("Par")]), encoder.encode([failure]))
    heard = []
    with pytest.raises(client_library.ResponseError, match="the queue is full"):
        heard += (chunk.message.content for chunk in client.chat("x", [{"role": "user", "content": "x"}], stream=True))
    assert heard == ["Par"]
    replay.stream(encoder.encode([failure]))
    with pytest.raises(client_library.ResponseError, match="the queue is full"):
        next(iter(client.chat("x", [{"role": "user", "content": "x"}], stream=True)))


def test_the_client_embeds_by_both_paths(client, replay):
    response = EmbeddingResponse(((0.5, -1.0), (1.0, 0.0)), "m", Usage(8, 0))
    asked_for = load_request("ollama/req-embed")
    replay.answer(ollama.encode_embedding_response(response, CHAT, asked_for))
    found = client.embed("nomic", ["a", "b"], truncate=True, dimensions=2)
    assert [list(vector) for vector in found.embeddings] == [[0.5, -1.0], [1.0, 0.0]]
    assert found.prompt_eval_count == 8
    read = ollama.decode_embedding_request(replay.requests[-1])
    assert (read.inputs, read.dimensions, read.extra) == (("a", "b"), 2, {"truncate": True})
    legacy = ollama.encode_embedding_response(response, CHAT, WireRequest("/api/embeddings"))
    replay.answer(legacy)
    assert list(client.embeddings("nomic", "a").embedding) == [0.5, -1.0]
    assert ollama.decode_embedding_request(replay.requests[-1]).inputs == ("a",)


def test_the_client_lists_and_shows_models(client, replay):
    model = ModelSpecification(
        "smollm2:135m", architecture="llama", parameters=134_500_000, context_length=8192, size_bytes=5
    )
    replay.answer(ollama.encode_models([model], NOW), ollama.encode_running([model], NOW, NOW + 300))
    (listed,) = client.list().models
    assert (listed.model, listed.details.parameter_size, int(listed.size)) == ("smollm2:135m", "134.5M", 5)
    assert listed.modified_at.timestamp() == NOW
    (running,) = client.ps().models
    assert (running.name, running.context_length, running.expires_at.timestamp()) == ("smollm2:135m", 8192, NOW + 300)
    replay.answer(ollama.encode_show(model, NOW))
    shown = client.show("smollm2:135m")
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["llama.context_length"] == 8192
    assert ollama.decode_show_request(replay.requests[-1]) == "smollm2:135m"


@pytest.mark.parametrize("case", [one for one in load("ollama", "stream") if one.meaning.get("finish")], ids=str)
def test_the_client_and_the_decoder_agree_on_what_a_server_says(case, client, replay):
    if case.id == "ollama/stream-blank-line":
        replay.stream(*pieces(case))
        with pytest.raises(json.JSONDecodeError):
            list(client.chat("m", [{"role": "user", "content": "x"}], stream=True))
        return
    replay.stream(*pieces(case))
    if "generate" in case.id:
        chunks = [chunk.response for chunk in client.generate("m", "x", stream=True)]
    else:
        chunks = [chunk.message.content for chunk in client.chat("m", [{"role": "user", "content": "x"}], stream=True)]
    assert "".join(chunks) == case.meaning["text"]


def test_the_client_reads_the_cases_bodies_as_they_are(client, replay):
    (case,) = [one for one in load("ollama") if one.id == "ollama/show"]
    replay.answer(wire_response(case))
    assert client.show("x").capabilities == case.meaning["capabilities"]
