import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import strategies
from tests.sdk.formats.cases import (
    Case,
    assert_deltas,
    assert_request,
    assert_response,
    deltas_of_meaning,
    load,
    request_of,
    response_of,
    wire_request,
)
from tests.sdk.formats.laws import decoded, holds_for_any_bytes, joined, same_however_cut

from byenatos_sdk.formats import anthropic_messages as anthropic
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import Answer, deltas_of
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContextLengthExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unsupported,
    UpstreamFailed,
    error_codes,
    error_from_code,
)
from byenatos_sdk.protocol.messages import (
    Audio,
    Failure,
    File,
    Finish,
    Image,
    InferenceRequest,
    InferenceResponse,
    Message,
    ModelSpecification,
    Moved,
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
    assistant,
    system,
    user,
)

OLD, NEW = "2023-06-01", "2026-10-21"
REPLY = Reply("msg_1", "claude-x", 1763800000)
WEATHER = Tool("get_weather", "Current weather", {"type": "object", "properties": {"city": {"type": "string"}}})


def cases(*kinds: str) -> list[Case]:
    return load("anthropic", *kinds) + load("anthropic_own", *kinds)


def meaning_of(case: Case) -> dict[str, Any]:
    """Return a case's meaning with the tools that its wire declares: one case leaves them out."""
    if case.id != "anthropic/req-thinking-replay":
        return case.meaning
    (tool,) = case.wire["body"]["tools"]
    declared = {"name": tool["name"], "description": tool["description"], "schema": tool["input_schema"]}
    return case.meaning | {"tools": [declared]}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body with every content as blocks: a string is short for one text."""
    found = json.loads(json.dumps(body))
    if isinstance(found.get("system"), str):
        found["system"] = [{"type": "text", "text": found["system"]}]
    for message in found["messages"]:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        for block in message["content"]:
            content = block.get("content")
            if block["type"] == "tool_result" and isinstance(content, list) and len(content) == 1:
                block["content"] = content[0]["text"]
    return found


def sent(request: InferenceRequest, **options: Any) -> dict[str, Any]:
    return json.loads(anthropic.encode_request(request, **options).wire.body)


def read(body: dict[str, Any], version: str = NEW) -> Decoded:
    headers = {"anthropic-version": version}
    return anthropic.decode_request(WireRequest("/v1/messages", json.dumps(body).encode(), headers))


def asking(*messages: Message, **fields: Any) -> InferenceRequest:
    return InferenceRequest(messages or (user("Hi"),), **fields)


def test_the_module_is_a_format_with_lists_of_models_and_token_counts():
    assert isinstance(anthropic, Format)
    assert isinstance(anthropic, ModelListFormat)
    assert isinstance(anthropic, TokenCountFormat)
    assert not isinstance(anthropic, EmbeddingFormat)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [one for one in cases("request") if "partly" not in one.meaning], ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    found = anthropic.decode_request(wire_request(case))
    assert_request(found, meaning_of(case))
    assert anthropic.decode_count_request(wire_request(case)) == found.request


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_that_was_read_is_written_as_it_came(case):
    if "count" in case.wire["path"]:
        wire = anthropic.encode_count_request(anthropic.decode_count_request(wire_request(case)))
        assert (wire.path, normal(json.loads(wire.body))) == (case.wire["path"], normal(case.wire["body"]))
        return
    read = anthropic.decode_request(wire_request(case))
    encoded = anthropic.encode_request(read.request, stream=read.stream)
    assert encoded.losses == ()
    assert normal(json.loads(encoded.wire.body)) == normal(case.meaning.get("written", case.wire["body"]))
    for name in ("anthropic-version", "anthropic-beta"):
        wanted = {key.lower(): value for key, value in case.wire["headers"].items()}.get(name)
        assert encoded.wire.headers.get(name) == wanted


@pytest.mark.parametrize(
    "case", [one for one in load("anthropic", "request") if one.id != "anthropic/req-images-doc-cache"], ids=str
)
def test_a_meaning_is_written_as_the_vendor_takes_it(case):
    encoded = anthropic.encode_request(request_of(meaning_of(case)), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.wire.path == case.wire["path"]
    assert normal(json.loads(encoded.wire.body)) == normal(case.wire["body"])


REDACTED = {"anthropic_own/resp-redacted", "anthropic_own/resp-thinking-omitted"}
"""Answers whose thinking is signed and not shown, which a meaning has no words for."""


@pytest.mark.parametrize(
    "case",
    [
        one
        for one in cases("response", "stream")
        if one.meaning.get("finish") not in {None, "unknown"} and one.id not in REDACTED
    ],
    ids=str,
)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    assert_response(anthropic.decode_response(anthropic.encode_response(response, REPLY)), case.meaning)
    raw = anthropic.stream_encoder(REPLY).encode(deltas_of_meaning(case.meaning))
    assert_deltas(decoded(anthropic, [raw]), case.meaning)


# ---- requests --------------------------------------------------------------------------------------------------


def expressible(request: InferenceRequest) -> InferenceRequest:
    """Return ``request`` as this format gives it back: calls have no signature of the vendor's, objects are closed."""
    messages = tuple(
        replace(one, parts=tuple(replace(p, signature=None) if isinstance(p, ToolCall) else p for p in one.parts))
        for one in request.messages
    )
    form = request.response_format
    if form is not None:
        schema = form["json_schema"]["schema"] | {"additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    sampling = request.sampling
    choice, parallel = request.tool_choice, request.parallel_tool_calls
    options = request.reasoning
    if choice == "none":
        parallel = None
    if options is not None and choice not in {"auto", "none"}:
        options = None
    if options is not None and options.effort != "none":
        sampling = replace(sampling, temperature=None, top_k=None)
        if options.budget is not None:
            sampling = replace(sampling, max_tokens=options.budget + 1)
    if not request.tools and any(isinstance(part, ToolCall) for one in messages for part in one.parts):
        messages = messages[-1:]
    return replace(
        request,
        messages=messages,
        sampling=sampling,
        reasoning=options,
        response_format=form,
        parallel_tool_calls=parallel,
        extra={"format": "anthropic_messages", "anthropic_version": OLD},
    )


@settings(max_examples=60, deadline=None)
@given(strategies.requests(anthropic.CAPABILITIES).map(expressible), st.booleans())
def test_a_request_survives_both_ways(request, stream):
    encoded = anthropic.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = anthropic.decode_request(encoded.wire)
    assert found.stream == stream
    assert found.request == request


@settings(max_examples=100)
@given(st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_read_or_refused(data):
    for read_one in (anthropic.decode_request, anthropic.decode_count_request):
        with pytest.raises(InvalidRequest):
            read_one(WireRequest("/v1/messages", data))


def refusal(body: dict[str, Any]) -> str | None:
    """Return why a request is refused, ``None`` if it is read."""
    try:
        read(body)
    except InvalidRequest as error:
        return error.message
    return None


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["text", "tool_use", "image", "base64", "user", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "source", "data", "name"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(ODD, st.sampled_from(["system", "messages", "tools", "thinking", "tool_choice", "output_config", "metadata"]))
def test_a_field_of_any_shape_is_read_or_refused_with_its_name(value, field):
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]} | {field: value}
    refused = refusal(body)
    assert refused is None or refused.startswith(field)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, r"messages\[0\].role"),
        ({"messages": [{"role": "user", "content": 5}]}, r"messages\[0\].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"messages\[0\].content\[0\].*text"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, r"messages\[0\].content\[0\].type"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
            "tool_result",
        ),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "x"}}]}, r"system\[0\].type"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "dreaming"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "regex"}}}, "output_config.format.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"tools": [{"description": "no name"}]}, r"tools\[0\].name"),
    ],
)
def test_a_wrong_field_is_named(change, named):
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]} | change
    with pytest.raises(InvalidRequest, match=named):
        read(body, OLD)


