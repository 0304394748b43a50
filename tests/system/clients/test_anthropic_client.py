"""Anthropic's own client against the front: messages, streams, tools, counts, models, errors."""

import base64
import json
import re
from collections import deque

import anthropic
import pydantic
import pytest

MODEL = "default"
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(url):
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as made:
        yield made


def ask(client, prompt, **more):
    asked = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
    return client.messages.create(**asked | more)


def test_a_message_is_answered(client, script):
    answer = ask(client, script(text="Hello there", usage=[10, 4, 3]))
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", MODEL, "end_turn")
    assert answer.content[0].text == "Hello there"
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (7, 3, 4)
    assert re.fullmatch(r"req_\w+", answer._request_id)


def test_a_message_is_streamed_as_events(client, script):
    kinds = [event.type for event in ask(client, script(text="Hello there, you"), stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) <= {"content_block_delta", "ping"}


def test_the_stream_helper_puts_an_answer_together(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    prompt = script(text="Let me see", reasoning="hm", calls=[call], usage=[9, 6])
    asked = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}], "tools": [WEATHER]}
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Let me see"
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert final.content[2].input == {"city": "Oslo"}
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 6)


def test_a_system_prompt_and_sampling_reach_the_model(client, script):
    answer = ask(
        client,
        [{"type": "text", "text": script(asked=True), "cache_control": {"type": "ephemeral"}}],
        system=[{"type": "text", "text": "Be brief."}],
        stop_sequences=["END"],
        metadata={"user_id": "me"},
    )
    asked = json.loads(answer.content[0].text)
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["sampling"] == {"max_tokens": 100, "stop": ["END"]}
    assert asked["metadata"] == {"end_user": "me"}


def test_a_tool_is_called_and_its_result_is_answered(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    messages = [{"role": "user", "content": script({"calls": [call]}, {"text": "It rains."})}]
    asked = {"model": MODEL, "max_tokens": 100, "tools": [WEATHER]}
    first = client.messages.create(messages=messages, **asked)
    assert first.stop_reason == "tool_use"
    (called,) = first.content
    assert (called.type, called.name, called.input) == ("tool_use", "weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": called.id, "content": "rain"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(messages=messages, **asked).content[0].text == "It rains."


@pytest.mark.parametrize(
    ("choice", "meant"),
    [({"type": "auto"}, "auto"), ({"type": "any"}, "required"), ({"type": "tool", "name": "weather"}, "weather")],
)
def test_a_choice_of_tools_reaches_the_model(client, script, choice, meant):
    asked = json.loads(ask(client, script(asked=True), tools=[WEATHER], tool_choice=choice).content[0].text)
    assert asked.get("tool_choice", "auto") == meant


def test_several_calls_are_streamed_whole(client, script):
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    asked = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": script(calls=calls)}]}
    with client.messages.stream(**asked, tools=[WEATHER]) as stream:
        final = stream.get_final_message()
    assert [block.input["city"] for block in final.content] == ["Oslo", "Rome"]


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed(client, script):
    prompt = script(text='{"name": "Ada", "age": 36}')
    answer = client.messages.parse(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": prompt}], output_format=Person
    )
    assert answer.parsed_output == Person(name="Ada", age=36)


def test_thinking_is_a_block_of_its_own(client, script):
    answer = ask(
        client,
        script(text="42", reasoning="six times seven"),
        max_tokens=2048,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[0].thinking == "six times seven"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"finish": "length"}, "max_tokens"),
        ({"detail": "stop_sequence", "stop_sequence": "END"}, "stop_sequence"),
        ({"finish": "content_filter", "detail": "refusal"}, "refusal"),
    ],
)
def test_an_end_has_its_reason(client, script, step, reason):
    answer = ask(client, script(text="Cut", **step))
    assert answer.stop_reason == reason
    assert answer.stop_sequence == step.get("stop_sequence")


def test_an_image_reaches_the_model(client, script):
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"hi").decode()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": script(asked=True)}]
    asked = json.loads(ask(client, content).content[0].text)
    assert [part["type"] for part in asked["messages"][0]["parts"]] == ["image", "text"]


def test_an_answer_that_was_begun_is_continued(client, script):
    messages = [{"role": "user", "content": script(asked=True)}, {"role": "assistant", "content": "Once"}]
    answer = client.messages.create(model=MODEL, max_tokens=100, messages=messages)
    assert answer.content


def test_tokens_are_counted(client):
    counted = client.messages.count_tokens(
        model=MODEL, system="Be brief.", messages=[{"role": "user", "content": "one two three"}], tools=[WEATHER]
    )
    assert counted.input_tokens == 5


