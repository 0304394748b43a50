import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import strategies
from tests.sdk.formats.cases import (
    Case,
    assert_request,
    assert_response,
    load,
    request_of,
    response_of,
    wire_request,
    wire_response,
)
from tests.sdk.formats.laws import decoded, holds_for_any_bytes, joined, reads_or_refuses, same_however_cut

from byenatos_sdk.formats import ollama
from byenatos_sdk.formats.calls import invented_id
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import Answer
from byenatos_sdk.protocol.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    Unsupported,
    UpstreamFailed,
)
from byenatos_sdk.protocol.messages import (
    Audio,
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    Finish,
    Image,
    InferenceRequest,
    Message,
    ModelSpecification,
    Moved,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    assistant,
    system,
    user,
)

REPLY = Reply("r1", "llama3.2", 1763800000)
GENERATE = replace(REPLY, asked=Decoded(InferenceRequest((user("x"),)), path="/api/generate"))
NAMES = {"context_window": "num_ctx"}
"""Parameters of the cases that have no canonical place, in Ollama's words."""


def cases(*kinds: str) -> list[Case]:
    return load("ollama", *kinds) + load("ollama_own", *kinds)


def own_words(case: Case) -> dict[str, Any]:
    """Return a case's meaning with parameters by Ollama's names, and with the ids that decoders invent."""
    meaning = json.loads(json.dumps(case.meaning))
    if "params" in meaning:
        meaning["params"] = {NAMES.get(name, name): value for name, value in meaning["params"].items()}
    invented = []
    for turn in meaning.get("turns", ()):
        for part in turn["parts"]:
            call, result = part.get("tool_call"), part.get("tool_result")
            if call is not None:
                call["id"] = call["id"] or invented_id(len(invented), call["name"])
                invented.append(call)
            elif result is not None and not result["id"]:
                result["id"] = next(one["id"] for one in invented if one["name"] == result["name"])
    return meaning


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body with its defaults: whether it streams is true if it does not say so."""
    found = {"stream": True} | {name: value for name, value in body.items() if value not in ([], None)}
    if "messages" in body:
        found["messages"] = body["messages"]
    return found


def test_the_module_is_a_format_with_embeddings_and_lists_of_models():
    assert isinstance(ollama, Format)
    assert isinstance(ollama, EmbeddingFormat)
    assert isinstance(ollama, ModelListFormat)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [one for one in cases("request") if "inputs" not in one.meaning], ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    assert_request(ollama.decode_request(wire_request(case)), own_words(case))


@pytest.mark.parametrize(
    "case", [one for one in cases("request") if "inputs" not in one.meaning and "lenient" not in one.meaning], ids=str
)
def test_a_request_is_written_as_the_server_takes_it(case):
    request = request_of(own_words(case))
    if case.meaning.get("action") == "unload":
        request = replace(request, extra={"keep_alive": 0})
    encoded = ollama.encode_request(request, stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.wire.path == case.wire["path"]
    assert normal(json.loads(encoded.wire.body)) == normal(case.wire["body"])


@pytest.mark.parametrize(
    "case", [one for one in cases("response", "stream") if one.meaning.get("finish") not in {None, "unknown"}], ids=str
)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    for reply in (REPLY,) if case.meaning.get("tool_calls") else (REPLY, GENERATE):
        assert_response(ollama.decode_response(ollama.encode_response(response, reply)), case.meaning)


@pytest.mark.parametrize("case", cases("error"), ids=str)
def test_an_error_is_written_as_a_message_alone(case):
    error = ollama.decode_error(wire_response(case))
    assert json.loads(ollama.encode_error(error).body) == {"error": error.message}


# ---- requests --------------------------------------------------------------------------------------------------


def chat(**fields: Any) -> WireRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]} | fields
    return WireRequest("/api/chat", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"model": ""}, "model:"),
        ({"model": None}, "model:"),
        ({"messages": "x"}, "messages: expected"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role: expected one of system"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.*content: expected"),
        ({"messages": [{"role": "user", "images": ["äöü"]}]}, r"messages\[0\].images\[0\]: expected base64"),
        ({"options": {"temperature": "hot"}}, "options.temperature: expected a number, found str"),
        ({"options": {"temperature": True}}, "options.temperature: expected a number, found bool"),
        ({"options": {"top_k": 1.5}}, "options.top_k: expected an integer, found 1.5"),
        ({"options": {"stop": [1]}}, "options.stop: expected a list of strings"),
        ({"format": "xml"}, "format: expected 'json' or a JSON schema, found 'xml'"),
        ({"think": "hard"}, "think: expected true, false"),
        ({"tools": [{"type": "function"}]}, r"tools\[0\].function.name: expected"),
        ({"stream": "yes"}, "stream: expected"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(fields, place):
    with pytest.raises(InvalidRequest, match=place):
        ollama.decode_request(chat(**fields))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "\xff"}', b"[" * 10000])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(InvalidRequest):
        ollama.decode_request(WireRequest("/api/chat", body))


def test_null_means_absent_and_unknown_fields_are_ignored():
    wire = chat(options=None, tools=None, format=None, think=None, stream=None, keep_alive=None, unknown={"a": 1})
    found = ollama.decode_request(wire)
    assert found.stream is True
    assert found.request == InferenceRequest((user("x"),), model="m")


@pytest.mark.parametrize(
    ("keep_alive", "action"),
    [(0, "unload"), ("0", "unload"), ("0s", "unload"), (None, "load"), ("5m", "load"), (-1, "load"), (300, "load")],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_request_without_a_prompt_is_about_the_model(path, keep_alive, action):
    body = {"model": "m", "messages": [], "prompt": "", "keep_alive": keep_alive}
    found = ollama.decode_request(WireRequest(path, json.dumps(body).encode()))
    assert (found.action, found.request.messages) == (action, ())


def test_no_limit_and_a_random_seed_are_the_models_own_defaults():
    found = ollama.decode_request(chat(options={"num_predict": -1, "seed": -1, "top_k": 40.0}))
    assert found.request.sampling == Sampling(top_k=40)
    assert ollama.decode_request(chat(options={"num_predict": -2})).request.sampling == Sampling()


def test_a_raw_prompt_may_have_pictures():
    body = {"model": "m", "prompt": "Look: ", "images": ["/9j/"], "raw": True}
    found = ollama.decode_request(WireRequest("/api/generate?x=1", json.dumps(body).encode())).request
    assert found.raw
    assert found.messages == (Message("user", (Text("Look: "), Image("image/jpeg", b"\xff\xd8\xff"))),)
    again = ollama.encode_request(found).wire
    assert (again.path, json.loads(again.body)) == ("/api/generate", body | {"stream": False})


def test_a_generate_request_keeps_what_only_generate_knows():
    body = {"model": "m", "system": "s", "prompt": "a", "suffix": "z", "template": "T", "context": [1, 2]}
    wire = WireRequest("/api/generate", json.dumps(body).encode())
    found = ollama.decode_request(wire)
    assert found.path == "/api/generate"
    assert found.request.messages == (system("s"), user("a"))
    assert found.request.extra == {"format": "ollama", "suffix": "z", "template": "T", "context": [1, 2]}
    again = ollama.encode_request(found.request, stream=True).wire
    assert again.path == "/api/generate"
    assert json.loads(again.body) == body | {"stream": True}


def test_images_are_bare_base64_in_either_alphabet_or_whole_addresses():
    data = b"\xff\xd8\xff\xfb\xef\xbe"
    for text in ("/9j/++++", "_9j_----", "data:image/jpeg;base64,/9j/++++"):
        messages = [{"role": "user", "content": "x", "images": [text]}]
        (message,) = ollama.decode_request(chat(messages=messages)).request.messages
        assert message.parts == (Text("x"), Image("image/jpeg", b"\xff\xd8\xff\xfb\xef\xbe"))
    encoded = ollama.encode_request(InferenceRequest((Message("user", (Text("x"), Image("image/jpeg", data))),)))
    assert json.loads(encoded.wire.body)["messages"][0]["images"] == ["/9j/++++"]


def test_remote_images_and_sound_cannot_be_said():
    for part in (Image(url="https://example.com/a.png"), Audio(b"x")):
        with pytest.raises(Unsupported):
            ollama.encode_request(InferenceRequest((Message("user", (part,)),)))


def test_results_of_two_calls_of_one_function_find_their_calls_by_order():
    messages = [
        {"role": "user", "content": "both?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"n": n}}} for n in (1, 2)]},
        {"role": "tool", "content": "one", "tool_name": "f"},
        {"role": "tool", "content": "two", "tool_name": "f"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "three", "name": "f"},
    ]
    found = ollama.decode_request(chat(messages=messages)).request
    assert found.messages[2].parts == (
        ToolResult("call_0_f", "one", name="f"),
        ToolResult("call_1_f", "two", name="f"),
    )
    assert found.messages[4].parts == (ToolResult("call_2_f", "three", name="f"),)
    assert found.messages[3].parts == (ToolCall("call_2_f", "f", "{}"),)


def test_results_in_another_order_than_their_calls_keep_their_ids():
    calls = (ToolCall("call_0_f", "f"), ToolCall("call_1_f", "f"))
    results = (ToolResult("call_1_f", "two", name="f"), ToolResult("call_0_f", "one", name="f"))
    request = InferenceRequest((user("x"), Message("assistant", calls), Message("tool", results)), model="m")
    assert ollama.decode_request(ollama.encode_request(request).wire).request == request


def test_a_result_without_a_name_gets_its_calls_name():
    request = InferenceRequest(
        (user("x"), Message("assistant", (ToolCall("c9", "f"),)), Message("tool", (ToolResult("c9", "y"),)))
    )
    messages = json.loads(ollama.encode_request(request).wire.body)["messages"]
    assert messages[1]["tool_calls"] == [{"id": "c9", "function": {"name": "f", "arguments": {}}}]
    assert messages[2] == {"role": "tool", "content": "y", "tool_name": "f", "tool_call_id": "c9"}


@pytest.mark.parametrize("text", ['{"a":', "[1]", "nothing", '"text"', '{"raw_arguments": 1}'])
def test_arguments_that_are_no_object_survive(text):
    request = InferenceRequest((user("x"), Message("assistant", (ToolCall("c1", "f", text),)), user("y")))
    encoded = ollama.encode_request(request)
    assert isinstance(json.loads(encoded.wire.body)["messages"][1]["tool_calls"][0]["function"]["arguments"], dict)
    call = ollama.decode_request(encoded.wire).request.messages[1].parts[0]
    assert call.arguments.replace(" ", "") == text.replace(" ", "")


def test_numbers_in_arguments_stay_as_they_were_written():
    text = '{"a":1.10,"b":12345678901234567890123,"c":1e5}'
    request = InferenceRequest((user("x"), Message("assistant", (ToolCall("c1", "f", text),)), user("y")))
    assert text.encode() in ollama.encode_request(request).wire.body


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("medium", True), ("high", "high"), ("max", "max")],
)
def test_effort_is_said_by_think(effort, think):
    encoded = ollama.encode_request(InferenceRequest((user("x"),), reasoning=ReasoningOptions(effort)))
    assert json.loads(encoded.wire.body)["think"] == think
    assert type(json.loads(encoded.wire.body)["think"]) is type(think)


def test_a_budget_of_thinking_is_lost_to_an_effort():
    encoded = ollama.encode_request(InferenceRequest((user("x"),), reasoning=ReasoningOptions(budget=20000)))
    assert json.loads(encoded.wire.body)["think"] == "max"
    assert [loss.parameter for loss in encoded.losses] == ["reasoning.budget"]


def test_a_choice_of_tools_becomes_a_choice_of_what_is_offered():
    tools = (Tool("f"), Tool("g"))
    named = ollama.encode_request(InferenceRequest((user("x"),), tools=tools, tool_choice="g"))
    assert [tool["function"]["name"] for tool in json.loads(named.wire.body)["tools"]] == ["g"]
    none = ollama.encode_request(InferenceRequest((user("x"),), tools=tools, tool_choice="none"))
    assert "tools" not in json.loads(none.wire.body)
    assert [loss.parameter for loss in (*named.losses, *none.losses)] == ["tool_choice", "tool_choice"]


def test_options_of_other_vendors_stay_away():
    request = InferenceRequest((user("x"),), extra={"num_ctx": 8192, "keep_alive": "5m", "verbosity": "low"})
    body = json.loads(ollama.encode_request(request).wire.body)
    assert body["options"] == {"num_ctx": 8192}
    assert body["keep_alive"] == "5m"
    assert "verbosity" not in json.dumps(body)
    foreign = {"format": "huggingface_tgi", "truncate": 512}
    assert "truncate" not in json.loads(ollama.encode_request(replace(request, extra=foreign)).wire.body)


# Images lose their media type, so the drawn ones begin as what they are; a name of a schema cannot be said.
PICTURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


def expressible(request: InferenceRequest) -> InferenceRequest:
    """Return ``request`` as Ollama's shape keeps it: a message's text is one, before its pictures."""
    messages = []
    for message in request.messages:
        text = message.text
        pictures = [replace(part, data=PICTURES[part.media_type]) for part in message.parts if isinstance(part, Image)]
        others = [part for part in message.parts if not isinstance(part, Text | Image)]
        messages.append(Message(message.role, (*([Text(text)] if text else []), *pictures, *others)))
    tools = tuple(replace(tool, strict=None) for tool in request.tools)
    sampling = request.sampling
    if sampling.seed == -1:
        sampling = replace(sampling, seed=None)
    return replace(request, messages=tuple(messages), tools=tools, sampling=sampling)


@settings(max_examples=60, deadline=None)
@given(strategies.requests(ollama.CAPABILITIES).map(expressible), st.booleans())
def test_a_request_survives_both_ways(request, stream):
    encoded = ollama.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = ollama.decode_request(encoded.wire)
    assert found.stream == stream
    assert found.request == request


@settings(max_examples=100)
@given(st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_read_or_refused(data):
    for path in ("/api/chat", "/api/generate"):
        reads_or_refuses(ollama, WireRequest(path, data))


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message": 5}', b"<html>busy</html>"])
def test_a_body_that_is_no_answer_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed):
        ollama.decode_response(WireResponse(body))


def test_an_error_with_a_good_status_is_an_error():
    with pytest.raises(Overloaded, match="server busy"):
        ollama.decode_response(WireResponse(b'{"error": "server busy, please try again"}'))


usages = strategies.usages(details=False) | st.just(Usage(None, None))


@settings(max_examples=60, deadline=None)
@given(strategies.responses(usage=usages, reasoning=True, logprobs=True, reasons=("stop", "length")))
def test_a_response_survives_both_ways(response):
    reply = replace(REPLY, model=response.model)
    assert ollama.decode_response(ollama.encode_response(response, reply)) == response


# ---- streams ---------------------------------------------------------------------------------------------------


def encoded_stream(deltas, reply=REPLY):
    encoder = ollama.stream_encoder(reply)
    return b"".join(encoder.encode([delta]) for delta in deltas)


def parsed(deltas):
    """Return deltas with calls' arguments as values: how characters are escaped means nothing."""
    return [
        (delta.id, delta.name, json.loads(delta.arguments)) if isinstance(delta, ToolCallDelta) else delta
        for delta in joined(deltas)
    ]


