import base64
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
    wire_response,
)
from tests.sdk.formats.laws import decoded, holds_for_any_bytes, joined, same_however_cut

from byenatos_sdk.formats import gemini
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import Answer, deltas_of
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unsupported,
    UpstreamFailed,
    error_codes,
    error_from_code,
)
from byenatos_sdk.protocol.messages import (
    Audio,
    EmbeddingRequest,
    EmbeddingResponse,
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
    ReasoningOptions,
    Text,
    TextDelta,
    TokenCount,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    assistant,
    system,
    user,
)

REPLY = Reply("r1", "gemini-x", 1763800000)
ARRAY = replace(REPLY, asked=Decoded(InferenceRequest((user("x"),), extra={"format": "gemini", "alt": "json"})))
PATH = "/v1beta/models/gemini-x:generateContent"
WEATHER = Tool("get_weather", "Current weather", {"type": "object", "properties": {"city": {"type": "string"}}})


def cases(*kinds: str) -> list[Case]:
    found = load("gemini", *kinds) + load("gemini_own", *kinds)
    return [case for case in found if "models" not in case.meaning]


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body with the user's role and with tools' schemas where this format writes them."""
    found = json.loads(json.dumps(body))
    for content in found.get("contents", ()):
        content.setdefault("role", "user")
    for group in found.get("tools", ()):
        for one in group.get("functionDeclarations", ()):
            schema = json.dumps(one.pop("parameters", one.get("parametersJsonSchema", {})))
            one["parametersJsonSchema"] = json.loads(
                schema.replace('"OBJECT"', '"object"').replace('"STRING"', '"string"')
            )
    return found


def sent(request: InferenceRequest, **options: Any) -> dict[str, Any]:
    return json.loads(gemini.encode_request(request, **options).wire.body)


def read(body: dict[str, Any], path: str = PATH) -> Decoded:
    return gemini.decode_request(WireRequest(path, json.dumps(body).encode()))


def asking(*messages: Message, **fields: Any) -> InferenceRequest:
    return InferenceRequest(messages or (user("Hi"),), **fields)


def test_the_module_is_a_format_with_everything_else_too():
    for protocol in (Format, EmbeddingFormat, ModelListFormat, TokenCountFormat):
        assert isinstance(gemini, protocol)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    found = gemini.decode_request(wire_request(case))
    assert_request(found, case.meaning)
    assert gemini.decode_count_request(wire_request(case)) == found.request


@pytest.mark.parametrize("case", [one for one in cases("request") if "countTokens" not in one.wire["path"]], ids=str)
def test_a_request_that_was_read_is_written_as_it_came(case):
    read = gemini.decode_request(wire_request(case))
    encoded = gemini.encode_request(read.request, stream=read.stream)
    assert encoded.losses == ()
    assert encoded.wire.path.replace("v1beta", "v1") == case.wire["path"].replace("v1beta", "v1").replace(
        "m:fast", "m%3Afast"
    )
    assert normal(json.loads(encoded.wire.body)) == normal(case.meaning.get("written", case.wire["body"]))


@pytest.mark.parametrize("case", load("gemini", "request"), ids=str)
def test_a_meaning_is_written_as_the_vendor_takes_it(case):
    encoded = gemini.encode_request(request_of(case.meaning), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.wire.path == case.wire["path"]
    assert normal(json.loads(encoded.wire.body)) == normal(case.wire["body"])


@pytest.mark.parametrize(
    "case",
    [
        one
        for one in cases("response", "stream")
        if one.meaning.get("finish") not in {None, "unknown"} and "error" not in one.meaning
    ],
    ids=str,
)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    assert_response(gemini.decode_response(gemini.encode_response(response, REPLY)), case.meaning)
    for reply in (REPLY, ARRAY):
        raw = gemini.stream_encoder(reply).encode(deltas_of_meaning(case.meaning))
        assert_deltas(decoded(gemini, [raw]), case.meaning)


# ---- requests --------------------------------------------------------------------------------------------------


def signable(part):
    """Return ``part`` with its signature in base64, as the vendor's are."""
    signature = getattr(part, "signature", None)
    return part if signature is None else replace(part, signature=base64.b64encode(signature.encode()).decode())


