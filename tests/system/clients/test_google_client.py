"""Google's own client against the front: contents, streams, functions, embeddings, counts, models, errors."""

import json

import pydantic
import pytest
from google import genai
from google.genai import errors, types

MODEL = "default"


@pytest.fixture
def client(url):
    with genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url)) as made:
        yield made


def ask(client, prompt, **config):
    return client.models.generate_content(model=MODEL, contents=prompt, config=config or None)


WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            description="The weather of a city",
            parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}),
        )
    ]
)


def test_a_text_is_answered(client, script):
    answer = ask(client, script(text="Hello there", usage=[10, 6, 3, 2]))
    assert answer.text == "Hello there"
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.model_version == MODEL
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (10, 4, 16)
    assert (usage.cached_content_token_count, usage.thoughts_token_count) == (3, 2)


def test_a_text_is_streamed(client, script):
    chunks = list(client.models.generate_content_stream(model=MODEL, contents=script(text="Hello there, you")))
    assert "".join(chunk.text or "" for chunk in chunks) == "Hello there, you"
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == 12


def test_an_instruction_and_sampling_reach_the_model(client, script):
    config = {"system_instruction": "Be brief.", "temperature": 0.5, "top_k": 5, "max_output_tokens": 50, "seed": 7}
    asked = json.loads(ask(client, script(asked=True), **config, stop_sequences=["END"]).text)
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["sampling"] == {"temperature": 0.5, "top_k": 5, "max_tokens": 50, "stop": ["END"], "seed": 7}


def test_a_function_is_called_and_its_result_is_answered(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    said = types.Content(role="user", parts=[types.Part(text=script({"calls": [call]}, {"text": "It rains."}))])
    first = ask(client, [said], tools=[WEATHER])
    (called,) = first.function_calls
    assert (called.name, called.args) == ("weather", {"city": "Oslo"})
    result = types.Part.from_function_response(name="weather", response={"result": "rain"})
    second = ask(
        client, [said, first.candidates[0].content, types.Content(role="user", parts=[result])], tools=[WEATHER]
    )
    assert second.text == "It rains."


def test_functions_are_called_by_the_client_itself(client, script):
    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"rain in {city}"

    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = ask(client, script({"calls": [call]}, {"asked": True}), tools=[weather])
    assert "rain in Oslo" in answer.text


def test_functions_are_called_by_the_client_itself_in_a_stream(client, script):
    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"rain in {city}"

    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    stream = client.models.generate_content_stream(
        model=MODEL, contents=script({"calls": calls}, {"asked": True}), config={"tools": [weather]}
    )
    said = "".join(chunk.text or "" for chunk in stream)
    assert "rain in Oslo" in said
    assert "rain in Rome" in said


def test_parallel_calls_are_streamed(client, script):
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    stream = client.models.generate_content_stream(
        model=MODEL, contents=script(text="Hm", calls=calls), config={"tools": [WEATHER]}
    )
    *_, last = stream
    assert [call.args["city"] for call in last.function_calls] == ["Oslo", "Rome"]
    assert last.candidates[0].finish_reason == types.FinishReason.STOP


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed(client, script):
    config = {"response_mime_type": "application/json", "response_schema": Person}
    answer = ask(client, script(text='{"name": "Ada", "age": 36}'), **config)
    assert answer.parsed == Person(name="Ada", age=36)
    asked = json.loads(ask(client, script(asked=True), **config).text)
    assert asked["response_format"]["type"] == "json_schema"


def test_thoughts_are_parts_of_their_own(client, script):
    answer = ask(client, script(text="42", reasoning="six times seven"), thinking_config={"include_thoughts": True})
    parts = answer.candidates[0].content.parts
    assert [(part.text, bool(part.thought)) for part in parts] == [("six times seven", True), ("42", False)]


def test_several_candidates_come_at_once(client, script):
    answer = ask(client, script(text="Yes"), candidate_count=2)
    assert [one.content.parts[0].text for one in answer.candidates] == ["Yes", "Yes"]


def test_log_probabilities_are_told(client, script):
    answer = ask(client, script(text="Hi you", logprobs=True), response_logprobs=True, logprobs=2)
    told = answer.candidates[0].logprobs_result
    assert [one.token for one in told.chosen_candidates] == ["Hi", " you"]
    assert answer.candidates[0].avg_logprobs == -0.5


@pytest.mark.parametrize(
    ("step", "reason"),
    [({"finish": "length"}, types.FinishReason.MAX_TOKENS), ({"finish": "content_filter"}, types.FinishReason.SAFETY)],
)
def test_an_end_has_its_reason(client, script, step, reason):
    assert ask(client, script(text="Cut", **step)).candidates[0].finish_reason == reason


def test_an_image_reaches_the_model(client, script):
    image = types.Part.from_bytes(data=b"\xff\xfbhi", mime_type="image/png")
    asked = json.loads(ask(client, [script(asked=True), image]).text)
    assert [part["type"] for part in asked["messages"][0]["parts"]] == ["text", "image"]


def test_a_chat_remembers(client, script):
    chat = client.chats.create(model=MODEL)
    assert chat.send_message(script({"text": "One"}, {"text": "Two"})).text == "One"
    assert chat.send_message("go on").text == "Two"
    assert "".join(chunk.text or "" for chunk in chat.send_message_stream("and on")) == "Two"


def test_tokens_are_counted(client):
    assert client.models.count_tokens(model=MODEL, contents="one two three").total_tokens == 3


def test_texts_become_vectors(client):
    one = client.models.embed_content(model=MODEL, contents="one two")
    assert len(one.embeddings[0].values) == 8
    several = client.models.embed_content(model=MODEL, contents=["a", "b"], config={"output_dimensionality": 4})
    assert [len(one.values) for one in several.embeddings] == [4, 4]


def test_models_are_listed_and_found(client):
    listed = {model.name for model in client.models.list()}
    assert {f"models/{MODEL}", "models/scripted"} <= listed
    assert client.models.get(model=MODEL).name == f"models/{MODEL}"
    assert len(client.models.list(config={"page_size": 1}).page) == 1
    assert {model.name for model in client.models.list(config={"page_size": 1})} == listed


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_model_that_is_not_there_is_not_found(url, version):
    client = genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url, api_version=version))
    for ask_nobody in (
        lambda: client.models.get(model="nobody"),
        lambda: client.models.count_tokens(model="nobody", contents="Hi"),
        lambda: client.models.embed_content(model="nobody", contents="Hi"),
        lambda: client.models.generate_content(model="nobody", contents="Hi"),
    ):
        with pytest.raises(errors.ClientError) as failed:
            ask_nobody()
        assert (failed.value.code, failed.value.status) == (404, "NOT_FOUND")


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_what_is_not_there_is_said_in_the_clients_words(url, version):
    client = genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url, api_version=version))
    with pytest.raises(errors.ClientError) as failed:
        client.caches.list()
    assert failed.value.status == "NOT_FOUND"


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_both_versions_of_the_api_are_answered(url, script, version):
    options = types.HttpOptions(base_url=url, api_version=version)
    client = genai.Client(api_key="any", http_options=options)
    assert ask(client, script(text="Hi")).text == "Hi"
    assert f"models/{MODEL}" in {model.name for model in client.models.list()}
    assert client.models.count_tokens(model=MODEL, contents="one").total_tokens == 1