def expected_stream(deltas):
    """Return what of ``deltas`` Ollama can say: counts only, and no filter."""
    *others, end = deltas
    usage = Usage(end.usage.input_tokens, end.usage.output_tokens)
    reason = "stop" if end.reason == "content_filter" else end.reason
    return parsed([*others, Finish(reason, usage)])


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(reasoning=True, logprobs=True), st.lists(st.integers(0, 10**4), max_size=4))
def test_a_stream_survives_both_ways_however_it_is_cut(deltas, cuts):
    raw = encoded_stream(deltas)
    assert parsed(decoded(ollama, [raw])) == expected_stream(deltas)
    same_however_cut(ollama, raw, cuts)
    assert encoded_stream([*deltas]) == ollama.stream_encoder(REPLY).encode(deltas)


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(reasoning=True, tools=False))
def test_a_stream_of_generate_survives_both_ways(deltas):
    raw = encoded_stream(deltas, GENERATE)
    assert parsed(decoded(ollama, [raw])) == expected_stream(deltas)


@settings(max_examples=50, deadline=None)
@given(strategies.deltas(reasoning=True, logprobs=True))
def test_lines_end_at_line_feeds_only_whatever_the_text_holds(deltas):
    text = encoded_stream(deltas).decode()
    lines = text.splitlines()
    assert len(lines) == text.count("\n")
    assert all(json.loads(line) for line in lines)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_end_in_one_terminal(found):
    holds_for_any_bytes(ollama, found)