def expressible(request: InferenceRequest) -> InferenceRequest:
    """Return ``request`` as this format gives it back: files have no names, and tools nothing strict."""

    def fitting(part):
        part = signable(part)
        return replace(part, name="") if isinstance(part, File) else part

    return replace(
        request,
        messages=tuple(replace(one, parts=tuple(fitting(part) for part in one.parts)) for one in request.messages),
        tools=tuple(replace(tool, strict=None) for tool in request.tools),
    )


@settings(max_examples=60, deadline=None)
@given(strategies.requests(gemini.CAPABILITIES).map(expressible), st.booleans())
def test_a_request_survives_both_ways(request, stream):
    encoded = gemini.encode_request(request, stream=stream)
    assert encoded.losses == ()
    found = gemini.decode_request(encoded.wire)
    assert found.stream == stream
    assert found.request == request


@settings(max_examples=100)
@given(
    st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()), st.text(max_size=30)
)
def test_bytes_and_paths_of_any_kind_are_read_or_refused(data, path):
    for read_one in (gemini.decode_request, gemini.decode_count_request):
        for where in (PATH, path):
            with pytest.raises(InvalidRequest):
                read_one(WireRequest(where, data))


def refusal(body: dict[str, Any]) -> str | None:
    """Return why a request is refused, ``None`` if it is read."""
    try:
        read(body)
    except InvalidRequest as error:
        return error.message
    return None


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["ANY", "user", "OBJECT", "e30="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "parts",
                    "role",
                    "text",
                    "functionCall",
                    "function_response",
                    "name",
                    "inlineData",
                    "data",
                    "type",
                    "mode",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    ODD,
    st.sampled_from(["contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings"]),
)
def test_a_field_of_any_shape_is_read_or_refused_with_its_name(value, field):
    refused = refusal({"contents": [{"parts": [{"text": "Hi"}]}]} | {field: value})
    assert refused is None or refused.startswith((field, "body: expected JSON"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"contents": None}, "contents"),
        ({"contents": "Hi"}, "contents"),
        ({"contents": [{"role": "robot", "parts": []}]}, r"contents\[0\].role"),
        ({"contents": [{"parts": [{"text": 5}]}]}, r"contents\[0\].parts\[0\].text"),
        ({"contents": [{"parts": [{"inline_data": {"data": "%"}}]}]}, r"contents\[0\].parts\[0\].inlineData.data"),
        ({"contents": [{"parts": [{"fileData": {}}]}]}, "fileData.fileUri"),
        ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "functionCall.name"),
        ({"contents": [{"parts": [{"functionCall": {"name": "f", "args": []}}]}]}, "functionCall.args"),
        ({"generationConfig": {"maxOutputTokens": 5.5}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"generationConfig": {"candidateCount": -1}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "DEEP"}}}, "thinkingConfig.thinkingLevel"),
        ({"tools": [{"functionDeclarations": [{}]}]}, r"tools\[0\].functionDeclarations\[0\].name"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}}, "toolConfig.functionCallingConfig.mode"),
    ],
)
def test_a_wrong_field_is_named(change, named):
    with pytest.raises(InvalidRequest, match=named):
        read({"contents": [{"parts": [{"text": "Hi"}]}]} | change)


@pytest.mark.parametrize("path", ["/v1beta/models/x", "/v1beta/models/:generateContent", "/x:generateContent", ""])
def test_a_path_without_model_or_verb_is_refused(path):
    with pytest.raises(InvalidRequest, match="path"):
        read({"contents": [{"parts": [{"text": "Hi"}]}]}, path)