ERRORS = {
    "invalid_request": (400, "INVALID_ARGUMENT"),
    "context_length_exceeded": (400, "INVALID_ARGUMENT"),
    "permission_denied": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
    "overloaded": (503, "UNAVAILABLE"),
    "internal": (500, "INTERNAL"),
}


@pytest.mark.parametrize(("code", "expected"), ERRORS.items())
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_is_its_status(client, script, code, expected, stream):
    asked = {"model": MODEL, "contents": script(fail={"code": code})}
    with pytest.raises(errors.APIError, match="as the script says") as failed:
        list(client.models.generate_content_stream(**asked)) if stream else client.models.generate_content(**asked)
    assert (failed.value.code, failed.value.status) == expected


@pytest.mark.parametrize(
    "config", [{"temperature": 9}, {"max_output_tokens": -2}, {"top_p": 4}, {"candidate_count": 0}]
)
def test_what_the_api_does_not_know_is_refused_whatever_the_model_takes(client, config):
    with pytest.raises(errors.ClientError) as failed:
        ask(client, "Hi", **config)
    assert (failed.value.code, failed.value.status) == (400, "INVALID_ARGUMENT")


def test_a_stream_that_breaks_off_raises(client, script):
    stream = client.models.generate_content_stream(
        model=MODEL, contents=script(text="a b c", fail={"code": "overloaded", "after": 2})
    )
    with pytest.raises(errors.APIError, match="as the script says"):
        list(stream)


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
async def test_the_client_for_asyncio_is_answered(url, script):
    client = genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url))
    async with client.aio as asking:
        answer = await asking.models.generate_content(model=MODEL, contents=script(text="Hi there"))
        assert answer.text == "Hi there"
        stream = await asking.models.generate_content_stream(model=MODEL, contents=script(text="Hi there"))
        assert "".join([chunk.text or "" async for chunk in stream]) == "Hi there"