def test_base64_of_either_alphabet_is_read_and_anything_else_is_refused():
    def image(data):
        source = {"type": "base64", "media_type": "image/png", "data": data}
        content = [{"type": "image", "source": source}]
        return read({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}]})

    for data in ("-_-_", "+/+/"):
        assert image(data).request.messages[0].parts == (Image(data=b"\xfb\xff\xbf"),)
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.content\[0\]\.source\.data"):
        image("%%%")


# ---- versions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_the_new_version_refuses_sampling_parameters_of_a_client(name):
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}], name: 1}
    with pytest.raises(InvalidRequest, match=f"{name}: Extra inputs are not permitted"):
        read(body, NEW)
    assert getattr(read(body, OLD).request.sampling, name) == 1


def test_a_request_goes_out_in_the_newest_version_that_can_say_it():
    plain = anthropic.encode_request(asking())
    sampled = anthropic.encode_request(asking(sampling=Sampling(temperature=0.3)))
    document = Message("assistant", (File("a.pdf", "application/pdf", b"%PDF"),))
    answered = anthropic.encode_request(asking(user("Hi"), document, user("So?")))

    assert [one.wire.headers["anthropic-version"] for one in (plain, sampled, answered)] == [NEW, OLD, OLD]
    assert json.loads(sampled.wire.body)["temperature"] == 0.3