@pytest.mark.parametrize("depth", [100, 300, 450, 900, 100_000])
def test_json_that_is_nested_too_deeply_is_refused(depth):
    nested = '{"type":"OBJECT","properties":{"a":' * depth + "{}" + "}}" * depth
    hi = '"contents":[{"parts":[{"text":"Hi"}]}]'
    for body in (f'{{{hi},"x":{nested}}}', f'{{{hi},"generationConfig":{{"responseSchema":{nested}}}}}'):
        try:
            read_one = gemini.decode_request(WireRequest(PATH, body.encode()))
        except InvalidRequest:
            assert depth > 100
        else:
            assert read_one.request.messages == (user("Hi"),)


def test_pieces_of_a_stream_that_a_client_sends_back_are_one_turn():
    pieces = [{"role": "model", "parts": [{"text": text}]} for text in ("Hel", "", "lo")]
    call = {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}
    hi = {"role": "user", "parts": [{"text": "Hi"}]}
    messages = read({"contents": [hi, *pieces, call, hi, hi]}).request.messages
    assert messages == (
        user("Hi"),
        Message("assistant", (Text("Hello"), ToolCall("call_0_f", "f"))),
        user("Hi"),
        user("Hi"),
    )


def test_how_many_answers_and_in_what_form_stands_in_the_request():
    body = {"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"candidateCount": 3}}
    assert read(body).choices == 3
    stream = PATH.replace("generate", "streamGenerate")
    assert (read(body, stream + "?alt=sse&key=k").stream, read(body, stream).stream) == (True, True)
    assert read(body, stream).request.extra["alt"] == "json"
    assert "alt" not in read(body, stream + "?key=k&alt=sse").request.extra


def test_whether_an_answer_streams_stands_in_the_path():
    wire = gemini.encode_request(asking(model="gemini-x"), stream=True).wire
    assert wire.path == "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
    assert "stream" not in json.loads(wire.body)
    assert gemini.encode_request(asking(model="tunedModels/a")).wire.path == "/v1beta/tunedModels/a:generateContent"


# ---- what the API wants ----------------------------------------------------------------------------------------


def test_results_of_several_messages_become_one_turn():
    calls = Message("assistant", (ToolCall("a", "f"), ToolCall("b", "f")))
    results = [Message("tool", (ToolResult(call, call.upper()),)) for call in "ba"]
    contents = sent(asking(user("Hi"), calls, *results, tools=(WEATHER,)))["contents"]
    assert [one["role"] for one in contents] == ["user", "model", "user"]
    found = [part["functionResponse"] for part in contents[-1]["parts"]]
    assert [(one["id"], one["name"], one["response"]) for one in found] == [
        ("b", "f", {"output": "B"}),
        ("a", "f", {"output": "A"}),
    ]


def test_results_of_calls_without_ids_stand_in_the_order_of_the_calls():
    calls = Message("assistant", (ToolCall("call_0_f", "f"), ToolCall("call_1_f_r1", "f")))
    results = Message("tool", (ToolResult("call_1_f_r1", "second"), ToolResult("call_0_f", "first")))
    contents = sent(asking(user("Hi"), calls, results, tools=(WEATHER,)))["contents"]
    assert all("id" not in part["functionCall"] for part in contents[1]["parts"])
    assert [part["functionResponse"]["response"]["output"] for part in contents[2]["parts"]] == ["first", "second"]


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("22C", {"output": "22C"}),
        ('{"temp": 22}', {"temp": 22}),
        ('{"output": 1}', {"output": '{"output": 1}'}),
        ('{"result": "x"}', {"output": '{"result": "x"}'}),
        ("[1]", {"output": "[1]"}),
        ("{broken", {"output": "{broken"}),
        ("", {"output": ""}),
    ],
)
def test_what_a_tool_answered_is_an_object(text, response):
    call = Message("assistant", (ToolCall("a", "f"),))
    encoded = gemini.encode_request(asking(user("Hi"), call, Message("tool", (ToolResult("a", text, name="f"),))))
    assert json.loads(encoded.wire.body)["contents"][2]["parts"][0]["functionResponse"]["response"] == response
    (found,) = gemini.decode_request(encoded.wire).request.messages[2].parts
    assert isinstance(found, ToolResult)
    assert found.text.replace(" ", "") == text.replace(" ", "")


