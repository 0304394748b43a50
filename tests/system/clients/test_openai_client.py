"""OpenAI's own client against the front: chats, completions, embeddings, models, errors."""

import json
from collections import deque

import openai
import pydantic
import pytest

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
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


def ask(client, prompt, **more):
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}], **more)


# ---- chats -----------------------------------------------------------------------------------------------------


def test_a_chat_is_answered(client, script):
    answer = ask(client, script(text="Hello there"))
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Hello there", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)


def test_a_chat_is_streamed(client, script):
    chunks = list(ask(client, script(text="Hello there, you"), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there, you"
    assert len(chunks) > 2
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == len({chunk.created for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_says_its_usage_where_it_is_asked_to(client, script):
    *_, last = ask(client, script(text="Hi", usage=[9, 3, 4, 2]), stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.total_tokens == 12
    assert last.usage.prompt_tokens_details.cached_tokens == 4
    assert last.usage.completion_tokens_details.reasoning_tokens == 2


def test_what_was_said_before_reaches_the_model(client, script):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": [{"type": "text", "text": script(asked=True)}]},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, temperature=0.5, top_p=0.9, seed=7, stop=["END"], max_completion_tokens=50
    )
    asked = json.loads(answer.choices[0].message.content)
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant", "user"]
    wanted = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"], "max_tokens": 50}
    assert asked["sampling"] == wanted


def test_a_tool_is_called_and_its_result_is_answered(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    messages = [{"role": "user", "content": script({"calls": [call]}, {"text": "It rains."})}]
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    (called,) = first.choices[0].message.tool_calls
    assert (called.type, called.function.name, json.loads(called.function.arguments)) == (
        "function",
        "weather",
        {"city": "Oslo"},
    )
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": called.id, "content": "rain"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "It rains."


def test_parallel_calls_are_streamed(client, script):
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    found = {}
    for chunk in ask(client, script(text="Let me see", calls=calls), tools=[WEATHER], stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            one = found.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            one["id"] += call.id or ""
            one["name"] += call.function.name or ""
            one["arguments"] += call.function.arguments or ""
    assert [json.loads(one["arguments"])["city"] for _, one in sorted(found.items())] == ["Oslo", "Rome"]
    assert len({one["id"] for one in found.values()}) == 2


FUNCTION = WEATHER["function"]


def test_a_function_is_called_in_the_field_that_was_there_before_tools(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    messages = [{"role": "user", "content": script({"calls": [call]}, {"text": "It rains."})}]
    first = client.chat.completions.create(model=MODEL, messages=messages, functions=[FUNCTION]).choices[0]
    assert (first.finish_reason, first.message.tool_calls) == ("function_call", None)
    assert (first.message.function_call.name, json.loads(first.message.function_call.arguments)) == (
        "weather",
        {"city": "Oslo"},
    )
    messages += [first.message, {"role": "function", "name": "weather", "content": "rain"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, functions=[FUNCTION])
    assert second.choices[0].message.content == "It rains."


def test_a_function_is_streamed_in_the_field_that_was_there_before_tools(client, script):
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    chunks = [chunk.choices[0] for chunk in ask(client, script(calls=calls), functions=[FUNCTION], stream=True)]
    called = [one.delta.function_call for one in chunks if one.delta.function_call]
    assert [(one.name, json.loads(one.arguments)) for one in called] == [("weather", {"city": "Oslo"})]
    assert chunks[-1].finish_reason == "function_call"


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "function", "function": {"name": "weather"}}])
def test_a_choice_of_tools_reaches_the_model(client, script, choice):
    asked = json.loads(ask(client, script(asked=True), tools=[WEATHER], tool_choice=choice).choices[0].message.content)
    assert asked.get("tool_choice", "auto") == (choice if isinstance(choice, str) else "weather")


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed(client, script):
    prompt = script(text='{"name": "Ada", "age": 36}')
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": prompt}], response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


def test_a_form_of_json_reaches_the_model(client, script):
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "object"}, "strict": True}}
    asked = json.loads(ask(client, script(asked=True), response_format=form).choices[0].message.content)
    assert asked["response_format"] == form
    asked = json.loads(
        ask(client, script(asked=True), response_format={"type": "json_object"}).choices[0].message.content
    )
    assert asked["response_format"] == {"type": "json_object"}


def test_the_stream_helper_puts_an_answer_together(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    messages = [{"role": "user", "content": script(text="Let me see", calls=[call])}]
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=[_strict()]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done", "tool_calls.function.arguments.done"} <= kinds
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Oslo"}


def _strict():
    function = WEATHER["function"]
    return WEATHER | {
        "function": function | {"strict": True, "parameters": function["parameters"] | {"additionalProperties": False}}
    }


def test_a_streamed_answer_is_parsed(client, script):
    messages = [{"role": "user", "content": script(text='{"name": "Ada", "age": 36}')}]
    with client.chat.completions.stream(model=MODEL, messages=messages, response_format=Person) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Person(name="Ada", age=36)


def test_several_answers_come_at_once(client, script):
    answer = ask(client, script(text="Yes"), n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {"Yes"}
    assert answer.usage.completion_tokens == 15


def test_several_answers_are_streamed_side_by_side(client, script):
    texts, ends, usage = {}, {}, None
    stream = ask(client, script(text="One two three"), n=2, stream=True, stream_options={"include_usage": True})
    ids = set()
    for chunk in stream:
        ids.add(chunk.id)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == {0: "One two three", 1: "One two three"}
    assert ends == {0: "stop", 1: "stop"}
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, 10)
    assert len(ids) == 1


def test_log_probabilities_are_told(client, script):
    answer = ask(client, script(text="Hi you", logprobs=True), logprobs=True, top_logprobs=2)
    first, second = answer.choices[0].logprobs.content
    assert (first.token, first.logprob, len(first.top_logprobs)) == ("Hi", -0.5, 2)
    assert second.bytes == list(b" you")


def test_log_probabilities_are_streamed(client, script):
    chunks = list(ask(client, script(text="Hi you", logprobs=True), logprobs=True, top_logprobs=2, stream=True))
    told = [one.token for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content]
    assert told == ["Hi", " you"]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_end_has_its_reason(client, script, reason):
    assert ask(client, script(text="Cut", finish=reason)).choices[0].finish_reason == reason


def test_a_refusal_is_one(client, script):
    message = ask(client, script(text="I will not", finish="content_filter", detail="refusal")).choices[0].message
    assert message.refusal == "I will not"
    assert message.content is None


def test_reasoning_comes_beside_the_text(client, script):
    message = ask(client, script(text="42", reasoning="six times seven")).choices[0].message
    assert message.content == "42"
    assert message.reasoning_content == "six times seven"
    deltas = [chunk.choices[0].delta for chunk in ask(client, script(text="42", reasoning="six seven"), stream=True)]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "six seven"


def test_an_image_reaches_the_model(client, script):
    content = [
        {"type": "text", "text": script(asked=True)},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    parts = json.loads(answer.choices[0].message.content)["messages"][0]["parts"]
    assert [part["type"] for part in parts] == ["text", "image"]


def test_unknown_fields_are_ignored(client, script):
    assert ask(client, script(text="Fine"), extra_body={"not_a_field": {"a": 1}}, user="me", metadata={"a": "b"})


async def test_the_client_for_asyncio_is_answered_and_may_leave_early(url, script):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        messages = [{"role": "user", "content": script(text="Hello there")}]
        answer = await client.chat.completions.create(model=MODEL, messages=messages)
        assert answer.choices[0].message.content == "Hello there"
        async with await client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
            async for _ in stream:
                break
        assert (await client.chat.completions.create(model=MODEL, messages=messages)).choices


# ---- the raw answers -------------------------------------------------------------------------------------------


def test_every_answer_has_an_id_of_its_request(client, script):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": script(text="Hi")}]
    )
    assert raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    with pytest.raises(openai.NotFoundError) as failed:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert failed.value.request_id
    assert failed.value.request_id != raw.headers["x-request-id"]


# ---- completions -----------------------------------------------------------------------------------------------


def test_a_text_is_completed(client, script):
    answer = client.completions.create(model=MODEL, prompt=script(text="and so on", usage=[4, 3]))
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("and so on", "stop")
    assert answer.usage.total_tokens == 7


def test_a_completion_is_streamed(client, script):
    chunks = list(client.completions.create(model=MODEL, prompt=script(text="and so on"), stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "and so on"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]


def test_a_completion_says_the_prompt_first_where_it_is_asked_to(client, script):
    prompt = script(text="!")
    assert client.completions.create(model=MODEL, prompt=prompt, echo=True).choices[0].text == f"{prompt}!"
    chunks = client.completions.create(model=MODEL, prompt=prompt, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == f"{prompt}!"


def test_several_prompts_are_completed_each(client, script):
    answer = client.completions.create(model=MODEL, prompt=[script(text="a"), script(text="b")], n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "a"), (1, "a"), (2, "b"), (3, "b")]
    texts = {}
    for chunk in client.completions.create(model=MODEL, prompt=[script(text="a b"), script(text="c d")], stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    assert texts == {0: "a b", 1: "c d"}


def test_a_completion_tells_log_probabilities(client, script):
    answer = client.completions.create(model=MODEL, prompt=script(text="a b", logprobs=True), logprobs=2)
    told = answer.choices[0].logprobs
    assert told.tokens == ["a", " b"]
    assert told.token_logprobs == [-0.5, -0.5]
    assert told.text_offset == [0, 1]


def test_what_only_completions_have_reaches_the_model(client, script):
    asked = json.loads(client.completions.create(model=MODEL, prompt=script(asked=True), suffix="b").choices[0].text)
    assert (asked["raw"], asked["extra"]["suffix"], asked["sampling"]["max_tokens"]) == (True, "b", 16)
    with pytest.raises(openai.BadRequestError, match="best_of"):
        client.completions.create(model=MODEL, prompt=script(text="a"), best_of=3)


# ---- embeddings, models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float", "base64"])
def test_texts_become_vectors(client, form):
    answer = client.embeddings.create(model=MODEL, input=["one two", "three"], encoding_format=form)
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 3
    plain = client.embeddings.create(model=MODEL, input="three")
    assert len(plain.data[0].embedding) == 8
    if form == "float":
        assert plain.data[0].embedding == pytest.approx(answer.data[1].embedding)


def test_a_vector_has_as_many_numbers_as_asked(client):
    assert len(client.embeddings.create(model=MODEL, input="x", dimensions=4).data[0].embedding) == 4


def test_models_are_listed_and_found(client):
    listed = {model.id: model for model in client.models.list()}
    assert {MODEL, "scripted"} <= listed.keys()
    assert listed[MODEL].object == "model"
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


# ---- errors ----------------------------------------------------------------------------------------------------

ERRORS = {
    "invalid_request": openai.BadRequestError,
    "context_length_exceeded": openai.BadRequestError,
    "unauthenticated": openai.AuthenticationError,
    "permission_denied": openai.PermissionDeniedError,
    "not_found": openai.NotFoundError,
    "rate_limited": openai.RateLimitError,
    "quota_exceeded": openai.RateLimitError,
    "overloaded": openai.InternalServerError,
    "upstream_failed": openai.InternalServerError,
    "internal": openai.InternalServerError,
}


@pytest.mark.parametrize(("code", "kind"), ERRORS.items())
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_is_its_status(client, script, code, kind, stream):
    with pytest.raises(kind) as failed:
        ask(client, script(fail={"code": code}), stream=stream)
    assert "as the script says" in failed.value.message
    assert failed.value.response.headers["x-request-id"]
    if code == "context_length_exceeded":
        assert failed.value.code == "context_length_exceeded"


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as failed:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert failed.value.code == "model_not_found"


def test_a_wrong_field_is_named(client):
    with pytest.raises(openai.BadRequestError) as failed:
        client.chat.completions.create(model=MODEL, messages=[{"role": "nobody", "content": "Hi"}])
    assert failed.value.param.startswith("messages")
    assert failed.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_the_api_does_not_know_is_refused_whatever_the_model_takes(client, fields, named):
    with pytest.raises(openai.BadRequestError) as failed:
        ask(client, "Hi", **fields)
    assert failed.value.param == named


def test_a_stream_that_breaks_off_raises(client, script):
    stream = ask(client, script(text="a b c", fail={"code": "upstream_failed", "after": 2}), stream=True)
    texts = deque()
    said = (texts.append(chunk.choices[0].delta.content or "") for chunk in stream)
    with pytest.raises(openai.APIError, match="as the script says"):
        deque(said)
    assert "".join(texts) == "a b"


def test_what_can_be_tried_again_is_tried_again(url, script):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=2) as client:
        fault = {"code": "rate_limited", "retry_after_s": 0.01, "times": 2, "key": "openai"}
        assert ask(client, script(text="At last", fail=fault)).choices[0].message.content == "At last"


def test_what_cannot_be_helped_is_not_tried_again(url, script):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=2) as client:
        fault = {"code": "quota_exceeded", "times": 1, "key": "openai-quota"}
        with pytest.raises(openai.RateLimitError) as failed:
            ask(client, script(text="Never", fail=fault))
    assert failed.value.response.headers["x-should-retry"] == "false"


def test_a_time_limit_of_the_client_ends_what_runs_for_it(url, script):
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=0.3) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        ask(client, script(wait=True))