def test_a_failure_is_said_in_the_stream_and_nothing_follows_it():
    deltas = [TextDelta("Par"), Moved("a", "b", "crash"), Failure("upstream_failed", "broken pipe", partial=True)]
    raw = encoded_stream(deltas)
    assert raw.splitlines()[-1] == b'{"error":"broken pipe"}'
    assert decoded(ollama, [raw]) == [TextDelta("Par"), Failure("upstream_failed", "broken pipe", partial=True)]
    assert json.loads(encoded_stream([Failure("internal", "")])) == {"error": "internal"}


def test_calls_without_ids_get_different_ones_across_lines():
    line = b'{"message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f"}}]},"done":false}\n'
    last = b'{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'
    assert decoded(ollama, [line, line, last]) == [
        ToolCallDelta("call_0_f", "f", "{}"),
        ToolCallDelta("call_1_f", "f", "{}"),
        Finish("tool_calls", Usage(None, None)),
    ]


def test_an_endless_line_ends_the_stream(monkeypatch):
    monkeypatch.setattr("byenatos_sdk.formats.ndjson.MAX_LINE", 1000)
    decoder = ollama.stream_decoder()
    deltas = [delta for _ in range(20) for delta in decoder.feed(b'"' * 100)]
    assert [type(delta) for delta in deltas] == [Failure]
    assert deltas[0].code == "upstream_failed"


