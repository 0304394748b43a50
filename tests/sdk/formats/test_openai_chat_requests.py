"""OpenAI's requests, for chats and for completions: what clients send, what vendors want, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import laws, strategies
from tests.sdk.formats.chat_dialects import (
    REPLY,
    added,
    asked,
    chat,
    client,
)

from byenatos_sdk.formats import llamacpp_server, openai_chat, vllm
from byenatos_sdk.formats.wire import Reply, WireRequest, json_body
from byenatos_sdk.protocol.errors import (
    InvalidRequest,
)
from byenatos_sdk.protocol.messages import (
    Finish,
    InferenceRequest,
    Logprobs,
    Message,
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
    user,
)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "m"}, "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages="Hi"), "messages"),
        (chat(messages=[{"content": "x"}]), "messages[0].role"),
        (chat(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
        (chat(messages=[{"role": "user"}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": [{"type": "video"}]}]), "messages[0].content[0].type"),
        (
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]),
            "messages[0].content[0].image_url",
        ),
        (chat(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
        (chat(messages=[{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls[0].function"),
        (chat(logprobs=False, top_logprobs=3), "top_logprobs"),
        (chat(top_logprobs=3), "top_logprobs"),
        (chat(tool_choice="f"), "tool_choice"),
        (chat(temperature="hot"), "temperature"),
        (chat(temperature=True), "temperature"),
        (chat(max_tokens=1.5), "max_tokens"),
        (chat(stop=[1]), "stop"),
        (chat(n=0), "n"),
        (chat(logit_bias={"x": 1}), "logit_bias"),
        (chat(stream="yes"), "stream"),
        (chat(tools=[{"type": "function"}]), "tools[0].function"),
        (chat(tools=[{"type": "browser"}]), "tools[0].type"),
        (chat(tool_choice={"type": "function", "function": {"name": "f"}}), "tool_choice"),
        (chat(response_format={"type": "xml"}), "response_format.type"),
        (chat(reasoning_effort="enormous"), "reasoning_effort"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(body, field):
    with pytest.raises(InvalidRequest) as caught:
        asked(body)

    assert caught.value.message.startswith(field + ":")


def test_a_body_that_is_no_json_object_is_refused():
    for body in (b"", b"[]", b"{", b"\xff", b'"x"'):
        with pytest.raises(InvalidRequest, match="body: expected"):
            openai_chat.decode_request(WireRequest("/v1/chat/completions", body))


def test_unknown_fields_are_ignored_and_known_ones_without_a_canonical_name_are_kept():
    found = asked(chat(frobnicate=1, store=True, metadata={"a": "b"}, service_tier="flex", prompt_cache_key="k"))

    assert found.request.extra == {
        "format": "openai_chat",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
    }
    again = json.loads(openai_chat.encode_request(found.request).wire.body)
    assert again == chat(store=True, metadata={"a": "b"}, service_tier="flex", prompt_cache_key="k")


def test_what_another_vendor_s_client_left_in_extra_stays_away():
    request = InferenceRequest((user("x"),), extra={"num_ctx": 5, "store": False})

    body = json.loads(openai_chat.encode_request(request).wire.body)

    assert "num_ctx" not in body
    assert body["store"] is False


def test_what_is_meant_for_another_server_of_the_family_goes_to_it_and_to_no_other():
    meant = {"structured_outputs": {"regex": "a+"}, "min_tokens": 2, "grammar": 'root ::= "a"'}

    found = asked(chat(store=True, **meant)).request

    assert found.extra == {"format": "openai_chat", "store": True, **meant}
    assert json.loads(openai_chat.encode_request(found).wire.body) == chat(store=True)
    to_vllm = json.loads(vllm.encode_request(found).wire.body)
    assert to_vllm == chat(structured_outputs={"regex": "a+"}, min_tokens=2)
    assert json.loads(llamacpp_server.encode_request(found).wire.body) == chat(grammar='root ::= "a"')


def test_functions_of_old_clients_are_tools():
    found = asked(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
                {"role": "function", "name": "f", "content": "1"},
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
                {"role": "function", "name": "f", "content": "2"},
            ],
            "functions": [{"name": "f", "parameters": {"type": "object"}}],
            "function_call": {"name": "f"},
        }
    ).request

    assert found.tools == (Tool("f", "", {"type": "object"}),)
    assert found.tool_choice == "f"
    assert [message.parts for message in found.messages[1:]] == [
        (ToolCall("call_0_f", "f", '{"a":1}'),),
        (ToolResult("call_0_f", "1", name="f"),),
        (ToolCall("call_1_f", "f", "{}"),),
        (ToolResult("call_1_f", "2", name="f"),),
    ]


def test_a_tool_may_be_chosen_by_its_name_alone_as_clients_of_hugging_face_s_do():
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in "fg"]

    assert asked(chat(tools=tools, tool_choice="g")).request.tool_choice == "g"


def test_a_choice_among_some_tools_leaves_the_others_out():
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in "fgh"]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": name}} for name in "fh"]}

    found = asked(chat(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})).request

    assert [tool.name for tool in found.tools] == ["f", "h"]
    assert found.tool_choice == "required"


def test_calls_to_a_client_s_tools_of_free_text_come_back_as_free_text(replay):
    found = asked(chat(tools=[{"type": "custom", "custom": {"name": "patch", "description": "d"}}]))
    assert found.request.tools[0].parameters["required"] == ["input"]
    reply = replace(REPLY, asked=replace(found, usage_in_stream=True))
    deltas = [
        ToolCallDelta("a", "patch", '{"input":"+1"}'),
        ToolCallDelta("b", "patch", "+2"),
        Finish("tool_calls", Usage(1, 1), "m"),
    ]
    replay.answer(openai_chat.encode_response(added(deltas), reply))
    raw = openai_chat.stream_encoder(reply).encode(deltas)

    (choice,) = client(replay).chat.completions.create(model="m", messages=[]).choices

    said = [(call.type, call.id, call.custom.name, call.custom.input) for call in choice.message.tool_calls]
    assert said == [("custom", "a", "patch", "+1"), ("custom", "b", "patch", "+2")]
    assert laws.decoded(openai_chat, [raw])[0] == deltas[0]


def test_a_result_that_comes_late_is_named_after_the_last_call_of_its_id():
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    other = {"type": "function", "function": {"name": "g", "arguments": "{}"}}
    found = asked(
        chat(
            messages=[
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"id": "a", **call}]},
                {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}]},
                {"role": "assistant", "tool_calls": [{"id": "a", **other}]},
                {"role": "tool", "tool_call_id": "a", "content": None},
            ]
        )
    ).request

    assert found.messages[2].parts == (ToolResult("a", "1", name="f"),)
    assert found.messages[4].parts == (ToolResult("a", "", name="g"),)


def test_the_newer_limit_counts_where_both_are_given():
    assert asked(chat(max_tokens=5, max_completion_tokens=7)).request.sampling.max_tokens == 7


def test_logprobs_are_a_switch_and_a_count():
    assert asked(chat(logprobs=True)).request.sampling.logprobs == 0
    assert asked(chat(logprobs=True, top_logprobs=3)).request.sampling.logprobs == 3
    assert asked(chat(logprobs=False, top_logprobs=0)).request.sampling.logprobs is None
    body = json.loads(
        openai_chat.encode_request(InferenceRequest((user("x"),), sampling=Sampling(logprobs=3))).wire.body
    )
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


def test_the_end_user_has_an_old_and_a_new_name():
    assert asked(chat(user="a")).request.metadata == {"end_user": "a"}
    assert asked(chat(user="a", safety_identifier="b")).request.metadata == {"end_user": "b"}


def test_azure_s_model_stands_in_the_address():
    found = asked({"messages": chat()["messages"]}, "/openai/deployments/my%2Fgpt/chat/completions?api-version=1")

    assert found.request.model == "my/gpt"


def test_several_answers_and_usage_in_the_stream_are_the_front_s_business():
    found = asked(chat(n=3, stream=True, stream_options={"include_usage": True}))

    assert (found.choices, found.stream, found.usage_in_stream) == (3, True, True)
    assert asked(chat(stream=True)).usage_in_stream is False


def test_bare_and_url_safe_base64_of_a_file_are_read():
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": "_-8"}}

    (message,) = asked(chat(messages=[{"role": "user", "content": [part]}])).request.messages

    assert (message.parts[0].media_type, message.parts[0].data) == ("application/pdf", b"\xff\xef")


def test_a_completion_continues_a_text_as_it_stands(replay):
    found = asked({"model": "m", "prompt": ["Once"], "max_tokens": 3, "logprobs": 2, "suffix": "."}, "/v1/completions")

    request = found.request
    assert (request.raw, request.messages, request.extra) == (
        True,
        (user("Once"),),
        {"format": "openai_chat", "suffix": "."},
    )
    assert (request.sampling.max_tokens, request.sampling.logprobs) == (3, 2)
    able = replace(openai_chat.CAPABILITIES, raw=True)
    encoded = openai_chat.encode_request(request, capabilities=able)
    assert encoded.wire.path == "/completions"
    assert json.loads(encoded.wire.body) == {
        "model": "m",
        "prompt": "Once",
        "max_tokens": 3,
        "logprobs": 2,
        "suffix": ".",
    }
    reply = Reply("cmpl-1", "m", 1, found)
    tokens = (TokenLogprob(" upon", -0.5, ((" upon", -0.5), (" a", -1.0))),)
    deltas = [TextDelta(" upon"), Logprobs(tokens), Finish("length", Usage(1, 1))]
    replay.answer(openai_chat.encode_response(added(deltas), reply))
    answer = client(replay).completions.create(model="m", prompt="Once")
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        " upon",
        "length",
    )
    assert answer.choices[0].logprobs.top_logprobs == [{" upon": -0.5, " a": -1.0}]
    assert laws.decoded(openai_chat, [openai_chat.stream_encoder(reply).encode(deltas)])[:2] == deltas[:2]
    replay.stream(openai_chat.stream_encoder(reply).encode(deltas))
    chunks = list(client(replay).completions.create(model="m", prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == " upon"


def test_several_texts_are_continued_each_with_all_of_its_choices_and_said_first_where_it_is_asked():
    found = asked({"model": "m", "prompt": ["a", "b"], "n": 2, "echo": True}, "/v1/completions")

    assert found.echo
    assert [one.messages for one in (found.request, *found.others)] == [(user("a"),), (user("b"),)]
    reply = Reply("cmpl-1", "m", 1, found)
    answers = [added([TextDelta(str(at)), Finish("stop", Usage(3 + at // 2, 1))]) for at in range(4)]
    body = json.loads(openai_chat.encode_choices(answers, reply).body)
    assert [(one["index"], one["text"]) for one in body["choices"]] == [(0, "a0"), (1, "a1"), (2, "b2"), (3, "b3")]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (7, 4)
    encoder = openai_chat.choices_encoder(reply, 4)
    texts = ["", "", "", ""]
    for at in range(4):
        said = encoder.encode([TextDelta(str(at)), Finish("stop", Usage(3 + at // 2, 1))], at)
        for line in said.decode().splitlines():
            for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else ():
                texts[choice["index"]] += choice["text"]
    assert texts == ["a0", "a1", "b2", "b3"]
    with pytest.raises(InvalidRequest, match="prompt"):
        asked({"model": "m", "prompt": []}, "/v1/completions")


def test_ids_of_tokens_are_refused():
    for prompt in ([1, 2], [[1], [2]], ["a", 2], None, 5):
        with pytest.raises(InvalidRequest, match=r"^prompt: "):
            asked({"prompt": prompt}, "/v1/completions")


@given(strategies.requests(openai_chat.CAPABILITIES))
@settings(max_examples=150, deadline=None)
def test_what_openai_can_say_comes_back_as_it_was(request):
    encoded = openai_chat.encode_request(request, stream=True)

    assert encoded.losses == ()
    decoded = openai_chat.decode_request(encoded.wire)
    assert decoded.stream
    assert decoded.usage_in_stream
    assert decoded.request == request


@given(st.dictionaries(st.sampled_from(sorted(chat(tools=1, stop=1, n=1, functions=1))), strategies.json_values))
@settings(max_examples=150, deadline=None)
def test_any_json_is_a_request_or_a_refusal(body):
    for path in ("/v1/chat/completions", "/v1/completions"):
        laws.reads_or_refuses(openai_chat, WireRequest(path, json_body(body)))


def test_reasoning_is_read_in_every_dialect_s_words():
    for fields, expected in [
        ({"reasoning_effort": "high"}, ReasoningOptions("high")),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, ReasoningOptions("low", None, "auto")),
        ({"reasoning": {"max_tokens": 2000}}, ReasoningOptions(None, 2000)),
        ({"reasoning": {"enabled": False}}, ReasoningOptions("none")),
        ({"enable_thinking": True, "thinking_budget": 100}, ReasoningOptions(None, 100)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ReasoningOptions("none")),
        ({"thinking": {"type": "disabled"}}, ReasoningOptions("none")),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, ReasoningOptions(None, 9)),
        ({"reasoning_effort": None}, None),
    ]:
        assert asked(chat(**fields)).request.reasoning == expected


def test_a_conversation_with_results_in_a_user_s_message_is_written_in_order():
    messages = (
        Message("assistant", (ToolCall("a", "f"),)),
        Message("user", (ToolResult("a", "1", name="f"), Text("and?"))),
    )

    body = json.loads(openai_chat.encode_request(InferenceRequest(messages)).wire.body)

    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "user"]