def test_a_step_of_another_model_is_signed_in_its_place_for_models_that_want_it():
    foreign = Message("assistant", (ToolCall("a", "f"), ToolCall("b", "f")))
    own = Message("assistant", (ToolCall("c", "f", signature="c2ln"),))
    earlier = Message("assistant", (ToolCall("d", "f"),))
    turns = (
        user("Hi"),
        earlier,
        user("So?"),
        foreign,
        Message("tool", (ToolResult("a", ""), ToolResult("b", ""))),
        own,
    )
    request = asking(*turns, Message("tool", (ToolResult("c", ""),)), tools=(WEATHER,))

    def signatures(model):
        contents = sent(replace(request, model=model))["contents"]
        return [part.get("thoughtSignature") for one in contents for part in one["parts"] if "functionCall" in part]

    assert signatures("gemini-3-pro") == [None, "skip_thought_signature_validator", None, "c2ln"]
    assert signatures("gemini-2.5-pro") == [None, None, None, "c2ln"]


def test_a_signature_that_cannot_be_the_vendors_stays_away():
    call = Message(
        "assistant", (ToolCall("a", "f", signature='{"toolset_name":"x"}'), ToolCall("b", "f", signature="é"))
    )
    parts = sent(asking(user("Hi"), call, user("So?")))["contents"][1]["parts"]
    assert all("thoughtSignature" not in part for part in parts)


def test_parallel_calls_cannot_be_forbidden_and_that_is_told():
    request = asking(tools=(WEATHER,), parallel_tool_calls=False)
    assert [loss.parameter for loss in gemini.encode_request(request).losses] == ["parallel_tool_calls"]
    with pytest.raises(Unsupported, match="parallel"):
        gemini.encode_request(request, strict=True)


def test_tools_that_want_their_schemas_kept_lose_that_unless_a_call_is_required():
    request = asking(tools=(replace(WEATHER, strict=True),))
    assert [loss.parameter for loss in gemini.encode_request(request).losses] == ["tools.strict"]
    assert gemini.encode_request(replace(request, tool_choice="required")).losses == ()


@pytest.mark.parametrize(
    ("options", "model", "config", "actions"),
    [
        (ReasoningOptions("high"), "gemini-3-pro", {"thinkingLevel": "HIGH"}, []),
        (ReasoningOptions("high"), "gemini-2.5-flash", {"thinkingBudget": 24576}, []),
        (ReasoningOptions("max"), "gemini-x", {"thinkingLevel": "XHIGH"}, ["clamped"]),
        (ReasoningOptions("none"), "gemini-x", {"thinkingBudget": 0}, []),
        (ReasoningOptions("low", 2000), "gemini-x", {"thinkingBudget": 2000}, ["dropped"]),
        (ReasoningOptions(summary="detailed"), "gemini-x", {"includeThoughts": True}, []),
    ],
)
def test_thinking_is_written_as_the_model_takes_it(options, model, config, actions):
    encoded = gemini.encode_request(asking(model=model, reasoning=options))
    assert json.loads(encoded.wire.body)["generationConfig"]["thinkingConfig"] == config
    assert [loss.action for loss in encoded.losses] == actions


def test_empty_texts_and_turns_are_left_out():
    body = sent(asking(user("Hi"), Message("assistant", (Text(""),)), user("So?")))
    assert [one["role"] for one in body["contents"]] == ["user", "user"]
    assert sent(asking(Message("user", (Text(""),))))["contents"] == [{"role": "user", "parts": [{"text": "…"}]}]


def test_instructions_alone_become_the_users_turn():
    body = sent(asking(system("Say hello.")))
    assert "systemInstruction" not in body
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Say hello."}]}]