def test_there_is_no_keep_alive():
    encoder = ollama.stream_encoder(REPLY)
    assert encoder.keep_alive() == b""
    assert encoder.content_type == "application/x-ndjson"


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x"), 400),
        (ContextLengthExceeded("x"), 400),
        (NotFound("model 'x' not found"), 404),
        (RateLimited("x", retry_after_s=3), 429),
        (Overloaded("x"), 503),
        (UpstreamFailed("x"), 500),
    ],
)
def test_errors_have_the_status_that_clients_expect(error, status):
    wire = ollama.encode_error(error)
    assert wire.status == status
    assert wire.headers.get("retry-after") == (None if error.retry_after_s is None else "3")


# ---- embeddings and models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [one for one in cases("request") if "inputs" in one.meaning], ids=str)
def test_a_request_for_embeddings_is_read_and_written(case):
    wire = wire_request(case)
    found = ollama.decode_embedding_request(wire)
    meaning = case.meaning
    assert found == EmbeddingRequest(
        tuple(meaning["inputs"]), meaning["model"], meaning.get("dimensions"), meaning.get("params", {})
    )
    again = ollama.encode_embedding_request(found)
    assert again.path == "/api/embed"
    assert ollama.decode_embedding_request(again) == found


@pytest.mark.parametrize("case", [one for one in cases("response") if "embeddings" in one.meaning], ids=str)
def test_embeddings_are_read_and_written(case):
    found = ollama.decode_embedding_response(wire_response(case))
    assert [list(vector) for vector in found.vectors] == case.meaning["embeddings"]
    assert found.usage.input_tokens == case.meaning.get("usage", {}).get("input")
    asked = WireRequest("/api/embeddings" if "embedding" in case.wire["body"] else "/api/embed")
    again = ollama.decode_embedding_response(ollama.encode_embedding_response(found, REPLY, asked))
    assert again.vectors == found.vectors