def test_models_are_listed_and_found(client):
    listed = {model.id: model for model in client.models.list()}
    assert {MODEL, "scripted"} <= listed.keys()
    found = client.models.retrieve(MODEL)
    assert (found.id, found.type) == (MODEL, "model")
    assert found.display_name
    page = client.models.list(limit=1)
    assert (len(page.data), page.has_more) == (1, True)
    assert [model.id for model in page] == list(listed)
    following = client.models.list(limit=1, after_id=page.last_id)
    assert client.models.list(limit=1, before_id=following.first_id).data[0].id == page.data[0].id
    with pytest.raises(anthropic.NotFoundError) as failed:
        client.models.retrieve("nobody")
    assert failed.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="after_id"):
        client.models.list(after_id="nobody")


def test_the_beta_of_messages_is_answered(client, script):
    asked = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": script(text="Hi")}]}
    answer = client.beta.messages.create(**asked, betas=["context-1m-2025-08-07"])
    assert answer.content[0].text == "Hi"
    with client.beta.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == "Hi"
    assert client.beta.messages.count_tokens(model=MODEL, messages=asked["messages"]).input_tokens


ERRORS = {
    "invalid_request": (anthropic.BadRequestError, "invalid_request_error"),
    "context_length_exceeded": (anthropic.BadRequestError, "invalid_request_error"),
    "unauthenticated": (anthropic.AuthenticationError, "authentication_error"),
    "permission_denied": (anthropic.PermissionDeniedError, "permission_error"),
    "not_found": (anthropic.NotFoundError, "not_found_error"),
    "request_too_large": (anthropic.RequestTooLargeError, "request_too_large"),
    "rate_limited": (anthropic.RateLimitError, "rate_limit_error"),
    "overloaded": (anthropic.OverloadedError, "overloaded_error"),
    "internal": (anthropic.InternalServerError, "api_error"),
}


@pytest.mark.parametrize(("code", "expected"), ERRORS.items())
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_is_its_status(client, script, code, expected, stream):
    kind, word = expected
    with pytest.raises(kind) as failed:
        ask(client, script(fail={"code": code}), stream=stream)
    assert failed.value.body["type"] == "error"
    assert failed.value.body["error"]["type"] == word
    assert "as the script says" in failed.value.body["error"]["message"]
    assert failed.value.request_id


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        ask(client, "Hi", model="nobody")


def test_a_wrong_field_is_named(client):
    with pytest.raises(anthropic.BadRequestError, match="stop_sequences"):
        ask(client, "Hi", extra_body={"stop_sequences": 5})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra_headers": {"anthropic-version": "2023-06-01"}, "extra_body": {"temperature": 2}}, "temperature"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "nobody"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [{"name": "weather"}]}, "input_schema"),
    ],
)
def test_what_the_api_does_not_know_is_refused_whatever_the_model_takes(client, fields, named):
    with pytest.raises(anthropic.BadRequestError, match=named):
        ask(client, "Hi", **fields)


def test_a_stream_that_breaks_off_raises(client, script):
    stream = ask(client, script(text="a b c", fail={"code": "overloaded", "after": 2}), stream=True)
    texts = deque()
    said = (texts.append(event.delta.text) for event in stream if event.type == "content_block_delta")
    with pytest.raises(anthropic.APIStatusError, match="as the script says"):
        deque(said)
    assert "".join(texts) == "a b"


def test_what_can_be_tried_again_is_tried_again(url, script):
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=2) as client:
        fault = {"code": "rate_limited", "retry_after_s": 0.01, "times": 2, "key": "anthropic"}
        assert ask(client, script(text="At last", fail=fault)).content[0].text == "At last"


async def test_the_client_for_asyncio_is_answered(url, script):
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any") as client:
        messages = [{"role": "user", "content": script(text="Hello there")}]
        async with client.messages.stream(model=MODEL, max_tokens=9, messages=messages) as stream:
            assert "".join([text async for text in stream.text_stream]) == "Hello there"


def test_a_runner_of_tools_calls_them_until_the_answer_is_there(client, script):
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Return the weather.

        Args:
            city: Where.
        """
        return f"rain in {city}"

    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    prompt = script({"calls": [call]}, {"asked": True})
    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=100, tools=[weather], messages=[{"role": "user", "content": prompt}]
    )
    assert "rain in Oslo" in runner.until_done().content[0].text


def test_a_thread_is_gone_on_from_by_the_id_of_its_last_answer(client, script):
    asked = {"model": MODEL, "max_tokens": 100}
    prompt = script({"text": "One"}, {"asked": True})
    first = client.beta.messages.create(
        **asked,
        system="Be brief.",
        messages=[{"role": "user", "content": prompt}],
        extra_body={"thread": {"type": "create"}},
    )
    second = client.beta.messages.create(
        **asked,
        messages=[{"role": "user", "content": "go on"}],
        extra_body={"thread": {"type": "continue", "previous_message_id": first.id}},
    )
    roles = [message["role"] for message in json.loads(second.content[0].text)["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    with pytest.raises(anthropic.NotFoundError) as failed:
        client.beta.messages.create(
            **asked,
            messages=[{"role": "user", "content": "go on"}],
            extra_body={"thread": {"type": "continue", "previous_message_id": "msg_nobody"}},
        )
    assert failed.value.body["error"]["details"]["error_code"] == "thread_not_found"
