"""Bounds of the vendors' APIs: what each refuses, and what neither it nor another at the same address refuses."""

import pytest

from byenatos_sdk.formats import anthropic_messages, gemini, huggingface_tgi, openai_chat, openai_responses
from byenatos_sdk.formats.wire import WireRequest, json_body
from byenatos_sdk.protocol.errors import InvalidRequest
from http_front.bounds import check_bounds

CHAT = (openai_chat, "/v1/chat/completions")
COMPLETION = (openai_chat, "/v1/completions")
RESPONSE = (openai_responses, "/v1/responses")
MESSAGE = (anthropic_messages, "/v1/messages")
CONTENT = (gemini, "/v1beta/models/m:generateContent")
TEXT = (huggingface_tgi, "/generate")

HI = [{"role": "user", "content": "Hi"}]
CALL = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f"}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
TOOL_USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]}
TOOL_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}]}
ITEM_CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
ITEM_RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
USER = {"role": "user", "parts": [{"text": "Hi"}]}


def chat(*messages, **more):
    return {"messages": list(messages) or HI} | more


def message(*messages, **more):
    return {"model": "m", "max_tokens": 2000, "messages": list(messages) or HI} | more


def thinking(budget, **more):
    return message(thinking={"type": "enabled", "budget_tokens": budget}, **more)


def checked(api, body, *, whole=True, headers=None):
    spoken, path = api
    wire = WireRequest(path, json_body(body), headers or {})
    check_bounds(spoken, spoken.decode_request(wire).request, wire.body, whole=whole)


@pytest.mark.parametrize(
    ("api", "body", "field"),
    [
        (CHAT, chat(top_logprobs=2), "top_logprobs"),
        (CHAT, chat(top_logprobs=2, logprobs=False), "top_logprobs"),
        (CHAT, chat(max_tokens=0), "^max_tokens: expected at least 1"),
        (CHAT, chat(max_completion_tokens=0), "^max_completion_tokens: expected at least 1"),
        (COMPLETION, {"prompt": "Hi", "max_tokens": -1}, "^max_tokens"),
        (RESPONSE, {"input": "Hi", "max_output_tokens": 0}, "max_output_tokens"),
        (CHAT, chat(temperature=2.5), "temperature"),
        (CHAT, chat(RESULT), "messages.*tool_call_id.*c1"),
        (CHAT, chat(*HI, RESULT, CALL), "messages.*tool_call_id.*c1"),
        (CHAT, chat(*HI, CALL, RESULT | {"tool_call_id": "c2"}), "messages.*tool_call_id.*c2"),
        (RESPONSE, {"input": "Hi", "truncation": "middle"}, "truncation.*middle"),
        (RESPONSE, {"input": "Hi", "include": ["all"]}, r"include\[0\].*all"),
        (RESPONSE, {"input": [ITEM_RESULT]}, "input.*call_id.*c1"),
        (MESSAGE, thinking(1023), "budget_tokens: expected at least 1024"),
        (MESSAGE, thinking(2000), "budget_tokens: expected less than max_tokens"),
        (MESSAGE, message({"role": "assistant", "content": "Hi"}, *HI), r"messages\[0\]\.role"),
        (MESSAGE, message({"role": "user", "content": ""}), "messages.*content"),
        (MESSAGE, message({"role": "user", "content": []}), "messages.*content"),
        (MESSAGE, message({"role": "user", "content": [{"type": "text", "text": ""}]}), "messages.*content"),
        (MESSAGE, message(*HI, {"role": "assistant", "content": ""}, *HI), "messages.*content"),
        (MESSAGE, message(TOOL_RESULT), "messages.*tool_use_id.*c1"),
        (CONTENT, {"contents": [USER, {"role": "user", "parts": []}]}, "contents.*parts"),
        (CONTENT, {"contents": [USER], "generationConfig": {"stopSequences": list("abcdef")}}, "stopSequences"),
        (CONTENT, {"contents": [USER], "generationConfig": {"topK": -1}}, "topK"),
        (CONTENT, {"contents": [USER], "generationConfig": {"responseMimeType": "x/y"}}, "responseMimeType.*x/y"),
        (TEXT, {"inputs": ""}, "inputs"),
        (TEXT, {"inputs": "Hi", "parameters": {"max_new_tokens": 0}}, "max_new_tokens"),
        (TEXT, {"inputs": "Hi", "parameters": {"temperature": -1}}, "temperature"),
        (TEXT, {"inputs": "Hi", "parameters": {"repetition_penalty": 0}}, "repetition_penalty"),
    ],
)
def test_what_a_vendor_refuses_is_refused_by_the_name_of_its_field(api, body, field):
    with pytest.raises(InvalidRequest, match=field):
        checked(api, body)


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (CHAT, chat(stop=list("abcdefgh"), top_logprobs=0)),
        (COMPLETION, {"prompt": "Hi", "stop": list("abcdefgh")}),
        (CHAT, chat({"role": "system", "content": ""}, *HI, CALL, RESULT, {"role": "assistant", "content": ""})),
        (CHAT, chat({"role": "assistant", "content": "Hi"})),
        (CHAT, chat(*HI, {"role": "function", "name": "f", "content": "rain"})),
        (CHAT, chat(*HI, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
                    {"role": "function", "name": "f", "content": "rain"})),
        (RESPONSE, {"input": [ITEM_CALL, ITEM_RESULT], "truncation": "auto"}),
        (RESPONSE, {"input": "Hi", "include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}),
        (MESSAGE, thinking(1024)),
        (MESSAGE, message(max_tokens=0)),
        (MESSAGE, message(stop_sequences=list("abcdefgh"))),
        (MESSAGE, message(*HI, {"role": "assistant", "content": ""})),
        (MESSAGE, message({"role": "system", "content": "Be brief."}, *HI)),
        (MESSAGE, message(*HI, TOOL_USE, TOOL_RESULT)),
        (CONTENT, {"contents": [USER, {"role": "model", "parts": []}, USER]}),
        (CONTENT, {"contents": [USER], "generationConfig": {"stopSequences": list("abcde")}}),
        (CONTENT, {"contents": [USER], "generationConfig": {"topK": 0, "responseMimeType": "application/json"}}),
        (CONTENT, {"contents": [USER], "generationConfig": {"topK": 0, "responseMimeType": "application/yaml"}}),
        (TEXT, {"inputs": "Hi", "parameters": {"temperature": 0, "top_p": 1, "stop": list("abcdefgh")}}),
    ],
)  # fmt: skip
def test_what_a_vendor_takes_is_taken(api, body):
    checked(api, body)


def test_a_budget_may_be_more_than_one_answer_has_where_the_model_thinks_between_its_calls():
    checked(MESSAGE, thinking(9000), headers={"anthropic-beta": "a-1, interleaved-thinking-2025-05-14"})


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (CHAT, chat(RESULT)),
        (RESPONSE, {"input": [ITEM_RESULT]}),
        (MESSAGE, message(TOOL_RESULT)),
        (MESSAGE, message({"role": "assistant", "content": "Hi"})),
    ],
)
def test_what_the_kernel_has_of_a_conversation_is_not_missed(api, body):
    checked(api, body, whole=False)
