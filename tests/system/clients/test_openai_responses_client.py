"""OpenAI's own client against the front: responses, and the state that the server keeps of them."""

import json

import openai
import pydantic
import pytest

MODEL = "default"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


def ask(client, prompt, **more):
    return client.responses.create(model=MODEL, input=prompt, **more)


def test_a_text_is_answered(client, script):
    answer = ask(client, script(text="Hello there", usage=[9, 5, 4, 2]), instructions="Be brief.", temperature=0.5)
    assert answer.id.startswith("resp_")
    assert (answer.object, answer.status, answer.model) == ("response", "completed", MODEL)
    assert answer.output_text == "Hello there"
    assert (answer.instructions, answer.temperature, answer.store) == ("Be brief.", 0.5, True)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (9, 5, 14)
    assert answer.usage.input_tokens_details.cached_tokens == 4
    assert answer.usage.output_tokens_details.reasoning_tokens == 2


def test_a_text_is_streamed_as_events(client, script):
    events = list(ask(client, script(text="Hello there, you"), stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == events[-1].response.output_text == "Hello there, you"


def test_the_stream_helper_puts_an_answer_together(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    prompt = script(text="Let me see", reasoning="hm", calls=[call])
    with client.responses.stream(model=MODEL, input=prompt, tools=[WEATHER]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.output_text.delta", "response.function_call_arguments.done"} <= kinds
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]


def test_a_tool_is_called_and_its_result_is_answered(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    prompt = script({"calls": [call]}, {"text": "It rains."})
    said = [{"role": "user", "content": prompt}]
    first = ask(client, said, tools=[WEATHER])
    (called,) = first.output
    assert (called.type, called.name, json.loads(called.arguments)) == ("function_call", "weather", {"city": "Oslo"})
    result = {"type": "function_call_output", "call_id": called.call_id, "output": "rain"}
    assert ask(client, [*said, called, result], tools=[WEATHER]).output_text == "It rains."
    assert ask(client, [result], tools=[WEATHER], previous_response_id=first.id).output_text == "It rains."


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed(client, script):
    answer = client.responses.parse(model=MODEL, input=script(text='{"name": "Ada", "age": 36}'), text_format=Person)
    assert answer.output_parsed == Person(name="Ada", age=36)


def test_parameters_are_said_again(client, script):
    answer = ask(client, script(text="Hi"), parallel_tool_calls=False, top_p=0.5, metadata={"a": "b"})
    assert (answer.parallel_tool_calls, answer.top_p, answer.metadata) == (False, 0.5, {"a": "b"})


def test_an_image_and_a_form_reach_the_model(client, script):
    content = [
        {"type": "input_text", "text": script(asked=True)},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
    ]
    form = {"type": "json_schema", "name": "it", "schema": {"type": "object"}, "strict": True}
    asked = json.loads(ask(client, [{"role": "user", "content": content}], text={"format": form}).output_text)
    assert [part["type"] for part in asked["messages"][0]["parts"]] == ["text", "image"]
    assert asked["response_format"]["json_schema"]["name"] == "it"
    assert "store" not in asked.get("extra", {})


@pytest.mark.parametrize(
    ("step", "reason"), [({"finish": "length"}, "max_output_tokens"), ({"finish": "content_filter"}, "content_filter")]
)
def test_an_answer_that_is_not_whole_says_why(client, script, step, reason):
    answer = ask(client, script(text="Cut", **step))
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", reason)


# ---- what is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_gone_on_from_by_its_id(client, script, stream):
    prompt = script({"text": "One"}, {"text": "Two"}, {"asked": True})
    first = ask(client, prompt, instructions="Forget this.", stream=stream)
    first = list(first)[-1].response if stream else first
    second = ask(client, "go on", previous_response_id=first.id)
    assert (second.output_text, second.previous_response_id) == ("Two", first.id)
    third = ask(client, "and on", previous_response_id=second.id, instructions="Be brief.")
    messages = json.loads(third.output_text)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[0]["parts"][0]["text"] == "Be brief."


def test_an_answer_can_be_gone_on_from_in_two_ways(client, script):
    first = ask(client, script({"text": "One"}, {"asked": True}))
    for said in ("left", "right"):
        branch = json.loads(ask(client, said, previous_response_id=first.id).output_text)
        assert [message["parts"][0]["text"] for message in branch["messages"]][1:] == ["One", said]


def test_an_answer_is_shown_as_it_was_given_and_forgotten_when_it_is_deleted(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = ask(client, script(text="Hm", calls=[call]), tools=[WEATHER])
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    client.responses.delete(answer.id)
    for again in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            again(answer.id)
    with pytest.raises(openai.NotFoundError):
        ask(client, "go on", previous_response_id=answer.id)


def test_a_streamed_answer_is_shown_as_it_ended(client, script):
    final = list(ask(client, script(text="Hello there", reasoning="hm"), stream=True))[-1].response
    assert client.responses.retrieve(final.id).to_dict() == final.to_dict()


def test_an_answer_that_is_not_to_be_kept_is_not(client, script):
    answer = ask(client, script(text="Hi"), store=False)
    assert answer.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_an_answer_that_failed_is_not_kept(client, script, served):
    stream = ask(client, script(text="a b c", fail={"code": "upstream_failed", "after": 2}), stream=True)
    events = list(stream)
    assert events[-1].type == "response.failed"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(events[0].response.id)


def test_what_was_said_before_an_answer_is_listed(client, script):
    first = ask(client, script({"text": "One"}, {"text": "Two"}))
    second = ask(client, [{"role": "user", "content": "go on"}], previous_response_id=first.id)
    listed = list(client.responses.input_items.list(second.id, order="asc"))
    assert [(item.type, item.role) for item in listed] == [
        ("message", "user"),
        ("message", "assistant"),
        ("message", "user"),
    ]
    assert listed[2].content[0].text == "go on"
    assert len({item.id for item in listed}) == 3
    latest = client.responses.input_items.list(second.id, limit=1)
    assert (latest.data[0].content[0].text, latest.has_more) == ("go on", True)
    assert len(list(latest)) == 3


def test_items_that_are_kept_are_meant_by_their_ids(client, script):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    first = ask(client, script({"text": "Hm", "calls": [call]}, {"asked": True}), tools=[WEATHER])
    (asked,) = client.responses.input_items.list(first.id)
    items = [
        {"type": "item_reference", "id": asked.id},
        *({"type": "item_reference", "id": item.id} for item in first.output),
        {"type": "function_call_output", "call_id": first.output[1].call_id, "output": "rain"},
    ]
    messages = json.loads(ask(client, items, tools=[WEATHER]).output_text)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["parts"][0]["text"] == "Hm"
    more = [{"id": first.output[0].id}, {"role": "user", "content": "go on"}]
    again = json.loads(ask(client, more, previous_response_id=first.id).output_text)["messages"]
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    with pytest.raises(openai.NotFoundError, match=r"input\[0\]\.id.*msg_nobody"):
        ask(client, [{"type": "item_reference", "id": "msg_nobody"}])


def test_what_this_server_has_not_is_refused(client, script):
    for more in ({"background": True}, {"prompt": {"id": "pmpt_1"}}):
        with pytest.raises(openai.BadRequestError, match=next(iter(more))):
            client.responses.create(model=MODEL, input="Hi", **more)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(ask(client, script(text="Hi")).id)
    with pytest.raises(openai.BadRequestError, match="compact"):
        client.responses.compact(model=MODEL, input="Hi")


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_answer_is_streamed_again_also_from_its_middle(client, script, stream):
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    answer = ask(client, script(text="Hello there", reasoning="hm", calls=[call]), tools=[WEATHER], stream=stream)
    answer = list(answer)[-1].response if stream else answer
    again = list(client.responses.retrieve(answer.id, stream=True))
    assert [event.sequence_number for event in again] == list(range(len(again)))
    assert "".join(event.delta for event in again if event.type == "response.output_text.delta") == "Hello there"
    assert again[-1].response.to_dict() == answer.to_dict()
    with client.responses.stream(response_id=answer.id) as helped:
        assert helped.until_done().get_final_response().output_text == "Hello there"
    rest = client.responses.retrieve(answer.id, stream=True, starting_after=4)
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in again[5:]]
    with pytest.raises(openai.BadRequestError, match="starting_after"):
        client.responses.retrieve(answer.id, stream=True, starting_after=len(again))


def test_input_tokens_are_counted(client, script):
    assert client.responses.input_tokens.count(model=MODEL, input="one two three").input_tokens == 3
    first = ask(client, script(text="One"))
    more = client.responses.input_tokens.count(model=MODEL, input="four", previous_response_id=first.id)
    assert more.input_tokens == len(script(text="One").split()) + 2


# ---- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_is_its_status(client, script, stream):
    with pytest.raises(openai.RateLimitError, match="as the script says"):
        ask(client, script(fail={"code": "rate_limited"}), stream=stream)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody", input="Hi", stream=stream)
    with pytest.raises(openai.BadRequestError, match="input"):
        ask(client, [{"role": "nobody", "content": "Hi"}], stream=stream)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        ask(client, "Hi", temperature=3, stream=stream)
    with pytest.raises(openai.BadRequestError, match=r"metadata\.a"):
        ask(client, "Hi", metadata={"a": 5}, stream=stream)


async def test_the_client_for_asyncio_is_answered(url, script):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        answer = await client.responses.create(model=MODEL, input=script(text="Hello there"))
        assert answer.output_text == "Hello there"
        async with client.responses.stream(model=MODEL, input=script(text="Hello there")) as stream:
            assert (await stream.get_final_response()).output_text == "Hello there"