def test_a_kind_that_nobody_named_is_guessed_from_the_address():
    parts = sent(asking(Message("user", (Image(url="https://x/a.jpg?y"), File(url="https://x/b.pdf")))))["contents"][0]
    assert [part["fileData"]["mimeType"] for part in parts["parts"]] == ["image/jpeg", "application/pdf"]


def test_a_picture_in_its_address_goes_inline():
    part = sent(asking(Message("user", (Image(url="data:image/gif;base64,R0lG"),))))["contents"][0]["parts"][0]
    assert part == {"inlineData": {"mimeType": "image/gif", "data": "R0lG"}}


def test_sounds_and_documents_go_inline():
    media = (Audio(b"ID3", "audio/mpeg"), File("a.pdf", "application/pdf", b"%PDF"))
    encoded = gemini.encode_request(asking(Message("user", media)))
    assert gemini.decode_request(encoded.wire).request.messages[0].parts == (media[0], replace(media[1], name=""))


def test_another_vendors_extras_are_left_alone():
    extra = {"format": "anthropic_messages", "tools": [{"type": "web_search_20250305"}], "labels": {"a": "b"}}
    assert sent(asking(extra=extra)).keys() == {"contents"}
    assert sent(asking(extra={"labels": {"a": "b"}, "generationConfig": {"mediaResolution": "X"}})) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"mediaResolution": "X"},
        "labels": {"a": "b"},
    }


def test_what_the_vendor_ran_comes_back_as_it_was():
    parts = [
        {"executableCode": {"language": "PYTHON", "code": "1+1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
        {"text": "2"},
    ]
    body = {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]}
    response = gemini.decode_response(WireResponse(json.dumps(body).encode()))
    assert response.text == "2"
    assert json.loads(gemini.encode_response(response, REPLY).body)["candidates"][0]["content"]["parts"] == parts
    assert sent(asking(user("Hi"), response.message, user("So?")))["contents"][1]["parts"] == parts
    raw = gemini.stream_encoder(REPLY).encode(deltas_of(response))
    again = Answer()
    for delta in decoded(gemini, [raw]):
        again.add(delta)
    assert again.response().message == response.message
    contents = [{"parts": [{"text": "Hi"}]}, {"role": "model", "parts": parts}]
    assert read({"contents": contents}).request.messages[1] == response.message


# ---- answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"candidates": 5}', b"<html>", b'{"candidates": []}'])
def test_a_body_that_is_no_answer_is_the_servers_failure(body):
    with pytest.raises(UpstreamFailed):
        gemini.decode_response(WireResponse(body))


@pytest.mark.parametrize("form", ["%s", "[%s]"])
def test_an_error_with_a_good_status_is_an_error(form):
    body = form % '{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}'
    with pytest.raises(Overloaded, match="busy"):
        gemini.decode_response(WireResponse(body.encode()))


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER"])
def test_an_answer_that_the_vendor_broke_off_is_an_error(reason):
    body = {"candidates": [{"finishReason": reason, "finishMessage": "why"}]}
    with pytest.raises(UpstreamFailed, match=f"{reason}: why"):
        gemini.decode_response(WireResponse(json.dumps(body).encode()))


@settings(max_examples=60, deadline=None)
@given(
    strategies.responses(
        usage=strategies.usages().map(lambda usage: replace(usage, cache_write_tokens=0)),
        reasoning=True,
        signatures=True,
        source="gemini",
        logprobs=True,
    )
)
def test_an_answer_survives_both_ways(response):
    parts = tuple(signable(part) for part in response.message.parts)
    response = replace(response, message=Message("assistant", parts))
    reply = replace(REPLY, model=response.model)
    assert gemini.decode_response(gemini.encode_response(response, reply)) == response
    for one in (reply, ARRAY):
        answer = Answer()
        for delta in decoded(gemini, [gemini.stream_encoder(one).encode(deltas_of(response))]):
            answer.add(delta)
        assert replace(answer.response(), model=response.model) == response


@settings(max_examples=100)
@given(
    st.binary(max_size=64) | strategies.json_objects.map(lambda value: json.dumps(value).encode()),
    st.integers(200, 599),
)
def test_answers_of_any_kind_are_read_or_an_error(data, status):
    with pytest.raises(ByenatosError):
        gemini.decode_response(WireResponse(data, status))
    assert isinstance(gemini.decode_error(WireResponse(data, status)), ByenatosError)


def test_ids_that_are_made_up_differ_from_answer_to_answer():
    def answer(response_id):
        parts = [{"functionCall": {"name": "f", "args": {}}}] * 2
        body = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "responseId": response_id}
        return gemini.decode_response(WireResponse(json.dumps(body).encode())).message.parts

    ids = [part.id for part in (*answer("r1"), *answer("r2")) if isinstance(part, ToolCall)]
    assert ids == ["call_0_f_r1", "call_1_f_r1", "call_0_f_r2", "call_1_f_r2"]