def test_a_version_that_is_named_decides_and_what_it_refuses_is_told():
    request = asking(sampling=Sampling(temperature=0.3, top_k=5), extra={"anthropic_version": NEW})
    encoded = anthropic.encode_request(request)

    assert encoded.wire.headers["anthropic-version"] == NEW
    assert not {"temperature", "top_k"} & json.loads(encoded.wire.body).keys()
    assert [(loss.parameter, loss.action) for loss in encoded.losses] == [
        ("temperature", "dropped"),
        ("top_k", "dropped"),
    ]
    with pytest.raises(Unsupported, match="temperature"):
        anthropic.encode_request(request, strict=True)


def test_the_new_version_takes_documents_in_the_users_turns_only():
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [document]}]
    body = {"model": "m", "max_tokens": 1, "messages": turns}
    with pytest.raises(InvalidRequest, match="document"):
        read(body, NEW)
    request = read(body, OLD).request
    with pytest.raises(InvalidRequest, match=OLD):
        anthropic.encode_request(replace(request, extra={"anthropic_version": NEW}))


def test_the_new_version_refuses_citations_in_the_users_text():
    content = [{"type": "text", "text": "Hi", "citations": [{"type": "char_location"}]}]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
    with pytest.raises(InvalidRequest, match="citations"):
        read(body, NEW)
    assert sent(read(body, OLD).request)["messages"][0]["content"] == content


def test_instructions_in_the_middle_move_unless_the_request_names_the_new_version():
    messages = (user("Hi"), system("Be brief."), user("So?"))
    moved = anthropic.encode_request(asking(*messages))
    kept = anthropic.encode_request(asking(*messages, extra={"anthropic_version": NEW}))

    assert [loss.action for loss in moved.losses] == ["moved"]
    assert "system" not in {one["role"] for one in json.loads(moved.wire.body)["messages"]}
    assert [one["role"] for one in json.loads(kept.wire.body)["messages"]] == ["user", "system", "user"]
    assert kept.losses == ()


def test_instructions_behind_the_assistants_turn_move_in_any_version():
    messages = (user("Hi"), assistant("Yes?"), system("Be brief."), user("So?"))
    body = sent(asking(*messages, extra={"anthropic_version": NEW}))
    assert body["messages"][-1]["content"] == [
        {"type": "text", "text": "[system] Be brief."},
        {"type": "text", "text": "So?"},
    ]


# ---- what the API wants ----------------------------------------------------------------------------------------


def test_results_of_several_messages_become_one_turn_before_its_text():
    calls = Message("assistant", (ToolCall("a", "f"), ToolCall("b", "f")))
    results = [Message("tool", (ToolResult(call, call.upper()),)) for call in "ab"]
    body = sent(asking(user("Hi"), calls, results[0], results[1], user("So?"), tools=(WEATHER,)))

    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]
    kinds = [(block["type"], block.get("content")) for block in body["messages"][-1]["content"]]
    assert kinds == [("tool_result", "A"), ("tool_result", "B"), ("text", None)]


def test_a_result_that_comes_late_moves_before_the_users_text():
    calls = Message("assistant", (ToolCall("a", "f"),))
    body = sent(asking(user("Hi"), calls, user("So?"), Message("tool", (ToolResult("a", "A"),)), tools=(WEATHER,)))
    assert [block["type"] for block in body["messages"][-1]["content"]] == ["tool_result", "text"]


