"""OpenAI's own client against the front: conversations, which the server keeps item by item."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

MODEL = "default"


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


def ask(client, conversation, prompt, **more):
    return client.responses.create(model=MODEL, conversation=conversation, input=prompt, **more)


def said(items):
    return [(item.role, item.content[0].text) for item in items if item.type == "message"]


def test_a_conversation_is_made_shown_changed_and_forgotten(client):
    made = client.conversations.create(metadata={"topic": "sky"})
    assert made.id.startswith("conv_")
    assert (made.object, made.metadata) == ("conversation", {"topic": "sky"})
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "sea"})
    assert (changed.id, changed.created_at, changed.metadata) == (made.id, made.created_at, {"topic": "sea"})
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for again in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError, match=made.id):
            again(made.id)


def test_items_are_added_listed_shown_and_deleted(client):
    first = {"type": "message", "role": "user", "content": "One"}
    made = client.conversations.create(items=[first, {"role": "assistant", "content": "Two"}])
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    added = client.conversations.items.create(made.id, items=[call, result])
    assert [item.type for item in added.data] == ["function_call", "function_call_output"]
    listed = list(client.conversations.items.list(made.id, order="asc", limit=3))
    assert [item.type for item in listed] == ["message", "message", "function_call", "function_call_output"]
    assert said(listed) == [("user", "One"), ("assistant", "Two")]
    assert len({item.id for item in listed}) == 4
    latest = client.conversations.items.list(made.id, limit=1)
    assert (latest.data[0].id, latest.has_more) == (listed[-1].id, True)
    assert client.conversations.items.retrieve(listed[1].id, conversation_id=made.id) == listed[1]
    assert client.conversations.items.delete(listed[1].id, conversation_id=made.id).id == made.id
    assert [item.id for item in client.conversations.items.list(made.id, order="asc")] == [
        listed[0].id,
        listed[2].id,
        listed[3].id,
    ]
    with pytest.raises(openai.NotFoundError, match=listed[1].id):
        client.conversations.items.retrieve(listed[1].id, conversation_id=made.id)


@pytest.mark.parametrize("stream", [False, True])
def test_answers_belong_to_a_conversation_and_go_on_from_it(client, script, stream):
    prompt = script({"text": "One"}, {"text": "Two"}, {"asked": True})
    made = client.conversations.create(items=[{"role": "developer", "content": "Be brief."}])
    first = ask(client, made.id, prompt, stream=stream)
    first = list(first)[-1].response if stream else first
    assert (first.conversation.id, first.output_text) == (made.id, "One")
    second = ask(client, {"id": made.id}, "go on", store=False)
    assert second.output_text == "Two"
    items = list(client.conversations.items.list(made.id, order="asc"))
    assert said(items) == [
        ("developer", "Be brief."),
        ("user", prompt),
        ("assistant", "One"),
        ("user", "go on"),
        ("assistant", "Two"),
    ]
    assert items[2].id == first.output[0].id
    third = json.loads(ask(client, made.id, "and on").output_text)
    assert [message["role"] for message in third["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
    assert "conversation" not in third.get("extra", {})


def test_an_answer_that_failed_adds_nothing_to_its_conversation(client, script):
    made = client.conversations.create()
    with pytest.raises(openai.RateLimitError):
        ask(client, made.id, script(fail={"code": "rate_limited"}))
    assert list(client.conversations.items.list(made.id)) == []


def test_answers_at_the_same_time_all_find_their_place(client, script):
    made = client.conversations.create()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, client, made.id, script(text=f"Answer {number}")) for number in range(8)]
        texts = {one.result().output_text for one in asked}
    items = list(client.conversations.items.list(made.id, order="asc"))
    assert [item.role for item in items] == ["user", "assistant"] * 8
    assert {item.content[0].text for item in items if item.role == "assistant"} == texts
    assert len(texts) == 8


def test_a_conversation_is_a_session_of_the_kernel(client, script, served):
    made = client.conversations.create()
    ask(client, made.id, script(text="Hello there"))
    shown = client.get(f"{served.url}/byenatos/v1/sessions/{made.id}", cast_to=object)
    assert [turn["message"]["role"] for turn in shown["turns"]] == ["user", "assistant"]
    assert shown["turns"][1]["message"]["parts"][0]["text"] == "Hello there"


def test_what_is_wrong_is_named(client, script):
    made = client.conversations.create()
    first = ask(client, made.id, script(text="One"))
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        ask(client, made.id, "go on", previous_response_id=first.id)
    with pytest.raises(openai.NotFoundError, match="conv_nobody"):
        ask(client, "conv_nobody", "Hi")
    with pytest.raises(openai.NotFoundError, match=first.id):
        client.conversations.retrieve(first.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match=r"items\[0\]\.role"):
        client.conversations.create(items=[{"role": "nobody", "content": "Hi"}])
    with pytest.raises(openai.BadRequestError, match="items: expected at most 20"):
        client.conversations.items.create(made.id, items=[{"role": "user", "content": "Hi"}] * 21)
    with pytest.raises(openai.BadRequestError, match=r"metadata\.a"):
        client.conversations.update(made.id, metadata={"a": "b" * 513})
    with pytest.raises(openai.BadRequestError, match="metadata: expected at most 16"):
        client.conversations.create(metadata={str(number): "b" for number in range(17)})
    with pytest.raises(openai.BadRequestError, match="order"):
        client.conversations.items.list(made.id, order="sideways")


async def test_the_client_for_asyncio_and_azure_s_are_answered(url, script):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        made = await client.conversations.create()
        answer = await client.responses.create(model=MODEL, conversation=made.id, input=script(text="Hello"))
        assert [item.id async for item in client.conversations.items.list(made.id, order="asc")][1] == answer.output[
            0
        ].id
    with openai.AzureOpenAI(azure_endpoint=url, api_version="2025-03-01-preview", api_key="any") as azure:
        assert azure.conversations.retrieve(made.id) == made
        assert azure.responses.create(model=MODEL, input=script(text="Hello there")).output_text == "Hello there"