def test_another_vendors_signature_reaches_a_client_and_is_known_when_it_comes_back():
    parts = (
        Reasoning("Hm", "EqQB", "anthropic_messages"),
        Reasoning("", "EmwK", "anthropic_messages", redacted=True),
        ToolCall("t", "f", "{}", '{"toolset_name":"x"}'),
    )
    response = InferenceResponse(Message("assistant", parts), "tool_calls", Usage(1, 1), "m")
    content = json.loads(gemini.encode_response(response, REPLY).body)["candidates"][0]["content"]
    assert read({"contents": [{"parts": [{"text": "Hi"}]}, content]}).request.messages[1].parts == parts
    raw = gemini.stream_encoder(REPLY).encode(deltas_of(response))
    assert decoded(gemini, [raw])[:-1] == deltas_of(response)[:-1]


def test_counts_that_are_not_known_are_left_out():
    response = InferenceResponse(assistant("Hi"), "stop", Usage(None, None), "m")
    wire = gemini.encode_response(response, REPLY)
    assert "usageMetadata" not in json.loads(wire.body)
    assert gemini.decode_response(wire).usage == Usage(None, None)


# ---- streams ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(strategies.deltas(reasoning=True, logprobs=True), st.lists(st.integers(0, 5000), max_size=5), st.booleans())
def test_a_stream_survives_both_ways_however_it_is_cut(deltas, cuts, array):
    encoder = gemini.stream_encoder(ARRAY if array else REPLY)
    raw = b"".join(encoder.encode([delta]) for delta in deltas)
    wanted = [
        replace(one, usage=replace(one.usage, cache_write_tokens=0)) if isinstance(one, Finish) else one
        for one in deltas
    ]
    assert joined(decoded(gemini, [raw])) == joined(wanted)
    same_however_cut(gemini, raw, cuts)
    if array:
        assert isinstance(json.loads(raw), list)


RAW = [piece for one in cases("stream") for piece in (one.wire["raw"].encode(), one.wire["raw"].encode()[:100])]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([*RAW, b"[", b"data: ", b'{"candidates"', b'"\\']), max_size=4)
)
def test_bytes_of_any_kind_end_a_stream_once(pieces):
    holds_for_any_bytes(gemini, pieces)


def test_the_answer_that_is_asked_for_is_read():
    body = {
        "candidates": [
            {"content": {"parts": [{"text": text}]}, "index": at, "finishReason": "STOP"}
            for at, text in enumerate("ab")
        ]
    }
    raw = b"data: " + json.dumps(body).encode() + b"\r\n\r\n"
    assert decoded(gemini, [raw], choice=1) == [TextDelta("b"), Finish(usage=Usage(None, None))]


def test_many_deltas_in_one_call_say_the_same_with_fewer_pieces():
    deltas = [TextDelta("a"), TextDelta("b"), Moved("x", "y", "z"), TextDelta("c"), Finish()]
    raw = gemini.stream_encoder(REPLY).encode(deltas)
    assert joined(decoded(gemini, [raw])) == [TextDelta("abc"), Finish()]
    assert raw.count(b"data: ") == 3