def test_tools_that_were_called_are_declared_and_cannot_be_called_again():
    call = Message("assistant", (ToolCall("a", "f"),))
    body = sent(asking(user("Hi"), call, Message("tool", (ToolResult("a", "A"),))))
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_ids_of_other_vendors_are_written_with_the_characters_that_the_api_takes():
    call = Message("assistant", (ToolCall("call_0_a.b:c", "f"),))
    body = sent(asking(user("Hi"), call, Message("tool", (ToolResult("call_0_a.b:c", "A"),)), tools=(WEATHER,)))
    assert body["messages"][1]["content"][0]["id"] == "call_0_a_b_c"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "call_0_a_b_c"


def test_arguments_that_are_no_json_go_out_as_an_object_and_come_back_as_they_were():
    request = asking(user("Hi"), Message("assistant", (ToolCall("a", "f", '{"a":'),)), user("So?"), tools=(WEATHER,))
    encoded = anthropic.encode_request(request)
    assert isinstance(json.loads(encoded.wire.body)["messages"][1]["content"][0]["input"], dict)
    assert anthropic.decode_request(encoded.wire).request.messages == request.messages


def test_the_user_begins_even_if_the_conversation_does_not():
    encoded = anthropic.encode_request(asking(assistant("Welcome."), user("Hi")))
    assert [one["role"] for one in json.loads(encoded.wire.body)["messages"]] == ["user", "assistant", "user"]
    assert [(loss.parameter, loss.action) for loss in encoded.losses] == [("messages", "emulated")]


def test_empty_texts_and_turns_are_left_out():
    body = sent(asking(user("Hi"), Message("assistant", (Text(""),)), Message("user", (Text(""), Text("So?")))))
    assert body["messages"] == [{"role": "user", "content": "Hi"}, {"role": "user", "content": "So?"}]


def test_instructions_alone_become_the_users_turn():
    body = sent(asking(system("Say hello.")))
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": "Say hello."}]


def test_blanks_at_the_end_of_a_partial_answer_are_cut():
    encoded = anthropic.encode_request(asking(user("Hi"), assistant("Well, \n")))
    assert json.loads(encoded.wire.body)["messages"][-1]["content"] == "Well,"
    assert [loss.parameter for loss in encoded.losses] == ["messages"]
    blank = sent(asking(user("Hi"), assistant(" ")))
    assert [one["role"] for one in blank["messages"]] == ["user"]


def test_a_model_without_prefill_is_asked_to_go_on():
    without = replace(anthropic.CAPABILITIES, prefill=False)
    encoded = anthropic.encode_request(asking(user("Hi"), assistant("Well,")), capabilities=without)
    assert [one["role"] for one in json.loads(encoded.wire.body)["messages"]] == ["user", "assistant", "user"]
    assert [loss.action for loss in encoded.losses] == ["dropped"]


def test_any_json_object_is_asked_for_in_words():
    encoded = anthropic.encode_request(asking(response_format={"type": "json_object"}))
    body = json.loads(encoded.wire.body)
    assert "output_config" not in body
    assert "JSON object" in body["system"]
    assert [loss.action for loss in encoded.losses] == ["emulated"]


def test_every_object_of_a_schema_is_closed():
    inner = {"type": "object", "properties": {"b": {"anyOf": [{"type": "object"}, {"type": "null"}]}}}
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": inner}, "c": {"$ref": "#/$defs/d"}}}
    schema["$defs"] = {"d": {"type": "object", "additionalProperties": True}}
    asked = asking(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    written = sent(asked)["output_config"]["format"]["schema"]
    assert json.dumps(written).count('"additionalProperties": false') == 4
    assert "additionalProperties" not in schema


def test_a_schema_that_is_nested_too_deeply_is_refused():
    schema: dict[str, Any] = {}
    for _ in range(10_000):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(InvalidRequest, match="nested"):
        sent(asking(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))


def test_a_text_file_goes_as_text_and_another_kind_is_refused():
    body = sent(asking(Message("user", (File("a.md", "text/markdown", "é".encode()),))))
    source = body["messages"][0]["content"][0]["source"]
    assert source == {"type": "text", "media_type": "text/plain", "data": "é"}
    with pytest.raises(Unsupported, match="application/zip"):
        sent(asking(Message("user", (File("a.zip", "application/zip", b"PK\xff"),))))
    with pytest.raises(Unsupported, match="sound"):
        sent(asking(Message("user", (Audio(b"x"),))))


def test_a_document_of_blocks_is_read_as_its_text_and_its_pictures():
    page = [{"type": "text", "text": "one"}, {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}]
    block = {"type": "document", "title": "t", "source": {"type": "content", "content": page}}
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}
    assert read(body).request.messages[0].parts == (File("t", "text/plain", b"one"), Image(url="https://x/a.png"))