def test_embeddings_that_are_none_are_refused():
    with pytest.raises(UpstreamFailed):
        ollama.decode_embedding_response(WireResponse(b"{}"))
    with pytest.raises(NotFound):
        ollama.decode_embedding_response(WireResponse(b'{"error":"model \'x\' not found"}', 404))
    with pytest.raises(InvalidRequest, match="model"):
        ollama.decode_embedding_request(WireRequest("/api/embed", b'{"input": "a"}'))
    none = EmbeddingResponse(())
    assert json.loads(ollama.encode_embedding_response(none, REPLY, WireRequest("/api/embeddings")).body) == {
        "embedding": []
    }


MODEL = ModelSpecification(
    "smollm2",
    architecture="llama",
    quantization="Q4_K_M",
    parameters=134_500_000,
    context_length=8192,
    size_bytes=105_000_000,
    features=frozenset({"tools", "continue"}),
)


@pytest.mark.parametrize("case", [one for one in cases("response") if "models" in one.meaning], ids=str)
def test_a_list_of_models_is_read(case):
    models, page = ollama.decode_models(wire_response(case))
    assert [model.id for model in models] == case.meaning["models"]
    assert page == ""


def test_a_models_size_and_kind_are_read_from_tags_and_show():
    (case,) = [one for one in load("ollama") if one.id == "ollama/tags"]
    ((model,), _) = ollama.decode_models(wire_response(case))
    assert (model.parameters, model.quantization, model.architecture) == (3_200_000_000, "Q4_K_M", "llama")
    assert model.size_bytes == 2019393189
    assert model.features == {"completion", "tools"}
    (case,) = [one for one in load("ollama") if one.id == "ollama/show"]
    shown = ollama.decode_show(wire_response(case), "x")
    assert (shown.id, shown.context_length, shown.architecture) == ("x", 131072, "llama")