@pytest.mark.parametrize("reply", [REPLY, ARRAY], ids=["events", "array"])
def test_a_failure_is_said_as_an_error_and_the_stream_does_not_end_well(reply):
    encoder = gemini.stream_encoder(reply)
    raw = encoder.encode([TextDelta("Par")]) + encoder.encode([Failure("overloaded", "busy", 2.5, partial=True)])
    assert b"finishReason" not in raw
    assert decoded(gemini, [raw]) == [TextDelta("Par"), Failure("overloaded", "busy", 2.5, partial=True)]


@pytest.mark.parametrize("reply", [REPLY, ARRAY], ids=["events", "array"])
def test_keep_alives_mean_nothing(reply):
    encoder = gemini.stream_encoder(reply)
    raw = encoder.keep_alive() + encoder.encode([TextDelta("a")]) + encoder.keep_alive() + encoder.encode([Finish()])
    assert decoded(gemini, [raw]) == [TextDelta("a"), Finish()]


def test_the_vendors_client_finds_an_error_at_the_beginning_of_its_piece():
    assert gemini.stream_encoder(REPLY).encode([Failure("internal", "x")]).startswith(b'data: {"error":')


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", error_codes())
def test_an_error_keeps_its_meaning_on_its_way_through_the_format(code):
    found = gemini.decode_error(gemini.encode_error(error_from_code(code, "because", retry_after_s=7.5)))
    assert (found.code, found.message, found.retry_after_s) == (code, "because", 7.5)


@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        ("unauthenticated", 401, "UNAUTHENTICATED"),
        ("not_found", 404, "NOT_FOUND"),
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"),
        ("context_length_exceeded", 400, "INVALID_ARGUMENT"),
        ("overloaded", 503, "UNAVAILABLE"),
        ("upstream_timeout", 504, "DEADLINE_EXCEEDED"),
    ],
)
def test_errors_have_the_status_that_clients_expect(code, status, word):
    wire = gemini.encode_error(error_from_code(code, "x", retry_after_s=34.5))
    error = json.loads(wire.body)["error"]
    assert (wire.status, error["code"], error["status"]) == (status, status, word)
    assert error["details"][1]["retryDelay"] == "34.5s"


# ---- lists, counts, embeddings ---------------------------------------------------------------------------------


def test_the_list_of_models_in_the_cases_is_read_by_id():
    (case,) = [one for one in load("gemini") if one.id == "gemini/models-list"]
    models, page = gemini.decode_models(wire_response(case))
    assert (page, [f"models/{one.id}" for one in models]) == ("", case.meaning["models"])
    assert (models[0].context_length, models[0].name) == (1048576, "Gemini X")
    assert models[0].features == {"completion"}


def test_a_list_of_models_survives_both_ways():
    models = [
        ModelSpecification("a", name="A", context_length=9, features=frozenset({"completion", "reasoning"})),
        ModelSpecification("b", name="B", features=frozenset({"embeddings"}), metadata={"max_output_tokens": "5"}),
        ModelSpecification("tunedModels/c", name="C", features=frozenset({"completion"})),
    ]
    wire = gemini.encode_models(models, 0)
    assert [one["name"] for one in json.loads(wire.body)["models"]] == ["models/a", "models/b", "tunedModels/c"]
    assert gemini.decode_models(wire) == (models, "")


def test_a_list_in_pages_names_the_next_one():
    _, page = gemini.decode_models(WireResponse(b'{"models": [], "nextPageToken": "a b"}'))
    wire = gemini.encode_models_request(page)
    assert (wire.method, wire.path) == ("GET", "/v1beta/models?pageSize=1000&pageToken=a%20b")


def test_a_count_survives_both_ways_and_counts_instructions_and_tools():
    assert gemini.decode_count(gemini.encode_count(TokenCount(12))) == TokenCount(12)
    request = asking(system("S"), user("Hi"), model="gemini-x", tools=(WEATHER,))
    wire = gemini.encode_count_request(request)
    assert wire.path == "/v1beta/models/gemini-x:countTokens"
    assert gemini.decode_count_request(wire) == request