def test_a_result_keeps_its_pictures_and_its_documents_go_to_the_users_turn():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}}
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
    content = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}, document]
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}]},
    ]
    messages = read({"model": "m", "max_tokens": 1, "messages": turns}).request.messages
    result = ToolResult("t", "a\nb", name="f", images=(Image("image/jpeg", b"\xff\xd8\xff"),))
    assert messages[2:] == (Message("tool", (result,)), Message("user", (File("", "text/plain", b"d"),)))


# ---- thinking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "limit", "thinking", "max_tokens", "actions"),
    [
        (ReasoningOptions(budget=8000), None, {"type": "enabled", "budget_tokens": 8000}, 12096, []),
        (ReasoningOptions(budget=100), 4000, {"type": "enabled", "budget_tokens": 1024}, 4000, ["clamped"]),
        (ReasoningOptions(budget=8000), 4000, {"type": "enabled", "budget_tokens": 3999}, 4000, ["clamped"]),
        (ReasoningOptions(budget=8000), 500, None, 500, ["dropped"]),
        (ReasoningOptions(budget=0), 500, {"type": "disabled"}, 500, []),
        (ReasoningOptions("none"), 500, {"type": "disabled"}, 500, []),
        (ReasoningOptions("minimal"), 500, {"type": "adaptive"}, 500, ["clamped"]),
        (ReasoningOptions("max"), 500, {"type": "adaptive"}, 500, []),
    ],
)
def test_thinking_is_written_within_the_apis_limits(options, limit, thinking, max_tokens, actions):
    encoded = anthropic.encode_request(asking(reasoning=options, sampling=Sampling(max_tokens=limit)))
    body = json.loads(encoded.wire.body)
    assert (body.get("thinking"), body["max_tokens"]) == (thinking, max_tokens)
    assert [loss.action for loss in encoded.losses] == actions


def test_a_forced_call_wins_over_thinking():
    encoded = anthropic.encode_request(
        asking(reasoning=ReasoningOptions("high"), tools=(WEATHER,), tool_choice="required")
    )
    assert "thinking" not in json.loads(encoded.wire.body)
    assert [loss.parameter for loss in encoded.losses] == ["reasoning"]


def test_a_model_that_thinks_samples_as_it_likes():
    sampling = Sampling(temperature=0.3, top_p=0.99, top_k=5)
    encoded = anthropic.encode_request(asking(reasoning=ReasoningOptions("high"), sampling=sampling))
    assert {"temperature", "top_p", "top_k"} & json.loads(encoded.wire.body).keys() == {"top_p"}
    assert [loss.parameter for loss in encoded.losses] == ["temperature", "top_k"]


def test_the_vendors_signed_thoughts_go_back_and_others_stay_away():
    own = Reasoning("Hm", "EqQB", "anthropic_messages")
    other = Reasoning("", "gAAA", "openai_responses")
    encoded = anthropic.encode_request(asking(user("Hi"), Message("assistant", (own, other, Text("Yes"))), user("So?")))
    content = json.loads(encoded.wire.body)["messages"][1]["content"]
    assert content == [
        {"type": "thinking", "thinking": "Hm", "signature": "EqQB"},
        {"type": "text", "text": "Yes"},
    ]
    assert [loss.parameter for loss in encoded.losses] == ["reasoning"]


# ---- extras ----------------------------------------------------------------------------------------------------