def test_models_are_written_as_they_are_read():
    ((found,), _) = ollama.decode_models(ollama.encode_models([MODEL], 1763800000))
    assert found.id == MODEL.id
    assert (found.parameters, found.size_bytes, found.quantization) == (134_500_000, 105_000_000, "Q4_K_M")
    assert found.features == {"completion", "tools"}
    ((running,), _) = ollama.decode_models(ollama.encode_running([MODEL], 1763800000, 1763800300))
    assert running.context_length == 8192
    shown = ollama.decode_show(ollama.encode_show(MODEL, 1763800000), "smollm2")
    assert (shown.context_length, shown.parameters, shown.architecture) == (8192, 134_500_000, "llama")
    assert ollama.decode_show_request(ollama.encode_show_request("smollm2")) == "smollm2"
    assert ollama.decode_version(ollama.encode_version("0.12.0")) == "0.12.0"


@pytest.mark.parametrize(
    ("features", "told"), [({"tools", "images"}, True), ({"continue"}, True), ({"completion"}, False)]
)
def test_a_template_says_whether_a_model_is_told_of_tools(features, told):
    model = ModelSpecification("m", features=frozenset(features))
    assert (".Tools" in json.loads(ollama.encode_show(model, 0).body)["template"]) is told


@pytest.mark.parametrize(
    "read", [ollama.decode_models, ollama.decode_version, lambda wire: ollama.decode_show(wire, "")]
)
def test_lists_that_are_errors_raise_them(read):
    with pytest.raises(UpstreamFailed):
        read(WireResponse(b"<html>", 502))
    with pytest.raises(UpstreamFailed):
        read(WireResponse(b'["x"]'))


def test_history_keeps_the_thoughts_of_earlier_turns():
    request = InferenceRequest(
        (user("x"), Message("assistant", (Reasoning("hm"), Text("a"))), user("y"), assistant("Well, ")), model="m"
    )
    found = ollama.decode_request(ollama.encode_request(request).wire).request
    assert found == request
    assert found.partial == "Well, "


def test_an_answer_adds_up_from_its_stream():
    raw = encoded_stream([TextDelta("Hel"), TextDelta("lo"), Finish("stop", Usage(3, 2))])
    answer = Answer()
    for delta in decoded(ollama, [raw]):
        answer.add(delta)
    assert (answer.response().text, answer.response().usage) == ("Hello", Usage(3, 2))