@settings(max_examples=50)
@given(
    st.lists(st.text(max_size=10), max_size=3),
    st.none() | st.integers(1, 3072),
    st.sampled_from([None, "RETRIEVAL_QUERY"]),
)
def test_an_embedding_request_survives_both_ways(inputs, dimensions, task):
    extra = {} if task is None or not inputs else {"format": "gemini", "taskType": task}
    request = EmbeddingRequest(tuple(inputs), "text-embedding-x", dimensions if inputs else None, extra)
    assert gemini.decode_embedding_request(gemini.encode_embedding_request(request)) == request


def test_one_text_is_asked_for_and_answered_in_its_own_form():
    body = {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "output_dimensionality": 2.0}
    wire = WireRequest("/v1beta/models/e:embedContent", json.dumps(body).encode())
    assert gemini.decode_embedding_request(wire) == EmbeddingRequest(("ab",), "e", 2)
    response = EmbeddingResponse(((0.5, 1.0),), "", Usage(3, 0))
    written = gemini.encode_embedding_response(response, REPLY, wire)
    assert json.loads(written.body)["embedding"] == {"values": [0.5, 1.0]}
    assert gemini.decode_embedding_response(written) == response


def test_many_texts_are_answered_in_their_order():
    asked = gemini.encode_embedding_request(EmbeddingRequest(("a", "b"), "e"))
    response = EmbeddingResponse(((0.5,), (1.0,)), "", Usage(None, 0))
    assert gemini.decode_embedding_response(gemini.encode_embedding_response(response, REPLY, asked)) == response


def test_texts_that_ask_for_different_things_are_refused():
    asked = [{"content": {"parts": [{"text": "a"}]}, "outputDimensionality": size} for size in (1, 2)]
    wire = WireRequest("/v1beta/models/e:batchEmbedContents", json.dumps({"requests": asked}).encode())
    with pytest.raises(InvalidRequest, match="outputDimensionality"):
        gemini.decode_embedding_request(wire)


@pytest.mark.parametrize("body", [{}, {"content": {}}, {"content": {"parts": [{"inlineData": {}}]}}])
def test_an_embedding_of_no_text_is_refused(body):
    with pytest.raises(InvalidRequest, match="content"):
        gemini.decode_embedding_request(WireRequest("/v1beta/models/e:embedContent", json.dumps(body).encode()))


@pytest.mark.parametrize("read_one", [gemini.decode_count, gemini.decode_models, gemini.decode_embedding_response])
def test_an_error_instead_of_a_list_is_an_error(read_one):
    with pytest.raises(NotFound):
        read_one(WireResponse(b'{"error": {"code": 404, "message": "x", "status": "NOT_FOUND"}}', 404))
    with pytest.raises(UpstreamFailed):
        read_one(WireResponse(b"[]"))


def test_words_may_come_as_their_numbers():
    schema = {"type": 6, "properties": {"city": {"type": 1}, "days": {"type": 5, "items": {"type": 3}}}}
    body = {
        "contents": [{"parts": [{"text": "Hi"}]}],
        "tools": [{"functionDeclarations": [{"name": "weather", "parameters": schema}]}],
        "tool_config": {"function_calling_config": {"mode": 2}},
    }
    wire = WireRequest("/v1beta/models/m:generateContent", json.dumps(body).encode())
    asked = gemini.decode_request(wire).request
    assert asked.tool_choice == "required"
    assert asked.tools[0].parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
    }
    text = {"content": {"parts": [{"text": "Hi"}]}, "taskType": 2}
    wire = WireRequest("/v1beta/models/m:batchEmbedContents", json.dumps({"requests": [text]}).encode())
    assert gemini.decode_embedding_request(wire).extra["taskType"] == "RETRIEVAL_DOCUMENT"
