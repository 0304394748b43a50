"""Ollama's own client against the front."""

import json

import ollama
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
    made = ollama.Client(host=url)
    yield made
    made._client.close()  # older ones cannot be closed otherwise


def ask(client, prompt, **more):
    return client.chat(model=MODEL, messages=[{"role": "user", "content": prompt}], **more)


def test_a_chat_is_answered(client, script):
    answer = ask(client, script(text="Hello there"))
    assert (answer.message.role, answer.message.content) == ("assistant", "Hello there")
    assert (answer.done, answer.done_reason, answer.model) == (True, "stop", MODEL)
    assert (answer.prompt_eval_count, answer.eval_count) == (7, 5)
    assert answer.total_duration >= answer.prompt_eval_duration > 0
    assert answer.eval_duration > 0


def test_a_chat_is_streamed(client, script):
    pieces = list(ask(client, script(text="Hello there, you"), stream=True))
    assert "".join(piece.message.content for piece in pieces) == "Hello there, you"
    assert [piece.done for piece in pieces][-1]
    assert not any(piece.done for piece in pieces[:-1])
    assert pieces[-1].eval_count == 5
    assert pieces[-1].total_duration >= pieces[-1].prompt_eval_duration > 0
    assert pieces[-1].eval_duration > 0


def test_options_reach_the_model(client, script):
    options = {"temperature": 0.5, "top_k": 5, "num_predict": 50, "seed": 7, "stop": ["END"]}
    asked = json.loads(ask(client, script(asked=True), options=options).message.content)
    assert asked["sampling"] == {"temperature": 0.5, "top_k": 5, "max_tokens": 50, "stop": ["END"], "seed": 7}


def test_a_tool_is_called_and_its_result_is_answered(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    messages = [{"role": "user", "content": script({"calls": [call]}, {"text": "It rains."})}]
    first = client.chat(model=MODEL, messages=messages, tools=[WEATHER])
    (called,) = first.message.tool_calls
    assert (called.function.name, called.function.arguments) == ("weather", {"city": "Oslo"})
    messages += [first.message, {"role": "tool", "tool_name": "weather", "content": "rain"}]
    assert client.chat(model=MODEL, messages=messages, tools=[WEATHER]).message.content == "It rains."


def test_calls_are_streamed_whole(client, script):
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")]
    stream = ask(client, script(text="Hm", calls=calls), tools=[WEATHER], stream=True)
    found = [call.function.arguments["city"] for piece in stream for call in piece.message.tool_calls or ()]
    assert found == ["Oslo", "Rome"]


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_structured_output_is_written(client, script):
    answer = ask(client, script(text='{"name": "Ada", "age": 36}'), format=Person.model_json_schema())
    assert Person.model_validate_json(answer.message.content) == Person(name="Ada", age=36)
    asked = json.loads(ask(client, script(asked=True), format="json").message.content)
    assert asked["response_format"] == {"type": "json_object"}


def test_thinking_comes_beside_the_text(client, script):
    answer = ask(client, script(text="42", reasoning="six seven"), think=True)
    assert (answer.message.thinking, answer.message.content) == ("six seven", "42")


def test_an_image_reaches_the_model(client, script):
    messages = [{"role": "user", "content": script(asked=True), "images": [b"\x89PNG"]}]
    asked = json.loads(client.chat(model=MODEL, messages=messages).message.content)
    assert {part["type"] for part in asked["messages"][0]["parts"]} == {"text", "image"}


def test_a_text_is_generated(client, script):
    answer = client.generate(model=MODEL, prompt=script(text="and so on"), system="Be brief.")
    assert (answer.response, answer.done_reason) == ("and so on", "stop")
    pieces = client.generate(model=MODEL, prompt=script(text="and so on"), stream=True)
    assert "".join(piece.response for piece in pieces) == "and so on"
    asked = json.loads(client.generate(model=MODEL, prompt=script(asked=True), raw=True).response)
    assert asked["raw"] is True


def test_an_answer_that_was_cut_says_so(client, script):
    assert ask(client, script(text="Cut", finish="length")).done_reason == "length"


def test_texts_become_vectors(client):
    assert len(client.embed(model=MODEL, input=["one", "two"]).embeddings) == 2
    assert len(client.embed(model=MODEL, input="one").embeddings[0]) == 8
    assert len(client.embeddings(model=MODEL, prompt="one").embedding) == 8
    assert len(client.embed(model=f"{MODEL}:latest", input="one").embeddings) == 1
    assert client.embed(model=MODEL, input="one").total_duration > 0
    assert client.embed(model=MODEL, input=[]).embeddings == []
    for said in ("one", []):
        with pytest.raises(ollama.ResponseError) as failed:
            client.embed(model="nobody", input=said)
        assert failed.value.status_code == 404


def test_models_are_listed_shown_and_pulled_if_they_are_there(client):
    assert {MODEL, "scripted"} <= {model.model.removesuffix(":latest") for model in client.list().models}
    assert client.show(MODEL).modelinfo is not None
    assert MODEL in {model.model.removesuffix(":latest") for model in client.ps().models}
    assert client.pull(MODEL).status == "success"
    assert [piece.status for piece in client.pull(MODEL, stream=True)][-1] == "success"
    with pytest.raises(ollama.ResponseError):
        client.pull("nobody")


def test_a_name_may_end_in_latest(client, script):
    answer = client.chat(model=f"{MODEL}:latest", messages=[{"role": "user", "content": script(text="Hi")}])
    assert answer.message.content == "Hi"


def test_a_model_is_loaded_by_an_empty_prompt(client):
    assert client.generate(model=MODEL, prompt="").done_reason == "load"


@pytest.mark.parametrize(
    ("code", "status"),
    [("invalid_request", 400), ("not_found", 404), ("rate_limited", 429), ("overloaded", 503), ("internal", 500)],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_is_its_status(client, script, code, status, stream):
    with pytest.raises(ollama.ResponseError, match="as the script says") as failed:
        list(ask(client, script(fail={"code": code}), stream=stream))
    assert failed.value.status_code == status


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(ollama.ResponseError, match="nobody") as failed:
        client.chat(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert failed.value.status_code == 404
    with pytest.raises(ollama.ResponseError):
        client.show("nobody")


def test_models_are_neither_deleted_nor_made_from_here(client):
    with pytest.raises(ollama.ResponseError) as failed:
        client.delete("nobody")
    assert failed.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="models folder") as failed:
        client.delete(MODEL)
    assert failed.value.status_code == 403
    with pytest.raises(ollama.ResponseError) as failed:
        client.copy(MODEL, "other")
    assert failed.value.error == "POST /api/copy: there is nothing here"


def test_a_stream_that_breaks_off_raises(client, script):
    stream = ask(client, script(text="a b c", fail={"code": "overloaded", "after": 2}), stream=True)
    with pytest.raises(ollama.ResponseError, match="as the script says"):
        list(stream)


async def test_the_client_for_asyncio_is_answered(url, script):
    client = ollama.AsyncClient(host=url)
    messages = [{"role": "user", "content": script(text="Hello there")}]
    assert (await client.chat(model=MODEL, messages=messages)).message.content == "Hello there"
    stream = await client.chat(model=MODEL, messages=messages, stream=True)
    assert "".join([piece.message.content async for piece in stream]) == "Hello there"
    await client._client.aclose()