def test_marks_stay_on_their_blocks_when_a_transcript_is_put_before():
    mark = {"cache_control": {"type": "ephemeral"}}
    content = [{"type": "text", "text": "long"} | mark, {"type": "text", "text": "Hi"}]
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
    request = read(body).request
    longer = replace(request, messages=(user("Earlier"), assistant("Yes"), *request.messages))
    assert sent(longer)["messages"][-1]["content"] == content


@pytest.mark.parametrize("marks", [5, {"messages.x.0": {}}, {"messages.-9.0": {"a": 1}}, {"tools": {}}, {"a.0": 5}])
def test_marks_that_stand_nowhere_are_left_out(marks):
    assert sent(asking(extra={"block_fields": marks}))["messages"] == [{"role": "user", "content": "Hi"}]


def test_another_vendors_extras_are_left_alone():
    extra = {"format": "gemini", "tools": [{"googleSearch": {}}], "service_tier": "flex", "anthropic_version": OLD}
    encoded = anthropic.encode_request(asking(extra=extra))
    assert json.loads(encoded.wire.body).keys() == {"model", "max_tokens", "messages"}
    assert encoded.wire.headers["anthropic-version"] == NEW


def test_an_applications_own_extras_are_written():
    body = sent(asking(extra={"service_tier": "standard_only", "unknown": 1}))
    assert body["service_tier"] == "standard_only"
    assert "unknown" not in body


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content": 5}', b'{"content": [{"type": "text"}]}', b"<html>"])
def test_a_body_that_is_no_answer_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed):
        anthropic.decode_response(WireResponse(body))


def test_an_error_with_a_good_status_is_an_error():
    body = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
    with pytest.raises(Overloaded, match="Overloaded"):
        anthropic.decode_response(WireResponse(body))


@settings(max_examples=60, deadline=None)
@given(strategies.responses(reasoning=True, signatures=True, source="anthropic_messages", reasons=("stop", "length")))
def test_an_answer_survives_both_ways(response):
    reply = replace(REPLY, model=response.model)
    assert anthropic.decode_response(anthropic.encode_response(response, reply)) == response
    raw = anthropic.stream_encoder(reply).encode(deltas_of(response))
    answer = Answer()
    for delta in decoded(anthropic, [raw]):
        answer.add(delta)
    assert replace(answer.response(), model=response.model) == response


@settings(max_examples=100)
@given(
    st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()),
    st.integers(200, 599),
)
def test_answers_of_any_kind_are_read_or_an_error(data, status):
    with pytest.raises(ByenatosError):
        anthropic.decode_response(WireResponse(data, status))
    assert isinstance(anthropic.decode_error(WireResponse(data, status)), ByenatosError)


def test_counts_that_are_not_known_become_0_for_clients_that_want_numbers():
    response = InferenceResponse(assistant("Hi"), "stop", Usage(None, None), "m")
    usage = json.loads(anthropic.encode_response(response, REPLY).body)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (0, 0)


