"""Hugging Face's own client against the front: its chats, which are OpenAI's."""

import json

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

MODEL = "default"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(url):
    with huggingface_hub.InferenceClient(base_url=f"{url}/v1", api_key="any") as made:
        yield made


def ask(client, prompt, **more):
    return client.chat_completion(messages=[{"role": "user", "content": prompt}], model=MODEL, **more)


def test_a_chat_is_answered(client, script):
    answer = ask(client, script(text="Hello there"), max_tokens=50)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 12


def test_a_chat_is_streamed(client, script):
    chunks = list(ask(client, script(text="Hello there, you"), stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello there, you"
    assert chunks[-1].usage.total_tokens == 12


def test_a_tool_is_called(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = ask(client, script(calls=[call]), tools=[WEATHER], tool_choice="auto")
    (called,) = answer.choices[0].message.tool_calls
    assert (called.function.name, json.loads(called.function.arguments)) == ("weather", {"city": "Oslo"})


def test_a_form_of_json_reaches_the_model(client, script):
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "object"}}}
    asked = json.loads(ask(client, script(asked=True), response_format=form).choices[0].message.content)
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_schema_may_come_as_a_grammar_of_json(client, script):
    form = {"type": "json", "value": {"type": "object"}}
    asked = json.loads(ask(client, script(asked=True), response_format=form).choices[0].message.content)
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_a_text_is_continued(url, script):
    with huggingface_hub.InferenceClient(model=url, token="any") as client:
        assert client.text_generation(script(text="and so on")) == "and so on"
        assert "".join(client.text_generation(script(text="and so on"), stream=True)) == "and so on"
        asked = json.loads(client.text_generation(script(asked=True), details=True).generated_text)
        assert asked["sampling"]["logprobs"] == 0
        told = client.text_generation(script(text="and so", logprobs=True), details=True)
        assert [token.text for token in told.details.tokens] == ["and", " so"]


def test_the_interface_of_openais_client_is_answered(client, script):
    messages = [{"role": "user", "content": script(text="Hi")}]
    assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content == "Hi"


def test_log_probabilities_are_told(client, script):
    answer = ask(client, script(text="Hi you", logprobs=True), logprobs=True, top_logprobs=2)
    assert [one.token for one in answer.choices[0].logprobs.content] == ["Hi", " you"]


@pytest.mark.parametrize(("code", "status"), [("invalid_request", 400), ("not_found", 404), ("rate_limited", 429)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_is_its_status(client, script, code, status, stream):
    with pytest.raises(HfHubHTTPError) as failed:
        list(ask(client, script(fail={"code": code}), stream=stream))
    assert failed.value.response.status_code == status
    assert "as the script says" in str(failed.value)


async def test_the_client_for_asyncio_is_answered(url, script):
    async with huggingface_hub.AsyncInferenceClient(base_url=f"{url}/v1", api_key="any") as client:
        messages = [{"role": "user", "content": script(text="Hello there")}]
        stream = await client.chat_completion(messages=messages, model=MODEL, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello there"