def test_what_the_vendors_own_tools_did_comes_back_as_it_was():
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"encrypted_content": "E"}]},
    ]
    body = {"content": blocks, "stop_reason": "pause_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}
    response = anthropic.decode_response(WireResponse(json.dumps(body).encode()))

    assert response.detail == "pause"
    assert json.loads(anthropic.encode_response(response, REPLY).body)["content"] == blocks
    raw = anthropic.stream_encoder(REPLY).encode(deltas_of(response))
    again = Answer()
    for delta in decoded(anthropic, [raw]):
        again.add(delta)
    assert again.response().message == response.message
    history = asking(user("Hi"), response.message, extra={"tools": [{"type": "web_search_20250305", "name": "x"}]})
    assert sent(history)["messages"][1]["content"] == blocks


def test_a_vendor_tools_input_that_comes_in_pieces_is_put_together():
    start = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    start += b'{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}\n\n'
    piece = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":'
    raw = start + piece + b'"{\\"query\\""}}\n\n' + piece + b'":\\"x\\"}"}}\n\n'
    raw += b'data: {"type":"content_block_stop","index":0}\n\ndata: {"type":"message_stop"}\n\n'
    (kept, _) = decoded(anthropic, [raw])
    assert isinstance(kept, ReasoningDelta)
    assert json.loads(kept.signature or "")["input"] == {"query": "x"}


def test_another_vendors_signature_reaches_a_client_and_is_known_when_it_comes_back():
    thought = Reasoning("Hm", "c2ln", "gemini")
    call = ToolCall("t", "f", "{}", "Y2FsbA==")
    response = InferenceResponse(Message("assistant", (thought, call)), "tool_calls", Usage(1, 1), "m")
    content = json.loads(anthropic.encode_response(response, REPLY).body)["content"]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    assert read({"model": "m", "max_tokens": 1, "messages": turns}).request.messages[1].parts == (thought, call)


def test_what_goes_back_with_a_call_of_a_toolset_is_kept_with_it():
    block = {"type": "tool_use", "id": "t", "name": "scroll", "input": {}, "toolset_name": "computer"}
    body = {"content": [block | {"caller": {"type": "direct"}}], "stop_reason": "tool_use"}
    response = anthropic.decode_response(WireResponse(json.dumps(body).encode()))
    assert sent(asking(user("Hi"), response.message))["messages"][1]["content"] == [block]


@pytest.mark.parametrize("signature", ["{", '{"a": "\\ud800"}', "{}x"])
def test_a_signature_that_only_looks_like_a_block_is_written_as_data(signature):
    message = Message("assistant", (Reasoning("", signature, "anthropic_messages", redacted=True), Text("Hi")))
    block = sent(asking(user("Hi"), message, user("So?")))["messages"][1]["content"][0]
    assert block == {"type": "redacted_thinking", "data": signature}


# ---- streams ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(strategies.deltas(reasoning=True), st.lists(st.integers(0, 5000), max_size=5))
def test_a_stream_survives_both_ways_however_it_is_cut(deltas, cuts):
    encoder = anthropic.stream_encoder(REPLY)
    raw = b"".join(encoder.encode([delta]) for delta in deltas)
    found = joined(decoded(anthropic, [raw]))
    wanted = joined(deltas)
    if wanted[-1].reason == "content_filter":
        wanted[-1] = replace(wanted[-1], detail="refusal")
    assert found == wanted
    same_however_cut(anthropic, raw, cuts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from(
            [piece for one in cases("stream") for piece in (one.wire["raw"].encode(), one.wire["raw"].encode()[:200])]
        ),
        max_size=4,
    )
)
def test_bytes_of_any_kind_end_a_stream_once(pieces):
    holds_for_any_bytes(anthropic, pieces)


def test_many_deltas_in_one_call_say_the_same_with_fewer_events():
    deltas = [TextDelta("a"), TextDelta("b"), Moved("x", "y", "z"), TextDelta("c"), Finish()]
    raw = anthropic.stream_encoder(REPLY).encode(deltas)
    assert joined(decoded(anthropic, [raw])) == [TextDelta("abc"), Finish()]
    assert raw.count(b"text_delta") == 2


def test_blocks_never_interleave_and_the_stream_opens_once():
    encoder = anthropic.stream_encoder(REPLY)
    deltas = [ReasoningDelta("h"), TextDelta("a"), ToolCallDelta("t", "f", "{}"), TextDelta("b"), Finish("tool_calls")]
    raw = b"".join(encoder.encode([delta]) for delta in deltas).decode()
    names = [line.removeprefix("event: ") for line in raw.splitlines() if line.startswith("event: ")]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert names == ["message_start", *block * 4, "message_delta", "message_stop"]


def test_a_failure_is_said_as_an_error_and_the_stream_does_not_end_well():
    encoder = anthropic.stream_encoder(REPLY)
    raw = encoder.encode([TextDelta("Par")]) + encoder.encode([Failure("overloaded", "busy", partial=True)])
    assert b"message_stop" not in raw
    assert decoded(anthropic, [raw]) == [TextDelta("Par"), Failure("overloaded", "busy", partial=True)]


def test_keep_alives_mean_nothing():
    encoder = anthropic.stream_encoder(REPLY)
    raw = encoder.keep_alive() + encoder.encode([TextDelta("a")]) + encoder.keep_alive() + encoder.encode([Finish()])
    assert decoded(anthropic, [raw]) == [TextDelta("a"), Finish()]


def test_the_input_of_a_call_is_bounded(monkeypatch):
    monkeypatch.setattr("byenatos_sdk.formats.anthropic_messages.reading.MAX_EVENT", 1000)
    decoder = anthropic.stream_decoder()
    decoder.feed(b'data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f"}}\n\n')
    piece = b'data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"%b"}}\n\n'
    deltas = [delta for _ in range(20) for delta in decoder.feed(piece % (b"x" * 100))]
    assert [type(delta) for delta in deltas] == [Failure]


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", error_codes())
def test_an_error_keeps_its_meaning_on_its_way_through_the_format(code):
    error = error_from_code(code, "because", retry_after_s=7.5)
    wire = anthropic.encode_error(error)
    found = anthropic.decode_error(wire)
    family = {
        "internal": "upstream_failed",
        "unavailable": "overloaded",
        "driver_crashed": "overloaded",
        "draining": "overloaded",
        "client_too_slow": "overloaded",
    }
    assert found.code == family.get(code, code)
    assert "because" in found.message
    assert found.retry_after_s == 7.5
    assert (wire.headers.get("x-should-retry") == "false") == (not error.retryable)


def test_whether_to_try_again_is_what_the_vendor_says():
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"x"}}'
    found = [
        anthropic.decode_error(WireResponse(body, 429, {"x-should-retry": word})) for word in ("true", "false", "?")
    ]
    assert [error.retryable for error in found] == [True, False, True]


@pytest.mark.parametrize(
    ("error", "status", "type"),
    [
        (QuotaExceeded("x"), 402, "billing_error"),
        (NotFound("x"), 404, "not_found_error"),
        (RateLimited("x"), 429, "rate_limit_error"),
        (Overloaded("x"), 529, "overloaded_error"),
    ],
)
def test_errors_have_the_status_and_type_that_clients_expect(error, status, type):
    wire = anthropic.encode_error(error)
    assert (wire.status, json.loads(wire.body)["error"]["type"]) == (status, type)


def test_a_conversation_that_is_too_long_is_said_in_the_words_that_clients_look_for():
    body = json.loads(anthropic.encode_error(ContextLengthExceeded("9 tokens, 4 fit")).body)
    assert body["error"]["message"] == "prompt is too long: 9 tokens, 4 fit"
    known = ContextLengthExceeded("prompt is too long: 9 tokens > 4 maximum")
    assert json.loads(anthropic.encode_error(known).body)["error"]["message"] == known.message


# ---- lists and counts ------------------------------------------------------------------------------------------


def test_a_list_of_models_survives_both_ways():
    models = [
        ModelSpecification("a", name="A", context_length=200000, metadata={"max_output_tokens": "64000"}),
        ModelSpecification("b"),
    ]
    wire = anthropic.encode_models(models, 1763800000)
    found, page = anthropic.decode_models(wire)
    assert page == ""
    assert [(one.id, one.name, one.context_length) for one in found] == [("a", "A", 200000), ("b", "b", 0)]
    assert found[0].metadata["max_output_tokens"] == "64000"
    assert found[0].metadata["created_at"] == "2025-11-22T08:26:40Z"


def test_a_list_in_pages_names_the_next_one():
    body = b'{"data": [{"type": "model", "id": "a b", "display_name": "A"}], "has_more": true, "last_id": "a b"}'
    _, page = anthropic.decode_models(WireResponse(body))
    wire = anthropic.encode_models_request(page)
    assert (wire.method, wire.path) == ("GET", "/v1/models?limit=1000&after_id=a%20b")


def test_an_empty_list_has_no_first_model():
    body = json.loads(anthropic.encode_models([], 0).body)
    assert body == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_a_count_survives_both_ways():
    assert anthropic.decode_count(anthropic.encode_count(TokenCount(12))) == TokenCount(12)


@pytest.mark.parametrize("read_one", [anthropic.decode_count, anthropic.decode_models])
def test_what_is_no_list_and_no_count_is_the_servers_failure(read_one):
    with pytest.raises(UpstreamFailed):
        read_one(WireResponse(b"{}"))
    with pytest.raises(NotFound):
        read_one(WireResponse(b'{"type":"error","error":{"type":"not_found_error","message":"x"}}', 404))
